"""Stands between a broker and the backend that runs, and does to what passes whatever a test says."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Self

from tests.unit.adapter.oidc.site import WAIT_S, Asked, Site


@dataclass(frozen=True)
class Passed:
    """What the backend answered, on its way back."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def saying(self, body: object) -> Passed:
        return replace(self, body=json.dumps(body).encode())


Forward = Callable[[], Passed]
Rule = Callable[[Asked, Forward], Passed | None]
"""None hangs up without an answer."""


def honest(_: Asked, forward: Forward) -> Passed | None:
    return forward()


def twice(_: Asked, forward: Forward) -> Passed | None:
    """The request is carried out two times, and the second answer given."""
    forward()
    return forward()


def unheard(_: Asked, forward: Forward) -> Passed | None:
    """It is carried out, and the answer is lost."""
    forward()
    return None


class Tamper:
    """From `with` to its end. `rule` may be changed at any time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.rule: Rule = honest
        self.passed: list[tuple[str, str, bytes]] = []
        self.doubled = False
        """Each answer is written two times on its connection."""
        self._site = Site(self._answer, name=None)

    def __enter__(self) -> Self:
        self._site.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._site.__exit__()

    @property
    def url(self) -> str:
        return self._site.url

    def _answer(self, asked: Asked) -> None:
        passed = self.rule(asked, lambda: self._forward(asked))
        if passed is None:
            return
        for _ in range(2 if self.doubled else 1):
            asked.send_response(passed.status)
            for name, value in passed.headers:
                if name.lower() not in {"content-length", "date", "server", "connection", "transfer-encoding"}:
                    asked.send_header(name, value)
            if passed.status != 204:
                asked.send_header("Content-Length", str(len(passed.body)))
            asked.end_headers()
            asked.wfile.write(passed.body)

    def _forward(self, asked: Asked) -> Passed:
        self.passed.append((asked.command, asked.path, asked.body))
        kept = {name: value for name, value in asked.headers.items() if name.lower() != "connection"}
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)) as connection:
            connection.request(asked.command, asked.path, body=asked.body or None, headers=kept)
            answer = connection.getresponse()
            return Passed(answer.status, tuple(answer.getheaders()), answer.read())


class Held:
    """A rule: what it answers waits until `release`. `reached` once the backend has carried it out."""

    def __init__(self) -> None:
        self.reached, self._go = threading.Event(), threading.Event()

    def __call__(self, _: Asked, forward: Forward) -> Passed | None:
        passed = forward()
        self.reached.set()
        assert self._go.wait(WAIT_S)
        return passed

    def release(self) -> None:
        """Once it is reached: whoever asked may have given up before."""
        try:
            assert self.reached.wait(WAIT_S)
        finally:
            self._go.set()
