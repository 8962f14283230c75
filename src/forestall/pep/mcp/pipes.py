"""Lines over file descriptors that never block: split, bounded, and written as far as the other side takes them."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

CHUNK = 64 * 1024
"""Bytes read at a time: what a pipe holds. A larger buffer is mapped, and unmapped, by the C library for every read."""

ENDS = 512
"""Bytes kept of each end of a line that is too long."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line beyond the limit: its beginning and its end."""

    ends: bytes


class Lines:
    """Splits a stream at line feeds, and at nothing else. Holds at most one line of `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = bytearray()
        self._head: bytes | None = None
        """Of the line that is thrown away, while one is."""

    def feed(self, chunk: bytes) -> Iterator[bytes | TooLong]:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._take(chunk[start:end])
            yield self._whole()
            start = end + 1
        self._take(chunk[start:])

    @property
    def unfinished(self) -> bool:
        """Something came that is not a line yet."""
        return bool(self._line)

    def _take(self, part: bytes) -> None:
        self._line += part
        if self._head is None and len(self._line) > self._limit:
            self._head = bytes(self._line[:ENDS])
        if self._head is not None:
            del self._line[:-ENDS]

    def _whole(self) -> bytes | TooLong:
        line, head = bytes(self._line), self._head
        self._line.clear()
        self._head = None
        return line if head is None else TooLong(head + line)


class Source:
    """Reads a descriptor as bytes come, while it is not paused. `on_end` is called once."""

    def __init__(self, fd: int, on_bytes: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._on_bytes = on_bytes
        self._on_end = on_end
        self.paused = True
        """Nothing is read, because nothing may be, or because there is nothing any more."""
        self._ended = False
        os.set_blocking(fd, False)

    def pause(self, paused: bool) -> None:
        if paused == self.paused or self._ended:
            return
        self.paused = paused
        if paused:
            self._loop.remove_reader(self._fd)
            return
        try:
            self._loop.add_reader(self._fd, self._readable)
        except PermissionError:  # a regular file: always readable, and not to be waited for
            self._loop.call_soon(self._read_file)

    def end(self) -> None:
        """Read no more."""
        self.pause(True)
        self._ended = True
        os.set_blocking(self._fd, True)

    def read_rest(self) -> None:
        """What is there already, and then no more."""
        with suppress(BlockingIOError, InterruptedError, OSError):
            while not self._ended and (chunk := os.read(self._fd, CHUNK)):
                self._on_bytes(chunk)
        if not self._ended:
            self.end()

    def _readable(self) -> None:
        try:
            chunk = os.read(self._fd, CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if chunk:
            self._on_bytes(chunk)
        elif not self._ended:
            self.end()
            self._on_end()

    def _read_file(self) -> None:
        if not self.paused and not self._ended:
            self._readable()
            self._loop.call_soon(self._read_file)


class Sink:
    """Writes to a descriptor what it takes, and keeps the rest until it takes more."""

    def __init__(self, fd: int, on_room: Callable[[], None], on_broken: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._on_room = on_room
        self._on_broken = on_broken
        self._queue: deque[memoryview] = deque()
        self._closing = False
        self.waiting = 0
        """Bytes kept."""
        self.broken = False
        """The other side reads no more, or this side has closed."""
        self.written = 0
        """Bytes given to it since the start."""
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        if self.broken or self._closing:
            return
        self.written += len(data)
        self._queue.append(memoryview(data))
        self.waiting += len(data)
        if len(self._queue) == 1:
            self._flush()
            if self._queue:
                self._loop.add_writer(self._fd, self._writable)

    def send(self, line: bytes, headers: tuple[tuple[str, str], ...] = (), bound: str = "") -> None:
        """A message. A pipe has no headers: what needs one was not permitted here."""
        assert not headers
        assert not bound
        self.write(line + b"\n")

    def discard(self) -> None:
        """Throw away what the other side did not take. A line that it took a part of ends here."""
        if not self._queue:
            return
        broken_off = len(self._queue[0]) < memoryview(self._queue[0].obj).nbytes
        self._queue.clear()
        self.waiting = 0
        self._loop.remove_writer(self._fd)
        if broken_off:
            self.write(b"\n")

    def close(self) -> None:
        """Close the descriptor once everything is written."""
        self._closing = True
        if not self._queue:
            self._shut()

    def _writable(self) -> None:
        self._flush()
        if self._queue:
            return
        self._loop.remove_writer(self._fd)
        if self._closing:
            self._shut()
        self._on_room()

    def _flush(self) -> None:
        try:
            while self._queue:
                size = os.write(self._fd, self._queue[0])
                self.waiting -= size
                if size == len(self._queue[0]):
                    self._queue.popleft()
                else:
                    self._queue[0] = self._queue[0][size:]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._queue.clear()
            self.waiting = 0
            self.broken = True
            self._loop.call_soon(self._on_broken)

    def _shut(self) -> None:
        if not self.broken:
            self.broken = True
            with suppress(OSError):
                os.set_blocking(self._fd, True)
                os.close(self._fd)
