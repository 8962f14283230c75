"""One call, from asked to its end: a flow that is carried on as its answers come (docs/adr/0003-socket-protocol.md).

Each call gets one answer, a permit, a denial or a hold; and each permit one end, reported or given up. Nothing here
starts a task for a call: what its flow waits for calls back.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forestall.core.action import ask_for
from forestall.core.ask import NotStarted, Perform
from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.errors import InvalidInput
from forestall.core.fate import Fate
from forestall.core.flow import Known, govern, refuse
from forestall.core.model import NOTHING, Action, Deny, Done, Grant, Hold, Outcome, Permit, Reference, Result, Undone
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.core.refer import bound_digest
from forestall.core.release import released_at_once
from forestall.core.runaway import Watch
from forestall.policy.schema import METHOD_TOOL
from forestall.run import Drive, run
from forestall.server.frames import (
    MESSAGE,
    frame_id,
    permit_frame,
    read_ask,
    read_leaked,
    read_method,
    read_performed,
    read_refused,
    refusal_frame,
)
from forestall.server.leak import Leaks
from forestall.server.notice import ENDED
from forestall.server.pending import Counts, Pending, withheld
from forestall.server.placing import credential_for
from forestall.server.proving import note_bound
from forestall.server.runaway import heed

if TYPE_CHECKING:
    from forestall.server.connection import Connection


class Calls:
    """Of one connection: what was asked on it and has not ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._point = connection.point
        self._parts = connection.point.parts
        self._pending: dict[int, Pending] = {}
        self._by_action: dict[str, Pending] = {}
        self._leaks = Leaks(connection.point)
        self.counts = Counts()

    @property
    def running(self) -> list[str]:
        """Ids of what was asked for and has not ended."""
        return list(self._by_action)

    @property
    def outcomes(self) -> list[asyncio.Future[Result]]:
        """What will be reported of the permits that are out."""
        return [one.outcome for one in self._pending.values() if one.outcome is not None]

    @property
    def watch(self) -> Watch:
        """Of its task, and of no other. Not kept: of many tasks, those that were begun long ago are watched anew."""
        return self._parts.runaways.of(self._grant.task)

    @property
    def _grant(self) -> Grant:
        assert self._connection.grant is not None
        return self._connection.grant

    # -- what an enforcement point sends

    def ask(self, frame: Mapping[str, Any]) -> None:
        """May this tool be called, with these arguments?"""
        asked = read_ask(frame)
        self._decide(asked.id, asked.tool, asked.pin, asked.arguments, asked.refs)

    def method(self, frame: Mapping[str, Any]) -> None:
        """May a message of this method pass, which is not a call?"""
        number, method, direction = read_method(frame)
        declared = METHOD_TOOL.input_schema["properties"]
        arguments = {name: value for name, value in (("method", method), ("direction", direction)) if name in declared}
        self._decide(number, METHOD_TOOL.id, METHOD_TOOL.pin, arguments, is_method=True)

    def refused(self, frame: Mapping[str, Any]) -> None:
        """The enforcement point refused a message for its form: a denial like any other, and recorded."""
        told = read_refused(frame)
        action = self._action(MESSAGE, "", {})
        denial = Deny(action.id, told.reason, detail=told.detail)
        self._refuse_at_once(Pending(told.id, action), denial)

    def cancel(self, frame: Mapping[str, Any]) -> None:
        """Nobody waits for the answer any more."""
        pending = self._pending.get(frame_id(frame))
        if pending is not None:
            pending.cancel()

    def performed(self, frame: Mapping[str, Any]) -> None:
        """How what was permitted ended: its output is released, or withheld."""
        report = read_performed(frame)
        pending = self._by_action.get(report.permit)
        if pending is None or pending.outcome is None or pending.reported is not None:
            sentence = "No permit of this id is waiting for its outcome on this connection."
            if not report.released:
                self._connection.send({"type": "withhold", "id": report.id, "sentence": sentence})
            return
        if report.released and not pending.at_once:
            raise InvalidInput("An output was released that had to wait for the record of its outcome.")
        if report.leaked:
            self._leaks.heed(self._grant, f"the output of {pending.action.tool}")
        if pending.settle(report):
            self._report(pending)

    def leaked(self, frame: Mapping[str, Any]) -> None:
        """A credential came back in what was no answer to a call, and was withheld."""
        self._leaks.heed(self._grant, read_leaked(frame))

    def ended(self) -> None:
        """The connection is gone: what is undecided is cancelled, what runs is ambiguous."""
        for pending in tuple(self._pending.values()):
            self._give_up(pending, "the connection ended")

    # -- from asked to answered

    def _action(
        self, tool: str, pin: str, arguments: dict[str, Any], refs: Mapping[str, Reference] = NOTHING
    ) -> Action:
        self.counts.asked += 1
        random = secrets.token_bytes(32)
        return ask_for(
            tool,
            arguments,
            action_id=random[:16].hex(),
            task=self._grant.task,
            pin=pin,
            salt=random[16:],
            at=self._parts.now(),
            proof=self._connection.peer,
            refs=refs,
        )

    def _decide(
        self,
        number: int,
        tool: str,
        pin: str,
        arguments: dict[str, Any],
        refs: Mapping[str, Reference] = NOTHING,
        *,
        is_method: bool = False,
    ) -> None:
        if number in self._pending:
            raise InvalidInput(f"The id {number} is in use already.")
        action = self._action(tool, pin, arguments, refs)
        pending = Pending(number, action, is_method)
        if len(self._pending) >= self._parts.config.serve.max_asks:
            why = "more calls at once than max_asks under [serve]"
            self._refuse_at_once(pending, Deny(action.id, Reason.UNAVAILABLE, detail=why))
            return
        if tool == METHOD_TOOL.id and not is_method:
            why = "a method is not asked for as a tool"
            self._refuse_at_once(pending, Deny(action.id, Reason.UNKNOWN_TOOL, detail=why))
            return
        known = self.watch.recall(action) or self._without_key(action)
        if known is not None:
            self._refuse_at_once(pending, known)
            return
        self._pending[number] = self._by_action[action.id] = pending
        self._parts.state.asked(action.id, action.task)
        self._point.undecided += 1
        deadline = time.monotonic() + self._limit_s
        drive = Drive(govern(action), self._connection.answers.handlers(), deadline)
        pending.drive = drive
        self._go_on(pending, drive.go)

    @property
    def _limit_s(self) -> float:
        """Seconds that a decision may take."""
        return self._parts.config.serve.decision_timeout_ms / 1000

    def _without_key(self, action: Action) -> Deny | None:
        """A server that demands permits is out of reach of an enforcement point that could not present any."""
        if self._connection.key or self._parts.permits.demanded(action.tool) is None:
            return None
        why = "its server demands permits, and the enforcement point has shown no key to bind them to"
        return Deny(action.id, Reason.UNAVAILABLE, detail=why)

    def _go_on(self, pending: Pending, step: Callable[[], Awaitable[Any] | None]) -> None:
        """Carry its flow on, to where it waits or to its end. A task for each would double what waiting costs."""
        assert pending.drive is not None
        try:
            waiting = step()
            if waiting is pending.outcome and waiting is not None:
                return  # `_report` goes on
            if waiting is not None:
                if pending.timer is None:  # from here on it can be late; most calls never wait
                    pending.timer = self._connection.loop.call_later(self._limit_s, self._late, pending)
                self._connection.wait_for(waiting, lambda done: self._came(pending, done))
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
            self.watch.forget()
        self._by_action.pop(pending.action.id, None)
        self._pending.pop(pending.frame, None)
        self._answer(pending, outcome)

    def _came(self, pending: Pending, done: asyncio.Future[Any]) -> None:
        """What its flow waited for is there, or never will be."""
        drive = pending.drive
        assert drive is not None
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._go_on(pending, (lambda: drive.go(done.result())) if error is None else (lambda: drive.fail(error)))

    def _decided(self, pending: Pending) -> None:
        """What is below waits for it no more; for what is held, the state says how long."""
        self._point.undecided -= 1
        self._parts.state.answered(pending.action.id)

    def _broken(self, pending: Pending, error: Exception) -> Deny:
        """The flow itself raised. What it permitted before that, if anything, is swept as ambiguous."""
        detail = f"a fault of Forestall's own: {type(error).__name__}"
        denial = Deny(pending.action.id, Reason.UNAVAILABLE, detail=detail)
        if pending.outcome is None:
            with suppress(Exception):  # it stands whether or not that can be written
                self._record(denial, pending)
        return denial

    def _late(self, pending: Pending) -> None:
        """Nothing was released in time, so nothing will be: the flow finds itself cancelled before `Perform`."""
        if pending.outcome is None:
            self._deny(pending, Deny(pending.action.id, Reason.DEADLINE))
            pending.cancel()

    def _refuse_at_once(self, pending: Pending, denial: Deny) -> None:
        """Nothing has to be asked to know that it is denied. It is recorded as ever."""
        self._answer(pending, self._record(denial, pending))

    def _record(self, denial: Deny, pending: Pending) -> Outcome:
        flow = refuse(denial, pending.action, Known(self._connection.subject))
        return run(flow, self._connection.answers.handlers())

    # -- the permit, and its end

    def perform(self, ask: Perform) -> Awaitable[Result] | Result:
        """Send the permit, and wait for the report."""
        pending = self._by_action.get(ask.permit.id)
        if self._connection.closed or pending is None or pending.answered:
            raise NotStarted(Reason.CANCELLED)
        if self._connection.stopped is not None:
            raise NotStarted(self._connection.stopped)
        at = self._parts.now()
        if at >= ask.permit.expires_at:
            raise NotStarted(Reason.DEADLINE)
        if pending.is_method:
            return Result(None)
        credential = credential_for(ask.lease, self._parts.rules.catalogue.find(ask.permit.tool))
        token = self._token(ask.permit, ask.action, at)
        adds_nothing = self._parts.state.adds_nothing(ask.permit.id)
        pending.at_once = released_at_once(ask.permit, adds_nothing=adds_nothing)
        frame = permit_frame(pending.frame, ask.permit, at, credential, token, at_once=pending.at_once)
        pending.outcome = outcome = self._connection.loop.create_future()
        note_bound(self._connection.bound, credential, self._parts.lending.proving.lives)
        self._connection.send(frame)
        self._is_out(pending, ask.permit)
        return outcome

    def _is_out(self, pending: Pending, permit: Permit) -> None:
        """What follows from a permit that was sent: nobody at the other end waits for it."""
        if pending.timer is not None:
            pending.timer.cancel()
        self._decided(pending)
        seconds = permit.limits.get(Quantity.SECONDS, MAX_SAFE_INTEGER)
        limit = min(self._parts.config.serve.outcome_timeout_s, seconds)
        pending.timer = self._connection.loop.call_later(limit, self._give_up, pending, "there was no report in time")
        self.counts.permitted += 1
        heed(self._point, self._grant, self.watch.permitted(pending.action))

    def _token(self, permit: Permit, action: Action, at: int) -> str | None:
        """For a server that demands one. Bound to the key of this connection's enforcement point, and to no other."""
        if self._parts.permits.demanded(permit.tool) is None:
            return None
        subject = self._connection.subject
        assert subject is not None
        key, epoch = self._connection.key, self._parts.state.epoch
        used = replace(permit, digest=bound_digest(action.arguments, permit.refs)) if permit.refs else permit
        return self._parts.permits.token(used, subject=subject.id, epoch=epoch, key=key, at=at)

    def _report(self, pending: Pending) -> None:
        """How its permit ended is known."""
        if pending.outcome is not None:
            self._came(pending, pending.outcome)

    def _give_up(self, pending: Pending, why: str) -> None:
        """Nobody will report any more."""
        if pending.give_up(why):
            self._report(pending)

    # -- the answer

    def _answer(self, pending: Pending, outcome: Outcome) -> None:
        match outcome:
            case Deny() | Hold() if pending.outcome is None:
                self._deny(pending, outcome)
            case Done() if pending.is_method:
                self.counts.permitted += 1
                self._connection.send(permit_frame(pending.frame, outcome.permit, self._parts.now()))
            case Done() if pending.reported is not None and self._connection.stopped not in ENDED:
                self._connection.send({"type": "release", "id": pending.reported})
            case Undone() if pending.outcome is None:
                self._deny(pending, Deny(pending.action.id, outcome.reason))
            case _ if pending.reported is not None:
                fate = outcome.fate if isinstance(outcome, Undone) else Fate.AMBIGUOUS
                told = outcome.reason if isinstance(outcome, Undone) else None
                why = (
                    self._connection.stopped.advice.sentence
                    if self._connection.stopped in ENDED
                    else withheld(fate, told)
                )
                frame = {"type": "withhold", "id": pending.reported, "sentence": why}
                if told in {Reason.BUDGET, Reason.LEAKED}:
                    frame["reason"] = told.value
                self._connection.send(frame)
            case _:
                pass  # no frame waits: it was released, the connection is gone, or the permit ran out of time

    def _deny(self, pending: Pending, decision: Deny | Hold) -> None:
        if pending.answered or pending.outcome is not None:
            return
        pending.answered = True
        if isinstance(decision, Hold):
            self.counts.held += 1
        else:
            self.counts.denied += 1
            heed(self._point, self._grant, self.watch.denied(pending.action, decision))
            if decision.reason is Reason.UNAVAILABLE and decision.detail:
                self._point.complain(decision.detail)
            if pending.is_method and decision.reason in {Reason.NO_POLICY, Reason.FORBIDDEN}:
                decision = replace(decision, reason=Reason.UNKNOWN_METHOD)
        self._connection.send(refusal_frame(pending.frame, decision))
