"""How a request ends: by one report, or given up, and by whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from forestall.core.ask import CannotDo, NotStarted, Tell
from forestall.core.fate import Fate
from forestall.core.model import Outcome, Result
from forestall.run import Drive
from forestall.server.frames import Performed
from forestall.server.pending import Pending, salted
from forestall.testing.world import action

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def out(loop: asyncio.AbstractEventLoop) -> Pending:
    """One whose permit was sent."""
    return Pending(1, action(), outcome=loop.create_future())


def report(fate: Fate = Fate.DONE, number: int = 7) -> Performed:
    return Performed(number, "action-1", fate, DIGEST, "why")


@pytest.mark.parametrize("fate", [Fate.DONE, Fate.FAILED])
def test_what_was_done_has_a_result_with_a_salted_digest(out: Pending, fate: Fate) -> None:
    assert out.settle(report(fate))
    assert out.outcome is not None
    assert out.outcome.result() == Result(None, failed=fate is Fate.FAILED, digest=salted(DIGEST, out.action.salt))
    assert DIGEST not in repr(out.outcome.result())


@pytest.mark.parametrize(("fate", "error"), [(Fate.NOT_STARTED, NotStarted), (Fate.AMBIGUOUS, CannotDo)])
def test_what_was_not_done_or_may_have_been_is_told_apart(out: Pending, fate: Fate, error: type) -> None:
    assert out.settle(report(fate))
    assert out.outcome is not None
    assert type(out.outcome.exception()) is error


def test_the_first_report_counts(out: Pending) -> None:
    assert out.settle(report())
    assert not out.settle(report(Fate.FAILED, 8))
    assert out.outcome is not None
    assert not out.outcome.result().failed
    assert out.reported == 8, "who reports is answered"


def test_a_report_after_it_was_given_up_is_no_news(out: Pending) -> None:
    assert out.give_up("the connection ended")
    assert not out.settle(report())
    assert out.outcome is not None
    assert type(out.outcome.exception()) is CannotDo
    assert not out.give_up("again")


def test_giving_up_after_the_report_is_no_news(out: Pending) -> None:
    assert out.settle(report())
    assert not out.give_up("the connection ended")
    assert out.outcome is not None
    assert out.outcome.result().failed is False


def begun() -> Pending:
    def flow() -> Iterator[Tell]:
        yield Tell()

    drive: Drive[Outcome] = Drive(flow(), {})  # type: ignore[arg-type]
    return Pending(1, action(), drive=drive)


def is_stopped(pending: Pending) -> bool:
    assert pending.drive is not None
    try:
        pending.drive.outcome()
    except asyncio.CancelledError:
        return True
    return False


def test_what_is_given_up_before_its_permit_is_cancelled() -> None:
    pending = begun()
    assert not pending.give_up("the connection ended")
    assert is_stopped(pending)


def test_a_cancel_counts_before_the_permit_and_not_after(loop: asyncio.AbstractEventLoop) -> None:
    before, after = begun(), begun()
    after.outcome = loop.create_future()
    for pending in (before, after):
        pending.cancel()
    assert (is_stopped(before), is_stopped(after)) == (True, False)
    Pending(2, action()).cancel()
