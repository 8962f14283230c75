"""Drive a flow: the same core, blocking or async. Deadlines, cancellation and foreign exceptions end here.

A handler that raises, whatever it raises, becomes `CannotDo` in the flow: a refusal before `Perform`, an unknown
outcome in it. Cancellation (`CancelledError`, `KeyboardInterrupt`) is thrown into the flow at the step it can stop, the
steps that write or clean up are carried to their end, and only then does it go on to the caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar, cast

from forestall.core.ask import (
    Ask,
    CannotDo,
    Flow,
    Issue,
    NotStarted,
    Perform,
    Plan,
    Record,
    Release,
    Revoke,
    Tell,
)
from forestall.core.entry import Kind
from forestall.core.errors import ForestallError
from forestall.core.reason import Reason

T = TypeVar("T")
Handlers = Mapping[type, Callable[[Any], Any]]
"""For each kind of ask, what carries it out and returns the answer; for `run_async` it may return an awaitable."""

FINISHING = frozenset({Record, Release, Revoke, Tell})
"""Carried to their end whatever happens to the caller, and not subject to the decision's deadline."""

GRANTING = frozenset({Kind.PERMITTED, Kind.OPENED, Kind.EXTENDED, Kind.APPROVED})
"""Records that give leave to something: not begun for a caller who waits no more."""

DEED = frozenset({Perform, Plan, Issue})
"""What a permit permits, the record of a credential included: not begun for a caller who waits no more, and not subject
to the decision's deadline, only to the permit's own lifetime.
"""


class Unstoppable(asyncio.Future[T]):
    """A future that the cancellation of who awaits it does not reach: they hear of it when the answer is there."""

    def cancel(self, msg: Any | None = None) -> bool:
        del msg
        return False


_INTERRUPTS = (KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit)


class Drive(Generic[T]):
    """A flow on its way: it goes on until something has to be awaited, and then says what.

    `run` and `run_async` are what most callers want. Who waits for many flows at once goes on with each as its answer
    comes. `deadline` is on `time.monotonic`, for the decision, not for what it permits.
    """

    __slots__ = ("_deadline", "_flow", "_handlers", "_interrupt", "_result", "ask")

    def __init__(self, flow: Flow[T], handlers: Handlers, deadline: float | None = None) -> None:
        self._flow = flow
        self._handlers = handlers
        self._deadline = deadline
        self._interrupt: BaseException | None = None
        self._result: T | None = None
        self.ask: Ask | None = None
        """What is awaited."""

    def go(self, answer: Any = None, failure: CannotDo | None = None) -> Awaitable[Any] | None:
        """Go on with the answer to `ask`, or with why there is none. What to await next; None at the flow's end."""
        while True:
            try:
                ask = self._flow.send(answer) if failure is None else self._flow.throw(failure)
            except StopIteration as stop:
                self.ask, self._result = None, stop.value
                return None
            answer, failure = None, _forbidden_now(ask, self._interrupt, self._deadline)
            if failure is not None:
                continue
            try:
                handle: Callable[[Any], Any] = self._handlers.get(type(ask), _nobody)
                answer = handle(ask)
            except BaseException as error:  # noqa: BLE001 - an error of any kind is a refusal, a Rust panic included
                failure = self._failure(error)
                continue
            if hasattr(answer, "__await__"):
                self.ask = ask
                awaited: Awaitable[Any] = answer
                return awaited

    def fail(self, error: BaseException) -> Awaitable[Any] | None:
        """As `go`: what was awaited raised this."""
        return self.go(failure=self._failure(error))

    def stop(self, error: BaseException) -> None:
        """From here on only what finishes or cleans up is begun, and then `error` is raised."""
        self._interrupt = self._interrupt or error

    def outcome(self) -> T:
        """What the flow came to, once it has ended. Raises what stopped it."""
        if self._interrupt is not None:
            raise self._interrupt from None
        return cast("T", self._result)

    def _failure(self, error: BaseException) -> CannotDo:
        if isinstance(error, _INTERRUPTS):
            self._interrupt = error
        return translate(error)


def run(flow: Flow[T], handlers: Handlers, *, deadline: float | None = None) -> T:
    """Carry a flow out, blocking. `deadline` as in `Drive`."""
    drive = Drive(flow, handlers, deadline)
    waiting = drive.go()
    while waiting is not None:
        waiting = drive.go(failure=_unawaited(waiting, drive.ask))
    return drive.outcome()


async def run_async(flow: Flow[T], handlers: Handlers, *, deadline: float | None = None) -> T:
    """Carry a flow out on the running loop. `deadline` as in `Drive`."""
    drive = Drive(flow, handlers, deadline)
    waiting = drive.go()
    while waiting is not None:
        try:
            if type(drive.ask) in FINISHING:
                answer = await _to_the_end(waiting, drive.stop)
            else:
                answer = await _until(waiting, drive.ask, deadline)
        except BaseException as error:  # noqa: BLE001 - as in `Drive`
            waiting = drive.fail(error)
        else:
            waiting = drive.go(answer)
    return drive.outcome()


def translate(error: BaseException) -> CannotDo:
    """Any exception as what a flow understands. Only our own say more than their type: theirs may hold a secret."""
    if isinstance(error, CannotDo):
        return error
    if isinstance(error, _INTERRUPTS):
        return CannotDo(Reason.CANCELLED)
    if isinstance(error, TimeoutError):
        return CannotDo(Reason.DEADLINE)
    if isinstance(error, ForestallError):
        return CannotDo(Reason.UNAVAILABLE, str(error))
    return CannotDo(Reason.UNAVAILABLE, type(error).__name__)


def _forbidden_now(ask: Ask, interrupt: BaseException | None, deadline: float | None) -> CannotDo | None:
    """Why this step must not be started any more, if it must not."""
    late = deadline is not None and time.monotonic() >= deadline
    if interrupt is None and not late:
        return None
    kind = ask.entry.kind if isinstance(ask, Record) else None
    is_deed = type(ask) in DEED or kind is Kind.LEASED
    if type(ask) in FINISHING and not is_deed and kind not in GRANTING:
        return None
    if interrupt is not None:
        return NotStarted(Reason.CANCELLED) if isinstance(ask, Perform) else CannotDo(Reason.CANCELLED)
    return None if is_deed else CannotDo(Reason.DEADLINE)


def _nobody(ask: Ask) -> Any:
    """Carries out what no handler does."""
    raise CannotDo(Reason.UNAVAILABLE, f"nothing here carries out {type(ask).__name__}")


def _unawaited(answer: Awaitable[Any], ask: Ask | None) -> CannotDo:
    """An answer that is still to come, where nobody awaits it: a record would be taken for written."""
    if isinstance(answer, Coroutine):
        answer.close()
    return CannotDo(Reason.UNAVAILABLE, f"what carries out {type(ask).__name__} has to be awaited: use run_async")


async def _until(answer: Awaitable[Any], ask: Ask | None, deadline: float | None) -> Any:
    if deadline is None or type(ask) in DEED:
        return await answer
    return await asyncio.wait_for(answer, max(0.0, deadline - time.monotonic()))


async def _to_the_end(answer: Awaitable[Any], stop: Callable[[BaseException], None]) -> Any:
    """Await it even when the caller is cancelled meanwhile; `stop` hears of that, whatever becomes of the answer."""
    if isinstance(answer, Unstoppable):
        try:
            return await answer
        except asyncio.CancelledError as error:
            stop(error)
            return answer.result()
    future = asyncio.ensure_future(answer)
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            if future.cancelled():
                raise CannotDo(Reason.UNAVAILABLE, "cancelled") from None
            stop(error)
        except BaseException:  # noqa: BLE001 - raised again just below, from the future itself
            break
    return future.result()
