"""Frames over one accepted socket: whole ones in, one at a time; bounded ones out. Knows nothing of what they say."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from forestall.core.ask import CannotDo
from forestall.core.errors import ForestallError, InvalidInput
from forestall.frame import CHUNK, HEAD, decode, encode, length

MAX_HELLO = 128 * 1024
"""Bytes that a peer may send in one frame before it is known who it is."""

MAX_UNREAD = 8 * 1024 * 1024
"""Bytes of answers that a peer may leave unread before its connection ends."""

LARGE = 256 * 1024
"""Bytes of a frame that is parsed beside the loop, so that others do not wait for it."""


class Channel(asyncio.BufferedProtocol):
    """Whatever a peer does wrong ends its channel, and no other."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = bytearray(CHUNK)
        self._buffer = bytearray()
        self._busy = 0
        """Frames that are being handled beside the loop; those after them wait."""
        self.closed = False
        """From then on nothing is sent."""
        self.spoke = False
        """Was something sent since it was last looked at?"""
        self._known = False
        """Has the peer said who it is?"""
        self._tasks: set[asyncio.Future[Any]] = set()

    # -- what a subclass does

    @abstractmethod
    def handle(self, frame: dict[str, Any]) -> None:
        """A frame has come. Raises ForestallError where it ends the channel."""

    @abstractmethod
    def ended(self) -> None:
        """From here on nothing is sent. Called once."""

    # -- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        del sizehint
        return self._incoming

    def buffer_updated(self, nbytes: int) -> None:
        self._buffer += memoryview(self._incoming)[:nbytes]
        if not self._busy:
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._end()

    # -- in

    def _read(self) -> None:
        """Every whole frame that has come."""
        try:
            while not self._busy and not self.closed and (body := self._next()) is not None:
                if len(body) > LARGE:
                    self.beside(self._decode_large(body))
                else:
                    self.handle(decode(body))
        except ForestallError as error:
            self.refuse(str(error))

    def _next(self) -> bytes | None:
        if len(self._buffer) < HEAD:
            return None
        size = length(self._buffer[:HEAD])
        if not self._known and size > MAX_HELLO:
            raise InvalidInput(f"A hello is at most {MAX_HELLO} bytes.")
        if len(self._buffer) < HEAD + size:
            return None
        body = bytes(self._buffer[HEAD : HEAD + size])
        del self._buffer[: HEAD + size]
        return body

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this, and read the next frame only after it."""
        self._busy += 1
        assert self._transport is not None
        self._transport.pause_reading()
        self.start(self._then_read(work))

    async def _then_read(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ForestallError as error:
            self.refuse(str(error))
        except CannotDo as error:
            self.refuse(f"The connection cannot be served now: {error.detail or error.reason.value}.")
        except Exception as error:  # noqa: BLE001 - a fault of our own: nobody may be left waiting for it
            self.refuse(f"The connection ended because of a fault of Forestall's own ({type(error).__name__}).")
        self._busy -= 1
        if not self._busy and not self.closed and self._transport is not None:
            self._transport.resume_reading()
            self._read()

    async def _decode_large(self, body: bytes) -> None:
        frame = await asyncio.to_thread(decode, body)
        if not self.closed:
            self.handle(frame)

    @property
    def unread(self) -> bool:
        """Did more come than was handled?"""
        return bool(self._buffer)

    # -- out, and the end

    def send(self, frame: dict[str, Any]) -> None:
        if self.closed or self._transport is None:
            return
        self.spoke = True
        self._transport.write(encode(frame))
        if self._transport.get_write_buffer_size() > MAX_UNREAD:
            self._transport.abort()

    def refuse(self, sentence: str, *, setup: bool = False) -> None:
        """Say why, and end. `setup`: what is wrong is for the owner of the home to write."""
        self.send({"type": "refused", "sentence": sentence, **({"setup": True} if setup else {})})
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._end()

    def abort(self) -> None:
        """As `close`, with what was not yet read by the peer thrown away."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            self.ended()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it as long as the channel or longer; `settled` waits for it."""
        task: asyncio.Task[Any] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def wait_for(self, awaited: Awaitable[Any], then: Callable[[asyncio.Future[Any]], None]) -> None:
        """Call `then` once it is done; `settled` waits for it."""
        future = asyncio.ensure_future(awaited)
        self._tasks.add(future)
        future.add_done_callback(then)
        future.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Until nothing that was started runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)
