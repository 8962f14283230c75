"""A remote server, for as long as its tools are listed: lines in and out, each wait bounded, the session ended.

It is the gateway's own client of Streamable HTTP, on a loop in a thread of its own, so that what can be listed is what
a gateway can speak to.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from forestall.core.errors import SetupError, Unavailable
from forestall.core.place import Placed, Where
from forestall.pep.mcp.lent import Lent

if TYPE_CHECKING:
    from forestall.pep.mcp.remote import Remote

END_WITHIN_S = 5.0
"""Seconds for the session's end to be told, and for what is open to be shut."""

MOST_WAITING = 64
"""Messages that nobody has read yet, beyond which the server is read no further."""

LEAST_HIDDEN = 4
"""Characters of a header's value, or of a word in it, that is kept out of what is said."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a client's configuration says of reaching a server."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def without_secrets(self, text: str) -> str:
        """What is said of it, without what its headers hold."""
        values = [part for value in self.headers.values() for part in (value, *value.split())]
        for value in sorted(values, key=len, reverse=True):
            text = text.replace(value, "***") if len(value) >= LEAST_HIDDEN else text
        return text


class Unanswered(Exception):
    """There will be no answer to the request of this number, or no more than there was. `str()` says why."""

    def __init__(self, number: object, why: str) -> None:
        super().__init__(why)
        self.number = number


class Far:
    """A context. Nothing is sent before the first line.

    Raises:
        Unavailable: the address, or a header, cannot be used.
    """

    def __init__(self, address: Address) -> None:
        from forestall.pep.mcp.remote import Url, require_headers  # HTTP is not light

        try:
            self._url = Url.parse(address.url)
            headers = require_headers(tuple(address.headers.items()))
        except SetupError as error:
            raise Unavailable(f"it cannot be asked: {error}") from None
        if not all(value.isascii() and value.isprintable() for _, value in headers):
            raise Unavailable("it cannot be asked: a header of its entry has a value that no header can have")
        self._headers = Lent(tuple(Placed(Where.HEADER, name, value) for name, value in headers))
        self._heard: SimpleQueue[bytes | Unanswered] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._remote = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def write(self, line: bytes) -> None:
        self._loop.call_soon_threadsafe(self._remote.send, line)

    def read(self, deadline: float) -> bytes | None:
        """The next line; None where the deadline, in `time.monotonic` seconds, came first.

        Raises:
            Unanswered: a request has no answer, or the one that was read.
        """
        try:
            heard = self._heard.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            return None
        self._remote.pause(self._heard.qsize() > MOST_WAITING)
        if isinstance(heard, Unanswered):
            raise heard
        return heard

    async def _open(self) -> Remote:
        from forestall.pep.mcp.remote import Remote

        remote = Remote(
            self._url,
            self._headers,
            prove=_no_proof,
            on_line=self._take,
            on_done=lambda number, why: self._heard.put(Unanswered(number, _as_clause(why))),
            on_room=lambda: None,
            on_end=lambda: None,
        )
        remote.pause(False)
        return remote

    def _take(self, line: bytes) -> None:
        self._heard.put(line)
        self._remote.pause(self._heard.qsize() > MOST_WAITING)

    async def _end(self) -> None:
        self._remote.signal(signal.SIGKILL)
        async with asyncio.timeout(END_WITHIN_S):
            await self._remote.exited


def _no_proof(*_: Any) -> str:
    """A header of a client's configuration is bound to no key that we have."""
    raise AssertionError


def _as_clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
