"""Drive a flow: the same core, blocking or async. Deadlines, cancellation and foreign exceptions end here.

A handler that raises, whatever it raises, becomes `CannotDo` in the flow: a refusal before `Perform`, an unknown
outcome in it. Cancellation (`CancelledError`, `KeyboardInterrupt`) is thrown into the flow at the step it can stop, the
steps that write or clean up are carried to their end, and only then does it go on to the caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from forestall.core.ask import (
    Ask,
    CannotDo,
    Flow,
    Issue,
    NotStarted,
    Perform,
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

DEED = frozenset({Perform, Issue})
"""What a permit permits. Begun within its lifetime, and then not subject to the decision's deadline either."""


class Unstoppable(asyncio.Future[T]):
    """A future that the cancellation of who awaits it does not reach: they hear of it when the answer is there."""

    def cancel(self, msg: Any | None = None) -> bool:
        del msg
        return False


_INTERRUPTS = (KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit)


def run(flow: Flow[T], handlers: Handlers, *, deadline: float | None = None) -> T:
    """Carry a flow out, blocking. `deadline` is on `time.monotonic`, for the decision, not for what it permits."""
    answer: Any = None
    failure: CannotDo | None = None
    interrupt: BaseException | None = None
    while True:
        try:
            ask = flow.send(answer) if failure is None else flow.throw(failure)
        except StopIteration as stop:
            if interrupt is not None:
                raise interrupt from None
            result: T = stop.value
            return result
        answer, failure = None, _forbidden_now(ask, interrupt, deadline)
        if failure is not None:
            continue
        try:
            answer = _settled(_handler(handlers, ask)(ask), ask)
        except BaseException as error:  # noqa: BLE001 - an error of any kind is a refusal, a Rust panic included
            answer, failure = None, translate(error)
            if isinstance(error, _INTERRUPTS):
                interrupt = error


async def run_async(flow: Flow[T], handlers: Handlers, *, deadline: float | None = None) -> T:
    """Carry a flow out on the running loop. `deadline` as in `run`."""
    answer: Any = None
    failure: CannotDo | None = None
    interrupt: BaseException | None = None
    while True:
        try:
            ask = flow.send(answer) if failure is None else flow.throw(failure)
        except StopIteration as stop:
            if interrupt is not None:
                raise interrupt from None
            result: T = stop.value
            return result
        answer, failure = None, _forbidden_now(ask, interrupt, deadline)
        if failure is not None:
            continue
        try:
            answer = _handler(handlers, ask)(ask)
            if hasattr(answer, "__await__"):
                if type(ask) in FINISHING:
                    answer, stopped = await _to_the_end(answer)
                    interrupt = interrupt or stopped
                else:
                    answer = await _until(answer, ask, deadline)
        except BaseException as error:  # noqa: BLE001 - an error of any kind is a refusal, a Rust panic included
            answer, failure = None, translate(error)
            if isinstance(error, _INTERRUPTS):
                interrupt = error


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
    if type(ask) in FINISHING and not (isinstance(ask, Record) and ask.entry.kind == Kind.PERMITTED):
        return None
    if interrupt is not None:
        return NotStarted(Reason.CANCELLED) if isinstance(ask, Perform) else CannotDo(Reason.CANCELLED)
    if deadline is not None and type(ask) not in DEED and time.monotonic() >= deadline:
        return CannotDo(Reason.DEADLINE)
    return None


def _handler(handlers: Handlers, ask: Ask) -> Callable[[Any], Any]:
    try:
        return handlers[type(ask)]
    except KeyError:
        raise CannotDo(Reason.UNAVAILABLE, f"nothing here carries out {type(ask).__name__}") from None


def _settled(answer: Any, ask: Ask) -> Any:
    """The answer, unless it is still to come: nobody here awaits it, so a record would be taken for written."""
    if hasattr(answer, "__await__"):
        if isinstance(answer, Coroutine):
            answer.close()
        raise CannotDo(Reason.UNAVAILABLE, f"what carries out {type(ask).__name__} has to be awaited: use run_async")
    return answer


async def _until(answer: Awaitable[Any], ask: Ask, deadline: float | None) -> Any:
    if deadline is None or type(ask) in DEED:
        return await answer
    return await asyncio.wait_for(answer, max(0.0, deadline - time.monotonic()))


async def _to_the_end(answer: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Await it even when the caller is cancelled meanwhile; with the answer, the cancellation that came."""
    if isinstance(answer, Unstoppable):
        try:
            return await answer, None
        except asyncio.CancelledError as error:
            return answer.result(), error
    future = asyncio.ensure_future(answer)
    stopped: BaseException | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            if future.cancelled():
                raise CannotDo(Reason.UNAVAILABLE, "cancelled") from None
            stopped = error
        except BaseException:  # noqa: BLE001 - raised again just below, from the future itself
            break
    return future.result(), stopped
