"""A connection whose peer, disk and timers are moved by hand: every state is reached, and none by chance."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from unittest import mock

from forestall.adapter.ledger import commit
from forestall.core.entry import Entry, Kind
from forestall.core.errors import Unavailable
from forestall.frame import HEAD, PROTOCOL, decode, length
from forestall.home import Home
from forestall.port import Position
from forestall.run import Unstoppable
from forestall.server.connection import Connection
from forestall.server.pending import Pending
from forestall.server.point import Point
from forestall.wire import build
from tests.points import SERVER, pin

TURNS = 6
"""Of the loop: more than anything here needs to come to rest."""

HELLO = {"type": "hello", "protocol": PROTOCOL, "kind": "gateway", "server": SERVER, "directory": "/tmp"}


class Outward(asyncio.Transport):
    """What the connection sends, as frames."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._near, self._far = socket.socketpair()
        self._buffer = b""
        self._lost = False
        self.frames: list[dict[str, Any]] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._near if name == "socket" else default

    def write(self, data: Any) -> None:
        self._buffer += bytes(data)
        while len(self._buffer) >= HEAD and len(self._buffer) >= (end := HEAD + length(self._buffer[:HEAD])):
            self.frames.append(decode(self._buffer[HEAD:end]))
            self._buffer = self._buffer[end:]

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        if not self._lost:
            self._lost = True
            self._near.close()
            self._far.close()
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    def abort(self) -> None:
        self.close()


class Timers:
    """The connection's loop, on which no time passes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer:
        assert delay > 0
        return Timer(callback, args)


class Timer:
    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._callback, self._args = callback, args
        self._over = False

    def cancel(self) -> None:
        self._over = True

    def fire(self) -> None:
        """It is due, unless it was cancelled."""
        if not self._over:
            self._over = True
            self._callback(*self._args)


class Disk:
    """The real ledger. While `holds`, it answers durable entries when it is told to, and how."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.holds = False
        self.waiting: list[tuple[Entry, Callable[[Position], None] | None, Unstoppable[Position]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def append_at_once(self, entry: Entry) -> Position | None:
        return None if self.holds else self.real.append_at_once(entry)

    def append_async(self, entry: Entry, then: Callable[[Position], None] | None = None) -> Awaitable[Position]:
        future: Unstoppable[Position] = Unstoppable(loop=asyncio.get_running_loop())
        self.waiting.append((entry, then, future))
        if not self.holds:
            self.answer(0)
        return future

    def answer(self, number: int, *, fails: bool = False) -> None:
        entry, then, future = self.waiting.pop(number)
        if fails:
            future.set_exception(Unavailable("The disk is full; make room."))
            return
        position = self.real.append(entry)
        if then is not None:
            then(position)
        future.set_result(position)


class Hand:
    """One decision point and its connections."""

    def __init__(self, home: Home, kind: type[Connection] = Connection) -> None:
        self.home, self._kind = home, kind
        self.parts = build(home)
        self.parts.attestor = None  # which looks in threads, whenever they come to it
        self.disk = Disk(self.parts.ledger)
        self.parts.ledger = self.disk  # type: ignore[assignment]
        self.point = Point(self.parts)
        self.connections: list[Connection] = []
        self.faults: list[Mapping[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.faults.append(context))

    async def connect(self) -> Connection:
        connection = await self.greet()
        assert self.sent(connection)[-1]["type"] == "welcome"
        return connection

    async def greet(self) -> Connection:
        """One that has said who it is, and may have no answer yet."""
        connection = self._kind(self.point)
        connection.loop = Timers(asyncio.get_running_loop())  # type: ignore[assignment]
        connection.connection_made(Outward(connection))
        await self.rest()
        connection.handle({**HELLO, "nonce": self.sent(connection).pop()["nonce"]})
        await self.rest()
        self.connections.append(connection)
        return connection

    @staticmethod
    def sent(connection: Connection) -> list[dict[str, Any]]:
        transport = connection._transport
        assert isinstance(transport, Outward)
        return transport.frames

    async def rest(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def ask(self, connection: Connection, number: int, tool: str = "write_file", **arguments: str) -> Pending:
        """The request while it is decided or runs; it may be neither any more when this returns."""
        given = arguments or ({"to": "bob"} if tool == "send" else {"path": f"{number}", "content": ""})
        known: list[Pending] = []
        pending = connection.calls._pending

        class Seen(dict[int, Pending]):
            def __setitem__(self, key: int, value: Pending) -> None:
                known.append(value)
                super().__setitem__(key, value)

        connection.calls._pending = Seen(pending)
        frame = {"type": "ask", "id": number, "tool": f"{SERVER}/{tool}", "pin": pin(tool), "arguments": given}
        connection.handle(frame)
        await self.rest()
        return known[0]

    async def report(self, connection: Connection, number: int, permit: str, fate: str = "done") -> dict[str, Any]:
        connection.handle({"type": "performed", "id": number, "permit": permit, "fate": fate})
        await self.rest()
        return self.sent(connection)[-1]

    async def lose(self, connection: Connection) -> None:
        connection.abort()
        await self.rest()

    async def end(self) -> None:
        """Everything that waits is answered, and every connection is lost."""
        self.disk.holds = False
        try:
            while self.disk.waiting:
                self.disk.answer(0)
                await self.rest()
            for connection in self.connections:
                await self.lose(connection)
            assert all(connection.finished.is_set() for connection in self.connections)
        finally:
            self.parts.close()

    def undecided(self) -> int:
        """Counted anew: what is pending and has no permit out."""
        return sum(one.outcome is None for each in self.connections for one in each.calls._pending.values())

    def recorded(self, kind: Kind) -> list[str]:
        from tests.points import entries

        return [entry["id"] for entry in entries(self.home) if entry["kind"] == kind]


def write_file(number: int) -> dict[str, Any]:
    """The frame that asks for it."""
    arguments = {"path": str(number), "content": ""}
    return {
        "type": "ask",
        "id": number,
        "tool": f"{SERVER}/write_file",
        "pin": pin("write_file"),
        "arguments": arguments,
    }


def fire(pending: Pending) -> None:
    timer: Any = pending.timer
    assert isinstance(timer, Timer)
    timer.fire()


def play(home: Home, scenario: Callable[[Hand], Awaitable[None]], kind: type[Connection] = Connection) -> None:
    """On a disk that counts as quick, however slow the machine is just now."""

    async def whole() -> None:
        hand = Hand(home, kind)
        try:
            await scenario(hand)
        finally:
            await hand.end()
        assert hand.faults == []
        assert hand.point.undecided == 0

    with mock.patch.object(commit, "QUICK_S", 1000.0):
        asyncio.run(whole())
