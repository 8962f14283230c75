"""One enforcement point's connection: one task, and what was permitted in it (docs/adr/0003-socket-protocol.md).

The connection is the holder. Nothing that was released on it is good on another; when it ends, what is undecided is
denied, what was permitted and not reported is settled as ambiguous, and its task is closed. One that came with a grant
acts in a task that was opened elsewhere, as others may beside it, and leaves it open.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from forestall import __version__
from forestall.adapter.attest.value import Attested
from forestall.adapter.identity import Peer, asserted, peer_of
from forestall.core.action import ask_for
from forestall.core.ask import CannotDo, FindTool, Gather, NotStarted, Perform, Record, Verify
from forestall.core.control import FORESTALL, Command, Order, Reach, Target
from forestall.core.entry import quarantined
from forestall.core.errors import ForestallError, InvalidInput
from forestall.core.flow import Known, govern, refuse
from forestall.core.label import Label
from forestall.core.model import Action, Deny, Done, Facts, Fate, Grant, Hold, Outcome, Result, Subject, Tool, Undone
from forestall.core.reason import Reason
from forestall.core.runaway import Watch
from forestall.core.task import close_task, open_task, told
from forestall.frame import PROTOCOL
from forestall.policy.schema import METHOD_TOOL
from forestall.run import Drive, run, run_async
from forestall.server.channel import Channel
from forestall.server.command import COMMANDS
from forestall.server.door import LOOK_WITHIN_S, joined, known_of, peer_with, seen_by
from forestall.server.frames import (
    MESSAGE,
    Hello,
    Peering,
    challenge_frame,
    frame_id,
    permit_frame,
    read_ask,
    read_confirmed,
    read_hello,
    read_method,
    read_performed,
    read_refused,
    read_tools,
    refusal_frame,
)
from forestall.server.judge import Quarantine, Verdict, judge
from forestall.server.notice import Notice
from forestall.server.pending import Counts, Pending, withheld
from forestall.wire import Handler, Parts, Rules, find_tool, gather, handlers, order, record

if TYPE_CHECKING:
    from forestall.server.point import Point


@dataclass(slots=True)
class _Table:
    """The handlers under one set of rules."""

    rules: Rules
    handlers: Mapping[type, Handler] = field(repr=False)


FULL = "The decision point has as many connections as it may; see max_connections under [serve]."

ENDED = frozenset({Reason.REVOKED, Reason.TASK_ENDED})
"""Why a task is over, and not only suspended."""


class Connection(Channel):
    """What a gateway or a command may ask, and what is owed to it."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self.point = point
        self._parts: Parts = point.parts
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[int, Pending] = {}
        self._by_action: dict[str, Pending] = {}
        self._quarantine = Quarantine()
        self._table: _Table | None = None
        self._socket: socket.socket | None = None
        self._nonce = ""
        self._seen: Attested | None = None
        self._lineage: tuple[str, ...] | None = None
        """Where it acts in a task of elsewhere: the instances of which it may know what they have seen."""
        self.peer = Peer(-1, -1)
        self.hello: Hello | None = None
        self.subject: Subject | None = None
        self.grant: Grant | None = None
        self.stopped: Reason | None = None
        """Why its task gets no permit, once it was told."""
        self._notices: list[Notice] = []
        self.counts = Counts()
        self.finished = asyncio.Event()
        """Everything is settled and the task is closed."""

    @property
    def quarantined(self) -> list[str]:
        """Ids of tools that changed after their review, as this connection saw them."""
        return sorted(self._quarantine.tools)

    @property
    def _watch(self) -> Watch:
        """Of its task, and of no other. Not kept: of many tasks, those that were begun long ago are watched anew."""
        assert self.grant is not None
        return self._parts.runaways.of(self.grant.task)

    # -- its life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        try:
            self.peer = peer_of(self._socket)
        except OSError:
            self.abort()
            return
        if not self.point.admit(self):
            self.refuse(FULL)
            return
        self.beside(self._look())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.point.track(self._finish())

    def ended(self) -> None:
        """What is undecided is cancelled, what runs is ambiguous."""
        if self._timer is not None:
            self._timer.cancel()
        for pending in tuple(self._pending.values()):
            self._give_up(pending, "the connection ended")
        for notice in self._notices:
            notice.settle(confirmed=False)

    async def _finish(self) -> None:
        await self.settled()
        state = self._parts.state
        if self.grant is not None and self._lineage is None and state.find_grant(self.grant.task) is not None:
            with suppress(CannotDo):  # left open, it is closed at the next start
                flow = close_task(self.grant.task, "disconnected", self._parts.now())
                await run_async(flow, self._handlers())
        self.point.dismiss(self)
        self.finished.set()

    def handle(self, frame: dict[str, Any]) -> None:
        if self.hello is None:
            self.beside(self._greet(read_hello(frame)))
            return
        kind = frame["type"]
        table = COMMANDS if self.hello.kind is Peering.CLI else self._REQUESTS
        handle = table.get(kind)
        if handle is None:
            raise InvalidInput(f"A connection of kind {self.hello.kind} does not send {kind!r:.40}.")
        handle(self, frame)

    # -- the handshake

    def _within(self, seconds: float, otherwise: str) -> None:
        """From now on this long for the next step of the handshake."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.refuse, otherwise)

    async def _look(self) -> None:
        """Who connected, before a word is said; then ask for what only an answer after that can hold."""
        assert self._socket is not None
        self._within(LOOK_WITHIN_S, "It took too long to see who connects.")
        try:
            self._parts.identity.verify(self.peer)
            self._seen = await self.point.door.look(self._socket)
        except CannotDo as error:
            self._turn_away(error)
            return
        self._within(self._parts.config.serve.handshake_timeout_ms / 1000, "There was no hello in time.")
        self._nonce = secrets.token_urlsafe(24)
        self.send(challenge_frame(self._nonce))

    async def _greet(self, hello: Hello) -> None:
        if not hmac.compare_digest(hello.nonce.encode("utf-8", "surrogatepass"), self._nonce.encode()):
            raise InvalidInput("The hello does not answer the challenge of this connection.")
        if self.point.crowded and hello.kind is not Peering.CLI:
            raise InvalidInput(FULL)
        assert self._socket is not None
        self._within(LOOK_WITHIN_S, "It took too long to see who connects.")
        self._known, self.hello = True, replace(hello, grant="", proof="")
        itself = hello.kind is Peering.AGENT
        try:
            workload = await self.point.door.look_again(self._socket, self._seen, itself=itself)
            named = replace(self.peer, server=hello.server, asserted_name=asserted(hello.client))
            self.peer = peer_with(named, workload)
            self.subject = self._parts.identity.verify(self.peer)
            if hello.grant:
                self._lineage = () if workload is None else workload.lineage
                await self._enter(hello)
            elif hello.kind is not Peering.CLI:
                await self._open(hello, known_of(workload, self._parts.state, again=hello.again))
        except CannotDo as error:
            self._turn_away(error)
            return
        if not self._ended:
            self._welcome()
            self.point.orders.look(self)

    def _turn_away(self, error: CannotDo) -> None:
        self.refuse(f"This connection is refused: {error.detail or error.reason.value}.")

    async def _open(self, hello: Hello, known: Label) -> None:
        """Open its task. `known`: what it may have seen before."""
        assert self.subject is not None
        name = hello.mandate or "default"
        mandate = self._parts.rules.mandates.get(name)
        if mandate is None:
            self.refuse(f"There is no mandate `{name}`; write {self._parts.home.mandates / name}.toml.")
            return
        if self._ended:
            return
        task, salt = secrets.token_hex(16), secrets.token_bytes(16)
        flow = open_task(mandate, task, self.subject, self._parts.now(), known, salt=salt)
        try:
            self.grant = await run_async(flow, self._handlers())
        except CannotDo as error:
            self.refuse(self._not_opened(error, task))

    def _not_opened(self, error: CannotDo, task: str) -> str:
        if error.reason is Reason.UNAVAILABLE:
            return f"The connection cannot be served now: {error.detail or error.reason.value}."
        return f"The task {task} is not opened ({error.reason}): {told(error)}"

    async def _enter(self, hello: Hello) -> None:
        """Act in a task that was opened elsewhere."""
        assert self.subject is not None
        from forestall.server.oauth.accept import accept_grant

        parts, at = self._parts, self._parts.now()
        try:
            grant, holder = await asyncio.to_thread(accept_grant, parts, hello.grant, hello.proof, self._nonce, at)
        except CannotDo as error:  # what is wrong with it is not for whoever sent it
            self.point.say_once(f"A grant at the socket is refused ({error.reason.value}): {error.detail}")
            raise CannotDo(error.reason) from None
        self.grant, self.subject = grant, joined(holder, self.subject)

    def _welcome(self) -> None:
        assert self.subject is not None
        if self._timer is not None:
            self._timer.cancel()
        self.send(
            {
                "type": "welcome",
                "protocol": PROTOCOL,
                "task": self.grant.task if self.grant is not None else "",
                "subject": self.subject.id,
                "assurance": self.subject.assurance.value,
                "policy_digest": self._parts.rules.engine.digest,
                "version": __version__,
                "heartbeat_ms": self._parts.config.serve.heartbeat_ms,
            }
        )

    # -- its task, ended or suspended by somebody else

    @property
    def over(self) -> bool:
        """Nothing more is released on it, and nobody has to be told."""
        return self._ended or self.stopped in ENDED

    def stop(self, reason: Reason, epoch: int) -> None:
        """No permit from now on; nor any output, if the task is over. Whoever is at the other end has to confirm it."""
        self.stopped = reason
        self._notices = [*self.unanswered, Notice(self._loop, reason, epoch, self.abort)]
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
            if verdict.change is not None and self._quarantine.add(f"{server}/{verdict.name}", verdict.reviewed):
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

    def _ask(self, frame: Mapping[str, Any]) -> None:
        asked = read_ask(frame)
        self._decide(asked.id, asked.tool, asked.pin, asked.arguments)

    def _method(self, frame: Mapping[str, Any]) -> None:
        number, method, direction = read_method(frame)
        declared = METHOD_TOOL.input_schema["properties"]
        arguments = {name: value for name, value in (("method", method), ("direction", direction)) if name in declared}
        self._decide(number, METHOD_TOOL.id, METHOD_TOOL.pin, arguments, is_method=True)

    def _decide(self, number: int, tool: str, pin: str, arguments: dict[str, Any], *, is_method: bool = False) -> None:
        if number in self._pending:
            raise InvalidInput(f"The id {number} is in use already.")
        action = self._action(tool, pin, arguments)
        pending = Pending(number, action, is_method)
        if len(self._pending) >= self._parts.config.serve.max_asks:
            why = "more calls at once than max_asks under [serve]"
            self._refuse_at_once(pending, Deny(action.id, Reason.UNAVAILABLE, detail=why))
            return
        if tool == METHOD_TOOL.id and not is_method:
            why = "a method is not asked for as a tool"
            self._refuse_at_once(pending, Deny(action.id, Reason.UNKNOWN_TOOL, detail=why))
            return
        known = self._watch.recall(action)
        if known is not None:
            self._refuse_at_once(pending, known)
            return
        self._pending[number] = self._by_action[action.id] = pending
        self._parts.state.asked(action.id, action.task)
        self.point.undecided += 1
        self.point.count_in()
        limit = self._parts.config.serve.decision_timeout_ms / 1000
        pending.timer = self._loop.call_later(limit, self._late, pending)
        drive = Drive(govern(action), self._handlers(), time.monotonic() + limit)
        pending.drive = drive
        self._go_on(pending, drive.go)

    def _action(self, tool: str, pin: str, arguments: dict[str, Any]) -> Action:
        assert self.grant is not None
        self.counts.asked += 1
        return ask_for(
            tool,
            arguments,
            action_id=secrets.token_hex(16),
            task=self.grant.task,
            pin=pin,
            salt=secrets.token_bytes(16),
            at=self._parts.now(),
            proof=self.peer,
        )

    def _refused(self, frame: Mapping[str, Any]) -> None:
        """The enforcement point refused a message for its form: a denial like any other, and recorded."""
        told = read_refused(frame)
        action = self._action(MESSAGE, "", {})
        denial = Deny(action.id, told.reason, detail=told.detail)
        self._refuse_at_once(Pending(told.id, action), denial)

    def _go_on(self, pending: Pending, step: Callable[[], Awaitable[Any] | None]) -> None:
        """Carry its flow on, to where it waits or to its end. A task for each would double what waiting costs."""
        assert pending.drive is not None
        try:
            waiting = step()
            if waiting is pending.outcome and waiting is not None:
                return  # `_report` goes on
            if waiting is not None:
                self.wait_for(waiting, lambda done: self._came(pending, done))
                return
            outcome: Outcome = pending.drive.outcome()
        except asyncio.CancelledError:
            outcome = Deny(pending.action.id, Reason.CANCELLED)
        except Exception as error:  # noqa: BLE001 - a fault of our own: nobody may be left waiting for it
            outcome = self._broken(pending, error)
        if pending.timer is not None:
            pending.timer.cancel()
        if pending.outcome is None:
            self._decided(pending)
        else:
            self._watch.forget()
        self._by_action.pop(pending.action.id, None)
        self._pending.pop(pending.frame, None)
        self._answer(pending, outcome)

    def _decided(self, pending: Pending) -> None:
        """What is below waits for it no more; for what is held, the state says how long."""
        self.point.undecided -= 1
        self._parts.state.answered(pending.action.id)

    async def settled(self) -> None:
        """As of a channel, and until no permit is out."""
        while running := {*self._tasks, *(one.outcome for one in self._pending.values() if one.outcome is not None)}:
            await asyncio.wait(running)

    def _came(self, pending: Pending, done: asyncio.Future[Any]) -> None:
        """What its flow waited for is there, or never will be."""
        drive = pending.drive
        assert drive is not None
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._go_on(pending, (lambda: drive.go(done.result())) if error is None else (lambda: drive.fail(error)))

    def _broken(self, pending: Pending, error: Exception) -> Deny:
        """The flow itself raised. What it permitted before that, if anything, is swept as ambiguous."""
        detail = f"a fault of Forestall's own: {type(error).__name__}"
        denial = Deny(pending.action.id, Reason.UNAVAILABLE, detail=detail)
        if pending.outcome is None:
            with suppress(Exception):  # it stands whether or not that can be written
                run(refuse(denial, pending.action, Known(self.subject)), self._handlers())
        return denial

    def _refuse_at_once(self, pending: Pending, denial: Deny) -> None:
        """Nothing has to be asked to know that it is denied. It is recorded as ever."""
        self._answer(pending, run(refuse(denial, pending.action, Known(self.subject)), self._handlers()))

    def _answer(self, pending: Pending, outcome: Outcome) -> None:
        match outcome:
            case Deny() | Hold() if pending.outcome is None:
                self._deny(pending, outcome)
            case Done() if pending.is_method:
                self.counts.permitted += 1
                self.send(permit_frame(pending.frame, outcome.permit, self._parts.now()))
            case Done() if self.stopped not in ENDED:
                self.send({"type": "release", "id": pending.reported})
            case Undone() if pending.outcome is None:
                self._deny(pending, Deny(pending.action.id, outcome.reason))
            case _ if pending.reported is not None:
                fate = outcome.fate if isinstance(outcome, Undone) else Fate.AMBIGUOUS
                why = self.stopped.advice.sentence if self.stopped in ENDED else withheld(fate)
                self.send({"type": "withhold", "id": pending.reported, "sentence": why})
            case _:
                pass  # the connection is gone, or the permit ran out of time: there is no frame to answer

    def _deny(self, pending: Pending, decision: Deny | Hold) -> None:
        if pending.answered or pending.outcome is not None:
            return
        pending.answered = True
        if isinstance(decision, Hold):
            self.counts.held += 1
        else:
            self.counts.denied += 1
            self._heed(self._watch.denied(pending.action, decision))
            if decision.reason is Reason.UNAVAILABLE and decision.detail:
                self.point.complain(decision.detail)
            if pending.is_method and decision.reason in {Reason.NO_POLICY, Reason.FORBIDDEN}:
                decision = replace(decision, reason=Reason.UNKNOWN_METHOD)
        self.send(refusal_frame(pending.frame, decision))

    def _heed(self, trouble: str) -> None:
        """The task has got out of hand: it is suspended, and nothing is decided in it until a person resumes it."""
        if trouble:
            assert self.grant is not None
            target = Target(Reach.TASK, self.grant.task, tenant=self.grant.tenant)
            self.point.track(self._suspend(Command(Order.SUSPEND, target, trouble, FORESTALL)))

    async def _suspend(self, command: Command) -> None:
        try:
            await order(self._parts, command)
        except ForestallError as error:
            self.point.complain(f"a task was to be suspended ({command.why}), and that is not recorded: {error}")

    def _late(self, pending: Pending) -> None:
        """Nothing was released in time, so nothing will be: the flow finds itself cancelled before `Perform`."""
        if pending.outcome is None:
            self._deny(pending, Deny(pending.action.id, Reason.DEADLINE))
            pending.cancel()

    def _cancel(self, frame: Mapping[str, Any]) -> None:
        pending = self._pending.get(frame_id(frame))
        if pending is not None:
            pending.cancel()

    def _performed(self, frame: Mapping[str, Any]) -> None:
        report = read_performed(frame)
        pending = self._by_action.get(report.permit)
        if pending is None or pending.outcome is None or pending.reported is not None:
            sentence = "No permit of this id is waiting for its outcome on this connection."
            self.send({"type": "withhold", "id": report.id, "sentence": sentence})
            return
        if pending.settle(report):
            self._report(pending)

    def _report(self, pending: Pending) -> None:
        """How its permit ended is known."""
        if pending.outcome is not None:
            self._came(pending, pending.outcome)

    def _give_up(self, pending: Pending, why: str) -> None:
        """Nobody will report any more."""
        if pending.give_up(why):
            self._report(pending)

    # -- what the flow asks of this connection

    def _handlers(self) -> Mapping[type, Handler]:
        rules = self._parts.rules
        if self._table is None or self._table.rules is not rules:
            assert self.hello is not None
            own: dict[type, Handler] = {
                Verify: self._verify,
                FindTool: lambda ask: self._find_tool(rules, ask.tool),
                Record: lambda ask: record(self._parts, ask.entry, alone=self._alone),
                Perform: self._perform,
            }
            if self._lineage is not None:
                own[Gather] = self._gather
            self._table = _Table(rules, {**handlers(self._parts, directory=self.hello.directory), **own})
        return self._table.handlers

    @property
    def _alone(self) -> bool:
        """Is one call being decided, on all connections, the first of this turn, and nothing more there on this one?"""
        return self.point.undecided == 1 and self.point.this_turn == 1 and not self.unread

    def _verify(self, ask: Verify) -> Subject:
        """Its own peer was verified when it was welcomed."""
        if ask.proof is self.peer and self.subject is not None:
            return self.subject
        return self._parts.identity.verify(ask.proof)

    def _gather(self, ask: Gather) -> Facts:
        """As everywhere, and what this instance brings into the task from its others."""
        assert self.hello is not None
        assert self._lineage is not None
        return gather(self._parts, ask, self.hello.directory, seen_by(self._lineage, self._parts.state))

    def _find_tool(self, rules: Rules, name: str) -> Tool | None:
        assert self.hello is not None
        tool = find_tool(rules, name)
        if tool is None or tool is METHOD_TOOL:
            return tool
        if tool.server != self.hello.server:
            raise CannotDo(Reason.UNKNOWN_TOOL, f"this connection guards the server {self.hello.server}")
        if self._quarantine.holds(tool):
            raise CannotDo(Reason.TOOL_CHANGED, "quarantined on this connection")
        if tool.id in rules.catalogue.duplicates():
            raise CannotDo(Reason.DUPLICATE_TOOL)
        return tool

    def _perform(self, ask: Perform) -> Awaitable[Result] | Result:
        """Send the permit, and wait for the report."""
        pending = self._by_action.get(ask.permit.id)
        if self._ended or pending is None or pending.answered:
            raise NotStarted(Reason.CANCELLED)
        if self.stopped is not None:
            raise NotStarted(self.stopped)
        at = self._parts.now()
        if at >= ask.permit.expires_at:
            raise NotStarted(Reason.DEADLINE)
        if pending.is_method:
            return Result(None)
        if pending.timer is not None:
            pending.timer.cancel()
        pending.outcome = outcome = self._loop.create_future()
        self._decided(pending)
        limit = self._parts.config.serve.outcome_timeout_s
        pending.timer = self._loop.call_later(limit, self._give_up, pending, "there was no report in time")
        self.counts.permitted += 1
        self._heed(self._watch.permitted(pending.action))
        self.send(permit_frame(pending.frame, ask.permit, at))
        return outcome

    _REQUESTS: Mapping[str, Callable[[Connection, Mapping[str, Any]], None]] = {
        "client": _client,
        "tools": _tools,
        "ask": _ask,
        "method": _method,
        "performed": _performed,
        "refused": _refused,
        "cancel": _cancel,
        "confirmed": _confirmed,
    }

    @property
    def running(self) -> list[str]:
        """Ids of the permits that are out."""
        return list(self._by_action)
