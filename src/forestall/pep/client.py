"""A connection to the decision point: frames over its Unix socket (docs/adr/0003-socket-protocol.md).

Thin, and light: this is in every gateway. It checks the form of what comes, never its meaning. A connection that
breaks, or that says what is not a frame, is lost; whoever holds it denies.
"""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from forestall import frame as frames
from forestall.core.errors import ForestallError, InvalidInput, SetupError, Unavailable, cure
from forestall.pep.trusted import require_believed

CONNECT_WITHIN_S = 10.0
"""Seconds for the decision point to welcome a connection. It reads its keys and the end of its log first."""

ENDINGS = 2
"""Decision points that may end while one connects to them, before that is the answer."""

OnFrame = Callable[[dict[str, Any]], None]
OnLost = Callable[[], None]
Prove = Callable[[str], Mapping[str, Any]]


class Connection(asyncio.BufferedProtocol):
    """Frames in, frames out. `on_frame` and `on_lost` are called by the event loop, and may be set anew at any time."""

    def __init__(self, on_frame: OnFrame, on_lost: OnLost) -> None:
        self.on_frame = on_frame
        self.on_lost = on_lost
        self.welcome: Mapping[str, Any] = {}
        self.nonce = ""
        """Of the challenge that it answered."""
        self._transport: asyncio.Transport | None = None
        self._incoming = bytearray(frames.CHUNK)
        self._buffer = bytearray()
        self._arrivals = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if (connected := transport.get_extra_info("socket")) is not None:
            self._arrivals.register(connected, select.POLLIN)

    def get_buffer(self, sizehint: int) -> bytearray:
        del sizehint
        return self._incoming

    def buffer_updated(self, nbytes: int) -> None:
        self._buffer += memoryview(self._incoming)[:nbytes]
        came: list[dict[str, Any]] = []
        try:
            while (message := self._next()) is not None:
                came.append(message)
        except InvalidInput:
            self.close()
        if len(came) > 1:  # what takes authority away counts before what was given by it
            came.sort(key=_gives)
        for message in came:
            self.on_frame(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason changes nothing
        self._transport = None
        self.on_lost()

    def send(self, frame: bytes) -> None:
        """An encoded frame. On a lost connection it goes nowhere: `on_lost` was called."""
        if self._transport is not None:
            self._transport.write(frame)

    @property
    def unsent(self) -> int:
        """Bytes that the decision point has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def behind(self) -> bool:
        """Has the decision point said something, or ended, that was not read yet? True of a lost connection."""
        if self._transport is None or self._transport.is_closing() or self._buffer:
            return True
        return bool(self._arrivals.poll(0))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> dict[str, Any] | None:
        """The next whole frame, if there is one.

        Raises:
            InvalidInput: what came is not a frame.
        """
        if len(self._buffer) < frames.HEAD:
            return None
        end = frames.HEAD + frames.length(bytes(self._buffer[: frames.HEAD]))
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[frames.HEAD : end])
        del self._buffer[:end]
        return frames.decode(body)


def _gives(frame: Mapping[str, Any]) -> bool:
    return bool(frame["type"] != "revoked")


async def connect(
    socket: Path, hello: Mapping[str, Any], start: Callable[[], None] | None = None, prove: Prove | None = None
) -> Connection:
    """A connection that the decision point has welcomed; its answer is in `welcome`.

    Args:
        socket: where it listens.
        hello: what is said first, `type`, `protocol` and `nonce` aside.
        start: starts it, if it is not there; blocks, so it runs aside. None: it has to be there.
        prove: of the challenge's nonce, what the hello says besides. None: nothing.

    Raises:
        Unavailable: it is not there, does not answer in time, or refuses.
        SetupError: it refuses because of what its home lacks.
        ForestallError: what `start` raises.
    """
    for _ in range(0 if start is None else ENDINGS):
        with suppress(OSError, _Ended):
            return await _greet(socket, hello, prove)
        await _aside(cast("Callable[[], None]", start))
    try:
        return await _greet(socket, hello, prove)
    except OSError as error:
        if start is None:
            raise Unavailable(f"No decision point listens at {socket}; start it with: forestall serve.") from error
        raise Unavailable(f"The decision point at {socket} cannot be reached: {cure(error)}.") from error


class _Ended(Unavailable):
    """The connection was lost before there was an answer: whoever listened there is ending, or was killed just now."""


async def _greet(socket: Path, hello: Mapping[str, Any], prove: Prove | None) -> Connection:
    """Raises OSError where nobody listens, and as `connect`."""
    connection, answers = await _open(socket)
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            nonce = _require(await answers.get(), "challenge").get("nonce")
            connection.nonce = str(nonce)
            answering = {"type": "hello", "protocol": frames.PROTOCOL, "nonce": nonce, **hello}
            connection.send(frames.encode({**answering, **(prove(str(nonce)) if prove is not None else {})}))
            connection.welcome = _require(await answers.get(), "welcome")
    except TimeoutError:
        connection.close()
        raise Unavailable(f"The decision point at {socket} did not answer in {CONNECT_WITHIN_S:.0f} s.") from None
    except ForestallError:
        connection.close()
        raise
    return connection


async def _aside(blocking: Callable[[], None]) -> None:
    """In a daemon thread, which does not hold the process up when it wants to end meanwhile."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def work() -> None:
        error: BaseException | None = None
        try:
            blocking()
        except BaseException as raised:  # noqa: BLE001 - raised again where it is awaited
            error = raised
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=work, daemon=True).start()
    await done


async def _open(socket: Path) -> tuple[Connection, asyncio.Queue[dict[str, Any] | None]]:
    """A connection, and its frames to come; None once it is lost. Raises as `require_believed` does."""
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def arrived(frame: dict[str, Any] | None = None) -> None:
        answers.put_nowait(frame)

    transport, connection = await loop.create_unix_connection(lambda: Connection(arrived, arrived), str(socket))
    try:
        require_believed(transport.get_extra_info("socket"), socket)
    except BaseException:
        transport.abort()
        raise
    return connection, answers


def _require(answer: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """The answer, where it is of this kind, and of our protocol."""
    if answer is None:
        raise _Ended("The decision point ended the connection before it answered.")
    if answer["type"] == kind and answer.get("protocol") == frames.PROTOCOL:
        return answer
    sentence = answer.get("sentence")
    if not sentence:
        raise Unavailable("The decision point speaks another protocol.")
    fault = SetupError if answer.get("setup") is True else Unavailable
    raise fault(f"The decision point refused: {sentence}")
