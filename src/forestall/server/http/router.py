"""From a request to its answer: the route for it, a time for it, and nothing to be learnt from what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from forestall.server.http.message import Request, Response, Routes

STRAYS = 256
"""Routes that went past their time and did not end when they were told to. With so many nothing more is begun."""


class Router:
    def __init__(self, routes: Routes, *, timeout_s: float, complain: Callable[[str], None]) -> None:
        """`complain` takes a sentence for the operator."""
        self._routes, self._timeout_s, self._complain = routes, timeout_s, complain
        self._methods: dict[str, list[str]] = {}
        for method, path in routes:
            self._methods.setdefault(path, []).append(method)
        self.strays: set[asyncio.Task[Response]] = set()

    async def answer(self, request: Request) -> Response:
        """Never raises, unless it is cancelled itself."""
        methods = self._methods.get(request.path)
        if methods is None:
            return bare(HTTPStatus.NOT_FOUND)
        allowed = sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())})
        if request.method == "OPTIONS":
            return Response(HTTPStatus.NO_CONTENT, {"Allow": ", ".join(allowed)})
        if request.method not in allowed:
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": ", ".join(allowed)})
        if len(self.strays) >= STRAYS:
            return bare(HTTPStatus.SERVICE_UNAVAILABLE)
        return await self._within_time(request, "GET" if request.method == "HEAD" else request.method)

    async def _within_time(self, request: Request, method: str) -> Response:
        """A route that does not heed its cancellation keeps nobody waiting."""
        task = asyncio.ensure_future(self._call(request, method))
        try:
            await asyncio.wait({task}, timeout=self._timeout_s)
        finally:
            if not task.done():
                task.cancel()
                self.strays.add(task)
                task.add_done_callback(self._forget)
        where = f"{method} {request.path}"
        if not task.done():
            self._complain(f"A request was given up after {self._timeout_s:g} s: {where}")
            return bare(HTTPStatus.SERVICE_UNAVAILABLE)
        return self._outcome(task, where)

    async def _call(self, request: Request, method: str) -> Response:
        """Within the task, so that what is wrong with a route is wrong there."""
        response = await self._routes[method, request.path](request)
        if not isinstance(response, Response):
            raise TypeError("a route answers with a response")
        return response

    def _outcome(self, task: asyncio.Task[Response], where: str) -> Response:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            return task.result()
        # its message may hold what a client sent
        self._complain(f"A fault of Forestall's own, {type(error).__name__}, in {where}")
        return bare(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _forget(self, task: asyncio.Task[Response]) -> None:
        self.strays.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has gone; nobody else has to hear of it


def bare(status: HTTPStatus) -> Response:
    """The status, and not a word."""
    return Response(status)
