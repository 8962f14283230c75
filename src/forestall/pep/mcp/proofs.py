"""Proofs for requests that carry a bound credential (RFC 9449), of the decision point, which has the key.

They are asked for in the threads that make the requests, and come on the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from forestall import frame as frames

WITHIN_S = 10.0
"""Seconds for one: it is signed at once, or not at all."""


class NoProof(Exception):
    """The request cannot be made: nothing was sent."""


class Proofs:
    """Made on the loop. `send` says whether there is a decision point to send to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[bytes], bool]) -> None:
        self._loop, self._send = loop, send
        self._waiting: dict[int, Future[str]] = {}
        self._asked = 0

    def make(self, credential: str, method: str, url: str, nonce: str | None) -> str:
        """In a thread of its own, which waits. Raises NoProof."""
        future: Future[str] = Future()
        asked = {"type": "prove", "credential": credential, "method": method, "url": url}
        frame = asked if nonce is None else {**asked, "nonce": nonce}
        try:
            self._loop.call_soon_threadsafe(self._ask, future, frame)
            return future.result(WITHIN_S)
        except (RuntimeError, TimeoutError):  # the loop was closed, or nobody answers
            raise NoProof from None

    def answered(self, frame: Mapping[str, Any]) -> None:
        """A frame `proof` came. Without one in it, the credential is over."""
        number = frame.get("id")
        future = self._waiting.pop(number, None) if type(number) is int else None
        if future is None:
            return
        proof = frame.get("proof")
        if isinstance(proof, str) and proof.isascii() and proof.isprintable():
            future.set_result(proof)
        else:
            future.set_exception(NoProof())

    def lost(self) -> None:
        """The decision point is gone, and the keys with it."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(NoProof())

    def _ask(self, future: Future[str], frame: Mapping[str, Any]) -> None:
        """Under numbers below zero: those of the relay's own questions are above."""
        self._asked -= 1
        self._waiting[self._asked] = future
        if not self._send(frames.encode({**frame, "id": self._asked})):
            del self._waiting[self._asked]
            future.set_exception(NoProof())
