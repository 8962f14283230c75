"""The drivers: whatever a handler does, the flow hears a `CannotDo`; clean-up is carried to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from forestall.core.ask import Evaluate, FindTool, Issue, Perform, Record, Release, Revoke, Tell, Verify
from forestall.core.errors import Unavailable
from forestall.core.flow import govern
from forestall.core.model import Deny, Done, Fate, Undone
from forestall.core.reason import Reason
from forestall.run import run, run_async
from forestall.testing.world import PERMITTED, World, action
from tests.flow.scenarios import CREDENTIALED, SCENARIOS, Scenario


class Panic(BaseException):
    """What a Rust library raises when it panics: not an Exception."""


Drive = Callable[..., Any]


def drive_async(flow: Any, handlers: Any, **options: Any) -> Any:
    async def awaitable(handle: Any, ask: Any) -> Any:
        await asyncio.sleep(0)
        return handle(ask)

    waiting = {kind: (lambda ask, handle=handle: awaitable(handle, ask)) for kind, handle in handlers.items()}
    return asyncio.run(run_async(flow, waiting, **options))


def drive_async_without_waiting(flow: Any, handlers: Any, **options: Any) -> Any:
    return asyncio.run(run_async(flow, handlers, **options))


DRIVERS = [run, drive_async, drive_async_without_waiting]


@pytest.mark.parametrize("drive", DRIVERS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_driver_brings_every_scenario_to_the_same_end(drive: Drive, scenario: Scenario) -> None:
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
def test_any_exception_before_the_permit_is_a_denial(drive: Drive, error: BaseException, kind: type) -> None:
    world = World()
    outcome = drive(govern(action()), broken_at(world, kind, error))
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.UNAVAILABLE
    assert "a secret" not in outcome.detail
    assert not any(isinstance(ask, Perform) for ask in world.asked)


@pytest.mark.parametrize("drive", DRIVERS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_exception_in_perform_is_an_unknown_outcome(drive: Drive, error: BaseException) -> None:
    world = World(ruling=CREDENTIALED)
    outcome = drive(govern(action()), broken_at(world, Perform, error))
    assert isinstance(outcome, Undone)
    assert outcome.fate is Fate.AMBIGUOUS
    assert world.credentials == set()
    assert world.entries[-1].body["fate"] == "ambiguous"


@pytest.mark.parametrize("drive", DRIVERS)
def test_what_nobody_carries_out_is_a_denial(drive: Drive) -> None:
    world = World(ruling=CREDENTIALED)
    handlers = world.handlers()
    del handlers[Issue]
    outcome = drive(govern(action()), handlers)
    assert isinstance(outcome, Undone)
    assert outcome.fate is Fate.NOT_STARTED
    assert not any(isinstance(ask, Perform) for ask in world.asked)


@pytest.mark.parametrize("drive", DRIVERS)
def test_a_deadline_that_has_passed_is_a_denial(drive: Drive) -> None:
    world = World()
    outcome = drive(govern(action()), world.handlers(), deadline=time.monotonic() - 1)
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.DEADLINE
    assert [type(ask) for ask in world.asked] == [Record]


def test_a_step_that_does_not_answer_is_ended_by_the_deadline() -> None:
    async def scenario() -> Any:
        world = World()
        handlers = {**world.handlers(), Evaluate: lambda _: asyncio.Event().wait()}
        return await run_async(govern(action()), handlers, deadline=time.monotonic() + 0.02)

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.DEADLINE


def test_the_deadline_is_for_the_decision_and_not_for_what_it_permits() -> None:
    world = World(ruling=CREDENTIALED)
    deadline = time.monotonic() + 60
    passed = False

    def record(ask: Any) -> None:
        nonlocal passed
        passed = True
        world.handle(ask)

    real = time.monotonic
    try:
        time.monotonic = lambda: real() + (1000 if passed else 0)  # type: ignore[assignment]
        outcome = run(govern(action()), {**world.handlers(), Record: record}, deadline=deadline)
    finally:
        time.monotonic = real
    assert isinstance(outcome, Done)


@pytest.mark.parametrize("kind", [Verify, Evaluate, Record, Issue, Perform, Revoke, Tell])
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
        assert kinds == ["permitted", "settled"]
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
