"""What a server says on standard error, passed on line by line; a line that holds a credential is not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from forestall.core.scrub import Scrubber
from forestall.pep.mcp.pipes import Lines, Sink, Source, TooLong

MAX_LINE = 256 * 1024
"""Bytes. A longer line is left out: it cannot be searched while it comes."""

MAX_WAITING = 256 * 1024
"""Bytes that wait for a slow reader before the server has to."""

WITHHELD = b"forestall: a line of the server's was withheld; it held a credential\n"
TOO_LONG = b"forestall: a line of the server's was left out; it was too long\n"


class Log:
    def __init__(self, source: int, scrubber: Callable[[], Scrubber], on_leak: Callable[[], None]) -> None:
        """Takes the descriptor. `scrubber`: what must not pass, as it is when a line comes."""
        self._lines = Lines(MAX_LINE)
        self._scrubber, self._on_leak = scrubber, on_leak
        self._room = asyncio.Event()
        self._sink = Sink(_own(2), self._balance, lambda: None)
        self._source = Source(source, self._bytes, self._ended)
        self._source.pause(False)

    def _bytes(self, chunk: bytes) -> None:
        for line in self._lines.feed(chunk):
            self._line(line)
        self._balance()

    def _line(self, line: bytes | TooLong) -> None:
        if isinstance(line, TooLong):
            self._sink.write(TOO_LONG)
        elif self._scrubber().finds(line):
            self._sink.write(WITHHELD)
            self._on_leak()
        else:
            self._sink.write(line + b"\n")

    async def drain(self, seconds: float) -> None:
        """The server is gone: what it said last, as far as somebody takes it in time."""
        self._source.read_rest()
        self._ended()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._written(), seconds)

    async def _written(self) -> None:
        while self._sink.waiting:
            self._room.clear()
            await self._room.wait()

    def _ended(self) -> None:
        if self._lines.unfinished:
            self._bytes(b"\n")

    def _balance(self) -> None:
        self._room.set()
        self._source.pause(self._sink.waiting > MAX_WAITING)


def _own(descriptor: int) -> int:
    """The same file, opened once more where that goes: that it does not block is then ours alone."""
    try:
        return os.open(f"/dev/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
    except OSError:
        return os.dup(descriptor)
