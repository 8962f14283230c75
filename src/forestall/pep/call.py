"""One call of a Python tool: decided, then carried out, then settled.

The three are apart because a call may last: between `begin` and `settle` there may be one function call, or a stream
that is read for an hour. Whoever holds a `Call` that began has to settle it; one that is dropped is settled as
ambiguous.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from inspect import isawaitable
from typing import Any

from forestall.core.ask import CannotDo, FindGrant, Gather, NotStarted
from forestall.core.canonical import canonical, digest
from forestall.core.errors import ForestallError, InvalidInput, OutcomeUnknown, Refused
from forestall.core.fate import Fate
from forestall.core.flow import govern
from forestall.core.label import Label
from forestall.core.measure import exceeds, rows
from forestall.core.model import NOTHING, Action, Deny, Done, Facts, Hold, Lease, Outcome, Result, Undone
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.pep.credential import Credential, lent
from forestall.pep.halves import Halves
from forestall.pep.point import DecisionPoint
from forestall.pep.signature import Signature
from forestall.pep.sought import Sought
from forestall.pep.spoken import spoken
from forestall.run import Handlers, run, run_async

INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)
"""Not failures of the function: it was stopped, and what it did until then is not known."""


class Call:
    """One call, from its action to its settlement.

    `streaming`: the labels of what streams of the same task have begun to let out. Their permits carry the labels, and
    until they are settled this is where the next decision finds them.
    `sought`: what functions of the same task were lent, to be found in what comes out of this one.
    `objection`: what the guard itself found against the call; it is then denied and recorded, whatever policy says.
    """

    def __init__(
        self,
        point: DecisionPoint,
        signature: Signature,
        receiver: tuple[Any, ...],
        action: Action,
        streaming: dict[str, Label],
        sought: Sought,
        objection: CannotDo | None = None,
    ) -> None:
        self.point = point
        self.action = action
        self._signature = signature
        self._receiver = receiver
        self._streaming = streaming
        self._sought = sought
        self._objection = objection
        self._credential: Credential | None = None
        self._lent: str | None = None
        """Its name, where it is over with the call."""
        self._leaked = False
        self._halves = Halves(govern(action))

    def begin(self) -> Callable[[], Any]:
        """Decide it. With a recorded permit: the function, bound to the arguments that were permitted and no others.

        Raises:
            Refused: denied or held. Nothing was done.
        """
        self.point.require_here()
        try:
            outcome = run(self._halves.first(), self._handlers(self.point.handlers), deadline=self._deadline())
        except BaseException:
            if self._halves.waiting:
                self.settle(NotStarted(Reason.CANCELLED))
            raise
        if outcome is not None:
            raise self._refusal(outcome)
        try:
            return self._bound()
        except NotStarted as error:
            not_started = error
        raise self._refusal(self.settle(not_started))

    async def begin_async(self) -> Callable[[], Any]:
        """As `begin`. Where it is cancelled, nothing is done and the cancellation goes on."""
        self.point.require_here()
        handlers = self._handlers(self.point.handlers_async)
        try:
            outcome = await run_async(self._halves.first(), handlers, deadline=self._deadline())
        except BaseException:
            if self._halves.waiting:
                await self.settle_async(NotStarted(Reason.CANCELLED))
            raise
        if outcome is not None:
            raise self._refusal(outcome)
        try:
            return self._bound()
        except NotStarted as error:
            not_started = error
        raise self._refusal(await self.settle_async(not_started))

    def finish(self, value: object, output: Output | None = None) -> Any:
        """It returned `value`, which may be let out once that is recorded. `output`: what was let out of it before.

        Raises:
            OutcomeUnknown: it could not be recorded: the output is withheld.
            Refused: it is more than one call may have, or a credential came back in it, and it is withheld.
        """
        return self._released(self.settle(self._result(value, output)))

    async def finish_async(self, value: object, output: Output | None = None) -> Any:
        """As `finish`."""
        return self._released(await self.settle_async(self._result(value, output)))

    def fail(self, error: BaseException) -> ForestallError | None:
        """It raised `error`, which the caller raises on; or else what is answered, to be raised where `error` is not
        being handled any more, so that it does not go along.
        """
        return self._instead(error, self.settle(self._ending(error)))

    async def fail_async(self, error: BaseException) -> ForestallError | None:
        """As `fail`."""
        return self._instead(error, await self.settle_async(self._ending(error)))

    def _instead(self, error: BaseException, outcome: Outcome) -> ForestallError | None:
        return None if isinstance(error, INTERRUPTS) or isinstance(outcome, Done) else self._refusal(outcome)

    def let_out(self) -> None:
        """From here on parts of the output are seen, and the task's next decision has to know of them."""
        waiting = self._halves.waiting
        assert waiting is not None
        self._streaming[self.action.id] = waiting.permit.output

    def settle(self, answer: Result | CannotDo) -> Outcome:
        self.point.require_here()
        self._forget()
        try:
            return self._settled(run(self._halves.second(answer), self.point.handlers))
        finally:
            self._tell_leak()

    async def settle_async(self, answer: Result | CannotDo) -> Outcome:
        """Carried to its end even where it is cancelled meanwhile."""
        self.point.require_here()
        self._forget()
        try:
            return self._settled(await run_async(self._halves.second(answer), self.point.handlers_async))
        finally:
            self._tell_leak()

    def _settled(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Done):
            self._streaming.pop(self.action.id, None)
        return outcome

    def _bound(self) -> Callable[[], Any]:
        perform = self._halves.waiting
        assert perform is not None
        if digest(dict(perform.action.arguments)) != perform.permit.digest:
            raise NotStarted(Reason.INVALID_ARGUMENTS, "the arguments are not those that were permitted")
        if self.point.now() >= perform.permit.expires_at:
            raise NotStarted(Reason.DEADLINE, "the permit expired")
        self._borrow(perform.lease)
        try:
            args, kwargs = self._signature.unbind(perform.action.arguments, self._credential)
        except Exception as error:
            raise NotStarted(Reason.INVALID_ARGUMENTS, f"a codec raised {type(error).__name__}") from error
        return partial(self._signature.function, *self._receiver, *args, **kwargs)

    def _borrow(self, lease: Lease | None) -> None:
        """Have what the function is lent, if it takes a credential."""
        borrower = self._signature.borrower
        if borrower is None:
            return
        if lease is not None and lease.secret is not None:
            try:
                self._credential = lent(lease, self._sought, self.point.now())
                self._lent = lease.name if lease.over_by is None else None
            except InvalidInput as error:
                raise NotStarted(Reason.UNAVAILABLE, str(error)) from None
        elif borrower.required:
            what = f"{borrower.name!r} is a credential, and the policy that permits the call names no class of them"
            self._objection = NotStarted(Reason.UNAVAILABLE, f"{what}; write @credential on it. Nothing was done.")
            raise self._objection

    def _forget(self) -> None:
        """Nobody uses it any more; then its backend is asked to end it."""
        if self._credential is not None:
            self._credential.forget()
        if self._lent is not None:
            self._sought.end(self._lent)
        self._credential = self._lent = None

    def _finds(self, value: object) -> bool:
        """Does a credential come back in this, or did one before?"""
        if not self._leaked and self._sought.scrubber and self._sought.scrubber.finds_in(spoken(value)):
            self._leaked = True
        return self._leaked

    def _tell_leak(self) -> None:
        """Once the call's own credential is over: two who end it at a time would both write that down."""
        if self._leaked:
            self.point.leaked(self.action.task, f"the output of {self.action.tool}")

    @property
    def limits(self) -> Mapping[Quantity, int]:
        """The most that it may use, once it began."""
        waiting = self._halves.waiting
        return NOTHING if waiting is None else waiting.permit.limits

    def may_let_out(self, item: object, output: Output) -> bool:
        """May `item` be let out, before the call ended? `output`: all that was, with it."""
        return not self._finds(item) and (not self.limits or not exceeds(output.used, self.limits))

    def _result(self, value: object, output: Output | None) -> Result:
        if output is None:
            output = Output(self.action.salt)
            output.add(value, self.limits)
        used = output.used if self.limits else NOTHING
        return Result(value, digest=output.digest, used=used, leaked=self._finds(value))

    def _ending(self, error: BaseException) -> Result | CannotDo:
        if isinstance(error, INTERRUPTS):
            return CannotDo(Reason.CANCELLED)
        leaked = self._finds(error)
        if not self.limits:
            return Result(error, failed=True, leaked=leaked)
        said = Output(self.action.salt)
        said.add(_text(error), self.limits)
        return Result(error, failed=True, used=said.used, leaked=leaked)

    def _released(self, outcome: Outcome) -> Any:
        if isinstance(outcome, Done):
            return outcome.result.value
        raise self._refusal(outcome) from None

    def _handlers(self, handlers: Handlers) -> Handlers:
        changed: dict[type, Callable[[Any], Any]] = {}
        if self._objection is not None:
            changed[FindGrant] = _raiser(self._objection)
        if self._streaming:
            changed[Gather] = _joined(handlers[Gather], list(self._streaming.values()))
        return {**handlers, **changed} if changed else handlers

    def _deadline(self) -> float:
        return time.monotonic() + self.point.timeout_s

    def _refusal(self, outcome: Outcome) -> ForestallError:
        assert not isinstance(outcome, Done)
        if isinstance(outcome, Undone) and outcome.fate in {Fate.DONE, Fate.FAILED}:
            why = "was carried out; its output is withheld, because it is more than one call may have."
            if outcome.reason is Reason.LEAKED:
                why = "was carried out; its output held a credential and is withheld, and the credential ends."
            return Refused(_decision(outcome), f"{self.action.tool} {why}")
        if isinstance(outcome, Undone) and outcome.fate is not Fate.NOT_STARTED:
            return OutcomeUnknown(
                f"{self.action.tool} was started, and what became of it is not known; "
                f"look before doing it again (decision {outcome.permit.id})."
            )
        decision = _decision(outcome)
        ours = self._objection
        sentence = ours.detail if ours and ours.reason is decision.reason else decision.reason.advice.sentence
        return Refused(decision, f"{self.action.tool} was refused ({decision.reason}). {sentence}")

    def __del__(self) -> None:
        self._forget()
        if self._halves.waiting and os.getpid() == self.point.pid:
            self.point.abandoned.append(self._halves)


def _raiser(objection: CannotDo) -> Callable[[Any], Any]:
    def object_(_ask: FindGrant) -> None:
        raise objection

    return object_


def _joined(gather: Callable[[Any], Any], labels: Sequence[Label]) -> Callable[[Any], Any]:
    """The facts, with `labels` among what the task has seen."""

    def joined(facts: Facts) -> Facts:
        return replace(facts, labels=reduce(Label.join, labels, facts.labels))

    async def later(facts: Awaitable[Facts]) -> Facts:
        return joined(await facts)

    def gather_joined(ask: Gather) -> Any:
        facts = gather(ask)
        return later(facts) if isawaitable(facts) else joined(facts)

    return gather_joined


class Output:
    """What a call let out, item by item: its salted digest, and how much it is. What is not JSON has neither."""

    def __init__(self, salt: bytes) -> None:
        self._hash: Any = hashlib.sha256(salt)
        self._bytes = self._rows = 0

    def add(self, value: object, limits: Mapping[Quantity, int], *, rows_at_least: int = 0) -> None:
        """`limits`: those of the call; where there are none, nothing is counted that is not known anyway."""
        if limits:
            self._rows += max(rows_at_least, rows(value))
        if self._hash is None:
            return
        try:
            form = canonical(value)
        except (InvalidInput, RecursionError):
            self._hash = None
            return
        self._hash.update(form + b"\n")
        self._bytes += len(form)

    @property
    def digest(self) -> str:
        return "" if self._hash is None else f"sha256:{self._hash.hexdigest()}"

    @property
    def used(self) -> Mapping[Quantity, int]:
        """In rows, and in bytes of its canonical form."""
        if self._hash is None:
            return {Quantity.ROWS: self._rows}
        return {Quantity.ROWS: self._rows, Quantity.BYTES: self._bytes}


def _text(error: BaseException) -> object:
    """What an exception says; where it cannot even say that, itself, which nobody can measure."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a program's own exception may raise anything here
        return error


def _decision(outcome: Deny | Hold | Undone) -> Deny | Hold:
    if not isinstance(outcome, Undone):
        return outcome
    permit = outcome.permit
    return Deny(permit.id, outcome.reason, permit.policies, permit.policy_digest, outcome.detail)
