"""ASGI middleware: no request reaches the application without a permit, unless it needs none.

    app = DemandPermits(app, McpHttp(Demand(verifier, "files")))
    app = DemandPermits(app, PlainHttp(verifier, "orders", ["POST /orders", "GET /orders/{id}"]))

Pure ASGI 3, on asyncio. The body is kept until it was verified; what the application answers is not touched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from forestall_edge.gate import MAX_BODY, Gate, Incoming, Passed
from forestall_edge.refusal import Reason, Refused

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("forestall_edge")


class Gone(Exception):
    """The client left before its request was whole."""


class DemandPermits:
    def __init__(self, app: Application, gate: Gate, *, max_body: int = MAX_BODY) -> None:
        """`max_body`: bytes of a request that are kept; more is a 413."""
        self._app, self._gate, self._max_body = app, gate, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._app(scope, receive, send)
            case "http":
                await self._request(scope, receive, send)
            case "websocket":  # nothing on it could be told apart
                await send({"type": "websocket.close", "code": 1008})
            case kind:
                raise ValueError(f"A scope of type {kind!r} is not known here.")

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = await self._whole(scope, receive)
        except Gone:
            return
        except Refused as refused:
            _log.warning("refused: %s", refused)
            await _answer(send, 413 if refused.reason is Reason.TOO_LARGE else 400, b"{}")
            return
        try:
            passed = await asyncio.to_thread(self._gate.check, request)
        except Refused as refused:
            _log.warning("refused: %s", refused)
            await _answer(send, 403, self._gate.answer(request))
            return
        await self._app(_scope(scope, passed), _replay(passed.body, receive), send)

    async def _whole(self, scope: Scope, receive: Receive) -> Incoming:
        """Raises Gone; Refused: too_large, bad_arguments."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Gone
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise Refused(Reason.TOO_LARGE)
            if not message.get("more_body", False):
                break
        raw = scope.get("raw_path")
        if not isinstance(raw, bytes):
            raise Refused(Reason.BAD_ARGUMENTS, "the server does not tell the path as it was sent")
        headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
        try:
            path, query = raw.decode("ascii").partition("?")[0], scope["query_string"].decode("ascii")
        except UnicodeDecodeError:
            raise Refused(Reason.BAD_ARGUMENTS, "a path that is not ASCII") from None
        return Incoming(scope["method"], path, query, headers, bytes(body))


def _scope(scope: Scope, passed: Passed) -> Scope:
    """With the length of what goes on."""
    headers = [(name, value) for name, value in passed.headers if name not in {b"content-length", b"transfer-encoding"}]
    if passed.body:
        headers.append((b"content-length", str(len(passed.body)).encode()))
    return {**scope, "headers": headers}


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once, whole; then what the server says, which is that the client left."""
    told = False

    async def replayed() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
