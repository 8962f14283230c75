"""One enforcement point's connection: one task, and what was permitted in it (docs/adr/0003-socket-protocol.md).

The connection is the holder. Nothing that was released on it is good on another; when it ends, what is undecided is
denied, what was permitted and not reported is settled as ambiguous, and its task is closed. One that came with a grant
acts in a task that was opened elsewhere, as others may beside it, and leaves it open.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forestall.adapter.identity import Peer, asserted, peer_of
from forestall.core.ask import CannotDo
from forestall.core.entry import quarantined
from forestall.core.errors import ForestallError, InvalidInput
from forestall.core.model import Grant, Subject
from forestall.core.reason import Reason
from forestall.core.task import close_task
from forestall.run import run_async
from forestall.server.answers import Answers
from forestall.server.channel import Channel
from forestall.server.command import COMMANDS
from forestall.server.deciding import Calls
from forestall.server.equipping import equip_server
from forestall.server.frames import Hello, Peering, read_bind, read_confirmed, read_hello, read_tools
from forestall.server.greeting import FULL, Greeting
from forestall.server.judge import Quarantine, Verdict, judge
from forestall.server.notice import ENDED, Notice
from forestall.server.proving import prove
from forestall.wire import record

if TYPE_CHECKING:
    from forestall.server.point import Point


class Connection(Channel):
    """What a gateway or a command may ask, and what is owed to it."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self.point = point
        self._parts = point.parts
        self._greeting: Greeting | None = None
        """From when it is seen which user it runs as."""
        self._notices: list[Notice] = []
        self.peer = Peer(-1, -1)
        self.hello: Hello | None = None
        self.subject: Subject | None = None
        self.grant: Grant | None = None
        self.stopped: Reason | None = None
        """Why its task gets no permit, once it was told."""
        self.lineage: tuple[str, ...] | None = None
        """Where it acts in a task of elsewhere: the instances of which it may know what they have seen."""
        self.quarantine = Quarantine()
        self.nonce = ""
        """Of its challenge."""
        self.key = ""
        """Thumbprint of the key that it presents permits with; empty until it has shown one."""
        self.bound: dict[str, None] = {}
        """Names of credentials that it was lent and that want a proof for each request."""
        self.calls: Calls = Calls(self)
        self.answers = Answers(self, self.calls.perform)
        self.finished = asyncio.Event()
        """Everything is settled and the task is closed."""

    @property
    def quarantined(self) -> list[str]:
        """Ids of tools that changed after their review, as this connection saw them."""
        return sorted(self.quarantine.tools)

    @property
    def running(self) -> list[str]:
        """Ids of what was asked for and has not ended."""
        return self.calls.running

    # -- its life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connected: socket.socket = transport.get_extra_info("socket")
        try:
            self.peer = peer_of(connected)
        except OSError:
            self.abort()
            return
        if not self.point.admit(self):
            self.refuse(FULL)
            return
        self._greeting = Greeting(self, connected)
        self.beside(self._greeting.look())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.point.track(self._finish())

    def ended(self) -> None:
        """What is undecided is cancelled, what runs is ambiguous."""
        if self._greeting is not None:
            self._greeting.cancel()
        self.calls.ended()
        for notice in self._notices:
            notice.settle(confirmed=False)

    async def settled(self) -> None:
        """As of a channel, and until no permit is out."""
        while running := {*self._tasks, *self.calls.outcomes}:
            await asyncio.wait(running)

    async def _finish(self) -> None:
        await self.settled()
        state = self._parts.state
        if self.grant is not None and self.lineage is None and state.find_grant(self.grant.task) is not None:
            with suppress(CannotDo):  # left open, it is closed at the next start
                flow = close_task(self.grant.task, "disconnected", self._parts.now())
                await run_async(flow, self.answers.handlers())
        self.point.dismiss(self)
        self.finished.set()

    def handle(self, frame: dict[str, Any]) -> None:
        if self.hello is None:
            assert self._greeting is not None
            self.beside(self._greeting.greet(read_hello(frame)))
            return
        kind = frame["type"]
        table = COMMANDS if self.hello.kind is Peering.CLI else self._REQUESTS
        handle = table.get(kind)
        if handle is None:
            raise InvalidInput(f"A connection of kind {self.hello.kind} does not send {kind!r:.40}.")
        handle(self, frame)

    def introduce(self, hello: Hello) -> None:
        """It has said who it is: what it sends from now on are requests, and may be long."""
        self._known, self.hello = True, hello

    # -- its task, ended or suspended by somebody else

    @property
    def over(self) -> bool:
        """Nothing more is released on it, and nobody has to be told."""
        return self.closed or self.stopped in ENDED

    def stop(self, reason: Reason, epoch: int) -> None:
        """No permit from now on; nor any output, if the task is over. Whoever is at the other end has to confirm it."""
        self.stopped = reason
        self._notices = [*self.unanswered, Notice(self.loop, reason, epoch, self.abort)]
        self.send({"type": "revoked", "reason": reason.value, "epoch": epoch})

    def resume(self) -> None:
        """It was suspended, if anything, and is no more. Nobody has to be told: it asks, and is answered."""
        self.stopped = None

    @property
    def unanswered(self) -> list[Notice]:
        """What it was told and has not confirmed."""
        return [notice for notice in self._notices if not notice.confirmed.done()]

    def _confirmed(self, frame: Mapping[str, Any]) -> None:
        epoch = read_confirmed(frame)
        for notice in self._notices:
            notice.confirm(epoch)

    # -- an enforcement point's requests

    def _bind(self, frame: Mapping[str, Any]) -> None:
        """The key that it will present permits with. One that it cannot show to have ends the connection."""
        from forestall.server.binding import require_key

        if self.key:
            raise InvalidInput("The permits of this connection are bound to a key already.")
        self.key = require_key(read_bind(frame), self.nonce, self._parts.now())

    def _client(self, frame: Mapping[str, Any]) -> None:
        assert self.subject is not None
        name = asserted(frame.get("client"))
        self.peer, self.subject = replace(self.peer, asserted_name=name), replace(self.subject, asserted_name=name)

    def _tools(self, frame: Mapping[str, Any]) -> None:
        """A list may be long: it is judged beside the loop, and before any later call."""
        number, tools = read_tools(frame)
        self.beside(self._judge(number, tools))

    async def _judge(self, number: int, tools: list[Any]) -> None:
        assert self.hello is not None
        rules, server = self._parts.rules, self.hello.server
        verdicts = await asyncio.to_thread(judge, tools, server, rules.catalogue, rules.engine)
        for verdict in verdicts:
            if verdict.change is not None and self.quarantine.add(f"{server}/{verdict.name}", verdict.reviewed):
                self._record_quarantine(f"{server}/{verdict.name}", verdict)
        self.send({"type": "tools", "id": number, "tools": [verdict.frame() for verdict in verdicts]})

    def _record_quarantine(self, tool: str, verdict: Verdict) -> None:
        assert self.grant is not None
        assert verdict.change is not None
        entry = quarantined(
            secrets.token_hex(16),
            self.grant.task,
            tool,
            seen=verdict.pin,
            reviewed=verdict.reviewed,
            change=verdict.change,
            at=self._parts.now(),
        )
        with suppress(ForestallError):  # it is quarantined whether or not that can be written
            record(self._parts, entry)

    _REQUESTS: Mapping[str, Callable[[Connection, Mapping[str, Any]], None]] = {
        "client": _client,
        "tools": _tools,
        "ask": lambda self, frame: self.calls.ask(frame),
        "method": lambda self, frame: self.calls.method(frame),
        "performed": lambda self, frame: self.calls.performed(frame),
        "refused": lambda self, frame: self.calls.refused(frame),
        "equip": equip_server,
        "prove": prove,
        "leaked": lambda self, frame: self.calls.leaked(frame),
        "cancel": lambda self, frame: self.calls.cancel(frame),
        "confirmed": _confirmed,
        "bind": _bind,
    }
