"""The drivers: whatever a handler does, the flow hears a `CannotDo`; clean-up is carried to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

import pytest

from forestall.core.ask import (
    CannotDo,
    Confirm,
    Evaluate,
    FindTool,
    Flow,
    Issue,
    NotStarted,
    Perform,
    Plan,
    Record,
    Release,
    Reserve,
    Revoke,
    Tell,
    Verify,
)
from forestall.core.effects import Effect
from forestall.core.entry import Kind
from forestall.core.errors import Unavailable
from forestall.core.fate import Fate
from forestall.core.flow import govern
from forestall.core.model import Assurance, Deny, Done, Mandate, Subject, Undone
from forestall.core.reason import Reason
from forestall.core.task import open_task
from forestall.run import Drive, Unstoppable, run, run_async
from forestall.testing.world import PERMITTED, World, action
from tests.flow.scenarios import CREDENTIALED, SCENARIOS, Scenario


class Panic(BaseException):
    """What a Rust library raises when it panics: not an Exception."""


Carry = Callable[..., Any]


def blocking(flow: Any, handlers: Any, **options: Any) -> Any:
    return run(flow, handlers, **options)


def drive_async(flow: Any, handlers: Any, **options: Any) -> Any:
    async def awaitable(handle: Any, ask: Any) -> Any:
        await asyncio.sleep(0)
        return handle(ask)

    waiting = {kind: (lambda ask, handle=handle: awaitable(handle, ask)) for kind, handle in handlers.items()}
    return asyncio.run(run_async(flow, waiting, **options))


def drive_async_without_waiting(flow: Any, handlers: Any, **options: Any) -> Any:
    return asyncio.run(run_async(flow, handlers, **options))


def drive_async_with_futures(flow: Any, handlers: Any, **options: Any) -> Any:
    """As the ledger answers: with a future that cannot be stopped."""

    def later(handle: Any, ask: Any) -> Any:
        future: Unstoppable[Any] = Unstoppable()

        def answer() -> None:
            try:
                future.set_result(handle(ask))
            except BaseException as error:
                future.set_exception(error)

        asyncio.get_running_loop().call_soon(answer)
        return future

    waiting = {kind: (lambda ask, handle=handle: later(handle, ask)) for kind, handle in handlers.items()}
    return asyncio.run(run_async(flow, waiting, **options))


DRIVERS = [blocking, drive_async, drive_async_with_futures, drive_async_without_waiting]


@pytest.mark.parametrize("drive", DRIVERS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_driver_brings_every_scenario_to_the_same_end(drive: Carry, scenario: Scenario) -> None:
    world, reference = scenario.world(), scenario.world()
    assert drive(govern(action()), world.handlers()) == run(govern(action()), reference.handlers())
    assert world.asked == reference.asked


def broken_at(world: World, kind: type, error: BaseException) -> dict[type, Any]:
    def handle(ask: Any) -> Any:
        world.asked.append(ask)
        raise error

    return {**world.handlers(), kind: handle}


ERRORS = [
    ValueError("a secret"),
    Panic("a secret"),
    Unavailable("the disk is full"),
    KeyError("a secret"),
    RecursionError(),
]


@pytest.mark.parametrize("drive", DRIVERS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", [Verify, FindTool, Evaluate, Record])
def test_any_exception_before_the_permit_is_a_denial(drive: Carry, error: BaseException, kind: type) -> None:
    world = World()
    outcome = drive(govern(action()), broken_at(world, kind, error))
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.UNAVAILABLE
    assert "a secret" not in outcome.detail
    assert not any(isinstance(ask, Perform) for ask in world.asked)


@pytest.mark.parametrize("drive", DRIVERS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_exception_in_perform_is_an_unknown_outcome(drive: Carry, error: BaseException) -> None:
    world = World(ruling=CREDENTIALED)
    outcome = drive(govern(action()), broken_at(world, Perform, error))
    assert isinstance(outcome, Undone)
    assert outcome.fate is Fate.AMBIGUOUS
    assert world.credentials == set()
    assert world.entries[-1].body["fate"] == "ambiguous"


@pytest.mark.parametrize("drive", DRIVERS)
def test_what_nobody_carries_out_is_a_denial(drive: Carry) -> None:
    world = World(ruling=CREDENTIALED)
    handlers = world.handlers()
    del handlers[Issue]
    outcome = drive(govern(action()), handlers)
    assert isinstance(outcome, Undone)
    assert outcome.fate is Fate.NOT_STARTED
    assert not any(isinstance(ask, Perform) for ask in world.asked)


@pytest.mark.parametrize("drive", DRIVERS)
def test_a_deadline_that_has_passed_is_a_denial(drive: Carry) -> None:
    world = World()
    outcome = drive(govern(action()), world.handlers(), deadline=time.monotonic() - 1)
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.DEADLINE
    assert [type(ask) for ask in world.asked] == [Record]


class Passing:
    """Handlers that answer in a later turn of the loop, and a clock that goes past the deadline at one kind of step."""

    def __init__(self, world: World, kind: type) -> None:
        self.world, self.kind, self.late = world, kind, 0.0
        self.real = time.monotonic

    def handlers(self) -> dict[type, Any]:
        return dict.fromkeys(self.world.handlers(), self._handle)

    def blocking(self) -> dict[type, Any]:
        return dict.fromkeys(self.world.handlers(), self._handle_now)

    async def _handle(self, ask: Any) -> Any:
        await asyncio.sleep(0)
        return self.world.handle(ask)

    def _handle_now(self, ask: Any) -> Any:
        if isinstance(ask, self.kind):
            self.late = 1000
        return self.world.handle(ask)

    def __enter__(self) -> Self:
        time.monotonic = lambda: self.real() + self.late  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        time.monotonic = self.real

    async def carry(self) -> Any:
        """The deadline passes while the step is under way."""
        handlers = self.handlers()

        def begin(ask: Any) -> Any:
            self.late = 1000
            return self._handle(ask)

        return await run_async(govern(action()), {**handlers, self.kind: begin}, deadline=self.real() + 500)


@pytest.mark.parametrize("kind", [Verify, Evaluate, Reserve])
def test_a_step_that_does_not_answer_is_ended_by_the_deadline(kind: type) -> None:
    with Passing(World(), kind) as passing:
        outcome = asyncio.run(passing.carry())
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.DEADLINE
    assert not [ask for ask in passing.world.done if isinstance(ask, kind)]
    assert [entry.kind for entry in passing.world.entries] == ["denied"], "writing it down has no deadline"


@pytest.mark.parametrize("kind", [Plan, Issue, Perform, Revoke, Tell])
def test_the_deadline_is_for_the_decision_and_not_for_what_it_permits(kind: type) -> None:
    with Passing(World(ruling=CREDENTIALED), kind) as passing:
        outcome = asyncio.run(passing.carry())
        assert isinstance(outcome, Done), outcome
    with Passing(World(ruling=CREDENTIALED), kind) as passing:
        deadline = passing.real() + 500
        assert isinstance(run(govern(action()), passing.blocking(), deadline=deadline), Done)


@pytest.mark.parametrize("kind", [Record, Confirm])
def test_a_permit_that_was_recorded_too_late_is_released_to_nobody(kind: type) -> None:
    with Passing(World(), kind) as passing:
        outcome = asyncio.run(passing.carry())
    assert isinstance(outcome, Undone)
    assert (outcome.fate, outcome.reason) == (Fate.NOT_STARTED, Reason.DEADLINE)
    assert [entry.kind for entry in passing.world.entries] == ["permitted", "settled"]


@pytest.mark.parametrize("kind", [Verify, Evaluate, Reserve])
def test_no_permit_is_written_after_the_deadline(kind: type) -> None:
    with Passing(World(budget=3), kind) as passing:
        outcome = run(govern(action()), passing.blocking(), deadline=passing.real() + 500)
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.DEADLINE
    assert [entry.kind for entry in passing.world.entries] == ["denied"]
    assert passing.world.budget == 3, "what was reserved is given back"


@pytest.mark.parametrize("kind", [Verify, Evaluate, Record, Confirm, Plan, Issue, Perform, Revoke, Tell])
def test_cancelled_at_any_step_the_books_are_finished_and_the_cancellation_goes_on(kind: type) -> None:
    async def scenario() -> World:
        world = World(ruling=CREDENTIALED)
        reached = asyncio.Event()
        proceed = asyncio.Event()

        async def slow(ask: Any) -> Any:
            reached.set()
            await proceed.wait()
            return world.handle(ask)

        handlers: dict[type, Any] = {**world.handlers(), kind: slow}
        call = asyncio.create_task(run_async(govern(action()), handlers))
        await reached.wait()
        call.cancel()
        await asyncio.sleep(0)
        proceed.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        return world

    world = asyncio.run(scenario())
    performed = [ask for ask in world.done if isinstance(ask, Perform)]
    kinds = [entry.kind for entry in world.entries]
    assert world.credentials == set()
    if "permitted" in kinds:
        lent = ["leased", "revoked"] if kind in (Issue, Perform, Revoke, Tell) else []
        assert kinds == ["permitted", *lent, "settled"]
        assert world.entries[-1].body["fate"] == (
            "done" if performed else "ambiguous" if kind is Perform else "not_started"
        )
    else:
        assert kinds == ["denied"]
        assert world.entries[0].body["reason"] == "cancelled"
    assert bool(performed) == (kind in (Revoke, Tell))


@pytest.mark.parametrize("kind", [Verify, Evaluate, Record, Perform, Revoke])
def test_an_interrupt_from_the_keyboard_finishes_the_books_too(kind: type) -> None:
    world = World(ruling=CREDENTIALED)
    interrupted = False
    plain = world.handle

    def once(ask: Any) -> Any:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            world.asked.append(ask)
            raise KeyboardInterrupt
        return plain(ask)

    with pytest.raises(KeyboardInterrupt):
        run(govern(action()), {**world.handlers(), kind: once})
    assert world.entries, "whatever became of it is recorded"
    if kind is not Revoke:
        assert not [ask for ask in world.done if isinstance(ask, Perform)]
        assert world.credentials == set()


def test_nothing_is_released_twice_when_a_clean_up_fails() -> None:
    world = World(budget=5)
    outcome = run(govern(action()), broken_at(world, Record, OSError("full")))
    assert isinstance(outcome, Deny)
    assert [type(ask) for ask in world.done if isinstance(ask, Release)] == [Release]
    assert world.budget == 5


def test_a_permit_is_a_permit() -> None:
    assert isinstance(run(govern(action()), World(ruling=PERMITTED).handlers()), Done)


@pytest.mark.parametrize("kind", [Verify, Evaluate, Record, Perform])
def test_an_answer_that_nobody_awaits_is_no_answer(kind: type) -> None:
    world = World()

    async def later(ask: Any) -> Any:
        return world.handle(ask)

    outcome = run(govern(action()), {**world.handlers(), kind: later})
    assert isinstance(outcome, Undone if kind is Perform else Deny)
    assert outcome.reason is Reason.UNAVAILABLE
    assert not any(isinstance(ask, Perform) for ask in world.done)


def test_a_future_is_no_answer_to_the_blocking_driver_either() -> None:
    async def within_a_loop() -> Any:
        world = World()
        future = asyncio.get_running_loop().create_future()
        return run(govern(action()), {**world.handlers(), Record: lambda _: future})

    assert isinstance(asyncio.run(within_a_loop()), Deny)


def cancelled_in(kind: type, *, times: int = 1, future: bool = False) -> World:
    """The caller is cancelled, so many times, while this kind of step is under way. It hears of it, and that is all."""

    async def scenario() -> World:
        world = World(ruling=CREDENTIALED)
        reached = asyncio.Event()
        proceed: Unstoppable[None] = Unstoppable()

        def slow(ask: Any) -> Any:
            reached.set()
            if not future:
                return waits(ask)
            answer: Unstoppable[Any] = Unstoppable()
            proceed.add_done_callback(lambda _: answer.done() or answer.set_result(world.handle(ask)))
            return answer

        async def waits(ask: Any) -> Any:
            await asyncio.shield(proceed)
            return world.handle(ask)

        call = asyncio.create_task(run_async(govern(action()), {**world.handlers(), kind: slow}))
        await reached.wait()
        for _ in range(times):
            call.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        proceed.set_result(None)
        with pytest.raises(asyncio.CancelledError):
            await call
        return world

    return asyncio.run(scenario())


@pytest.mark.parametrize("future", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_who_is_cancelled_again_and_again_while_a_permit_is_written_gets_it_settled_all_the_same(
    times: int, future: bool
) -> None:
    world = cancelled_in(Record, times=times, future=future)
    assert [entry.kind for entry in world.entries] == ["permitted", "settled"]
    assert world.entries[-1].body["fate"] == "not_started"
    assert not [ask for ask in world.asked if isinstance(ask, Perform | Issue)]


@pytest.mark.parametrize("times", [1, 3])
def test_who_is_cancelled_while_a_credential_is_revoked_has_it_revoked(times: int) -> None:
    assert cancelled_in(Revoke, times=times).credentials == set()


@pytest.mark.parametrize("future", [True, False])
@pytest.mark.parametrize("kind", ["permitted", "settled"])
def test_who_is_cancelled_while_a_record_fails_hears_of_the_cancellation(kind: str, future: bool) -> None:
    async def scenario() -> World:
        world = World()
        reached = asyncio.Event()
        written: Unstoppable[None] = Unstoppable()

        async def waits() -> None:
            await asyncio.shield(written)

        def record(ask: Any) -> Any:
            if ask.entry.kind != kind:
                return world.handle(ask)
            reached.set()
            return written if future else waits()

        call = asyncio.create_task(run_async(govern(action()), {**world.handlers(), Record: record}))
        await reached.wait()
        call.cancel()
        await asyncio.sleep(0)
        written.set_exception(Unavailable("the disk is full"))
        with pytest.raises(asyncio.CancelledError):
            await call
        return world

    world = asyncio.run(scenario())
    assert [entry.kind for entry in world.entries] == (["denied"] if kind == "permitted" else ["permitted"])


def test_a_step_that_was_cancelled_itself_is_a_refusal_and_no_cancellation_of_its_caller() -> None:
    async def scenario() -> Any:
        world = World()

        async def cancelled(ask: Any) -> None:
            if ask.entry.kind == "permitted":
                raise asyncio.CancelledError
            world.handle(ask)

        return await run_async(govern(action()), {**world.handlers(), Record: cancelled})

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.UNAVAILABLE


def test_our_own_errors_say_what_is_wrong_and_foreign_ones_only_their_type() -> None:
    for error, detail in ((Unavailable("the disk is full"), "the disk is full"), (OSError("a secret"), "OSError")):
        outcome = run(govern(action()), broken_at(World(), Record, error))
        assert isinstance(outcome, Deny)
        assert (outcome.reason, outcome.detail) == (Reason.UNAVAILABLE, detail)
    assert run(govern(action()), broken_at(World(), Record, TimeoutError())).reason is Reason.DEADLINE


def test_a_flow_hears_no_exception_but_ours() -> None:
    """And hears it as it was thrown, where it is ours already."""
    refused = CannotDo(Reason.BUDGET, "spent")
    heard: list[BaseException] = []

    def flow() -> Flow[str]:
        for _ in range(2):
            try:
                yield Tell()
            except BaseException as error:
                heard.append(error)
        return "the end"

    errors = iter([refused, Panic("a secret")])

    def fail(_: Any) -> None:
        raise next(errors)

    assert run(flow(), {Tell: fail}) == "the end"
    assert heard[0] is refused
    assert type(heard[1]) is CannotDo


# -- a flow that is carried on by whoever waits for it


class Steps:
    """A drive of one action, in whose world one kind of step is answered later, by hand."""

    def __init__(self, world: World, *kinds: type, deadline: float | None = None) -> None:
        self.world = world
        self.loop = asyncio.new_event_loop()
        self.later = {kind: self.loop.create_future() for kind in kinds}
        handlers = {**world.handlers(), **{kind: (lambda ask: self.later[type(ask)]) for kind in kinds}}
        self.drive = Drive(govern(action()), handlers, deadline)

    def answer(self) -> Any:
        """Do what is awaited, and go on."""
        assert self.drive.ask is not None
        return self.drive.go(self.world.handle(self.drive.ask))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()


def test_a_drive_stops_where_something_has_to_be_awaited_and_says_what() -> None:
    with Steps(World(), Record, Perform) as steps:
        waiting = steps.drive.go()
        assert waiting is steps.later[Record]
        assert isinstance(steps.drive.ask, Record)
        assert steps.drive.ask.entry.kind == "permitted"
        assert steps.world.entries == []
        waiting = steps.answer()
        assert waiting is steps.later[Perform]
        assert isinstance(steps.drive.ask, Perform)
        waiting = steps.answer()
        assert waiting is steps.later[Record]
        assert steps.answer() is None
        assert steps.drive.ask is None
        assert isinstance(steps.drive.outcome(), Done)


def test_a_drive_that_is_stopped_while_its_permit_is_written_settles_it_and_performs_nothing() -> None:
    with Steps(World(), Record, Perform) as steps:
        steps.drive.go()
        steps.drive.stop(asyncio.CancelledError("first"))
        steps.drive.stop(asyncio.CancelledError("second"))
        steps.answer()
        steps.answer()
        assert [entry.kind for entry in steps.world.entries] == ["permitted", "settled"]
        assert steps.world.entries[-1].body["fate"] == "not_started"
        assert not [ask for ask in steps.world.asked if isinstance(ask, Perform)]
        with pytest.raises(asyncio.CancelledError, match="first"):
            steps.drive.outcome()


@pytest.mark.parametrize("last", [Confirm, Plan, Issue])
def test_a_drive_that_is_stopped_once_its_permit_is_written_begins_nothing_more(last: type) -> None:
    """Not the credential, nor the action under it; and what was not begun is said to be that."""
    with Steps(World(ruling=CREDENTIALED), last) as steps:
        steps.drive.go()
        steps.drive.stop(asyncio.CancelledError())
        assert steps.answer() is None
        begun = [type(ask) for ask in steps.world.asked if isinstance(ask, Issue | Perform)]
        assert begun == ([Issue] if last is Issue else [])
        lent = {Confirm: [], Plan: ["revoked"], Issue: ["leased", "revoked"]}[last]
        assert [entry.kind for entry in steps.world.entries] == ["permitted", *lent, "settled"]
        assert steps.world.entries[-1].body["fate"] == "not_started"
        assert not steps.world.credentials


def test_a_drive_that_is_stopped_while_its_credential_is_written_down_brings_none_into_being() -> None:
    with Steps(World(ruling=CREDENTIALED), Record) as steps:
        steps.drive.go()
        steps.answer()
        steps.drive.stop(asyncio.CancelledError())
        while steps.answer() is not None:
            pass
        assert [entry.kind for entry in steps.world.entries] == ["permitted", "leased", "revoked", "settled"]
        assert not [ask for ask in steps.world.asked if isinstance(ask, Issue | Perform)]


def test_a_drive_that_is_stopped_before_its_permit_is_written_writes_a_denial() -> None:
    with Steps(World(budget=3), Reserve) as steps:
        steps.drive.go()
        steps.drive.stop(asyncio.CancelledError())
        assert steps.answer() is None
        assert [(entry.kind, entry.body["reason"]) for entry in steps.world.entries] == [("denied", "cancelled")]
        assert steps.world.budget == 3
        with pytest.raises(asyncio.CancelledError):
            steps.drive.outcome()


def test_a_drive_that_is_stopped_while_it_performs_hears_how_that_ended() -> None:
    with Steps(World(ruling=CREDENTIALED), Perform) as steps:
        steps.drive.go()
        steps.drive.stop(asyncio.CancelledError())
        assert steps.answer() is None
        assert steps.world.entries[-1].body["fate"] == "done"
        assert steps.world.credentials == set()


@pytest.mark.parametrize(
    ("error", "fate"),
    [(NotStarted(Reason.CANCELLED), "not_started"), (CannotDo(), "ambiguous"), (OSError("a secret"), "ambiguous")],
)
def test_what_was_awaited_and_failed_is_heard_by_the_flow(error: BaseException, fate: str) -> None:
    with Steps(World(), Perform) as steps:
        steps.drive.go()
        assert steps.drive.fail(error) is None
        outcome = steps.drive.outcome()
        assert isinstance(outcome, Undone)
        assert outcome.fate == fate
        assert "a secret" not in outcome.detail


def test_a_record_that_failed_while_it_was_awaited_permits_nothing() -> None:
    with Steps(World(budget=3), Record) as steps:
        steps.drive.go()
        steps.drive.fail(Unavailable("the disk is full"))
        assert isinstance(steps.drive.ask, Record)
        assert steps.drive.ask.entry.kind == "denied"
        assert steps.answer() is None
        assert isinstance(steps.drive.outcome(), Deny)
        assert steps.world.budget == 3
        assert not [ask for ask in steps.world.asked if isinstance(ask, Perform)]


def test_what_cannot_be_stopped_is_not() -> None:
    with Steps(World()) as steps:
        future: Unstoppable[int] = Unstoppable(loop=steps.loop)
        assert future.cancel() is False
        assert not future.cancelled()
        future.set_result(3)
        assert future.result() == 3


@pytest.mark.parametrize("late", [True, False])
def test_no_task_is_opened_for_who_waits_no_more(late: bool) -> None:
    world = World()
    mandate = Mandate("m", "a purpose", ("*",), frozenset({Effect.READ}), 60_000)
    flow = open_task(mandate, "task", Subject("agent", Assurance.LOCAL), 0, salt=b"s" * 16)
    drive = Drive(flow, world.handlers(), time.monotonic() - 1 if late else None)
    if not late:
        drive.stop(KeyboardInterrupt())
    with pytest.raises(CannotDo):
        drive.go()
    assert [entry.kind for entry in world.entries] == [Kind.DENIED]
