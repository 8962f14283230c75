"""What is ended, by whom, and what is not ended twice."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from threading import Barrier, Event, Thread, get_ident
from types import SimpleNamespace
from typing import Any

import pytest

from forestall.core.ask import CannotDo, Record, Revoke, Tell
from forestall.core.control import Order
from forestall.core.entry import Stream, closed, revoked
from forestall.core.lend import end
from forestall.core.reason import Reason
from forestall.leases import Book
from forestall.lending.held import RECORDING_MS
from forestall.run import run
from forestall.testing.world import GRANT, NOW
from tests.backends import Desk
from tests.unit.lending.books import PERMIT, SOON_S, WAIT_S, reason_of


def test_what_was_certainly_never_asked_for_is_over_without_asking(books_of: Any, desk: Desk) -> None:
    books = books_of()
    books.lending.ending.revoke(books.planned())
    assert desk.asked == []


def test_what_was_ended_before_it_was_asked_for_is_never_asked_for(books_of: Any, desk: Desk) -> None:
    """Its task was killed between its record and its making: else it would live on with its end written."""
    books = books_of()
    lease = books.planned()
    books.write(closed(GRANT.task, "killed", NOW))
    books.lending.ending.revoke(lease)
    assert reason_of(lambda: books.lending.making.issue(lease)) is Reason.UNAVAILABLE
    books.write(revoked(lease, "killed", NOW))
    assert (desk.asked, desk.live) == ([], set())


def test_where_no_thread_can_be_started_it_is_ended_later(
    books_of: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    books = books_of()
    lease = books.issued()
    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", none)
        assert reason_of(lambda: books.lending.ending.revoke(lease)) is Reason.UNAVAILABLE
    assert not books.lending.living.is_ending(lease.name)
    books.lending.ending.revoke(lease)
    assert desk.live == set()


def test_what_has_ended_is_not_ended_twice(books_of: Any, desk: Desk) -> None:
    books = books_of()
    lease = books.issued()
    books.lending.ending.revoke(lease)
    books.write(revoked(lease, "killed", NOW))
    assert reason_of(lambda: books.lending.ending.revoke(lease)) is Reason.UNAVAILABLE
    assert desk.asked == ["issue", "revoke"]


def test_what_has_ended_is_not_ended_again_while_that_is_written(books_of: Any, desk: Desk) -> None:
    """A call that ends, and the keeper that found its task killed just before: else both would write it down."""
    books = books_of()
    lease = books.issued()
    books.lending.ending.revoke(lease)
    assert reason_of(lambda: books.lending.ending.revoke(lease)) is Reason.UNAVAILABLE
    books.now += RECORDING_MS - 1
    assert reason_of(lambda: books.lending.ending.revoke(lease)) is Reason.UNAVAILABLE
    books.now += 1
    books.lending.ending.revoke(lease)  # nobody wrote it
    assert desk.asked == ["issue", "revoke", "revoke"]


def test_while_it_is_being_made_nobody_is_told_that_it_is_over(books_of: Any, desk: Desk) -> None:
    books, changed = books_of(), Event()
    books.lending.on_change.append(changed.set)
    desk.fault(issue="slow")
    lease = books.planned()
    books.wait_for_backends(SOON_S)
    assert reason_of(lambda: books.lending.making.issue(lease)) is Reason.UNAVAILABLE
    books.wait_for_backends(WAIT_S)
    assert reason_of(lambda: books.lending.ending.revoke(lease)) is Reason.UNAVAILABLE
    assert books.lending.living.due() == []
    desk.fault()
    assert changed.wait(WAIT_S)
    assert desk.live == set()
    assert [(one.name, why) for one, why in books.lending.living.due()] == [(lease.name, "late")]
    books.lending.ending.revoke(lease)


def test_one_that_a_backend_hangs_on_ending_stays_among_those_that_fail(books_of: Any, desk: Desk) -> None:
    books = books_of("")
    book = Book(books.lending, lambda: books.now, lambda _said: None)
    lease = books.issued()
    desk.fault(revoke="slow")
    books.wait_for_backends(SOON_S)
    books.write(closed(GRANT.task, "done", NOW))
    for due, why in book.due():
        with pytest.raises(CannotDo) as caught:
            books.lending.ending.revoke(due)
        book.failed(due, why, caught.value)
    books.now += 60_000
    assert book.due() == []
    (row,) = book.rows()
    assert (row["name"], row["state"], row["why"]) == (lease.name, "failing", "task_ended")
    desk.fault()


def test_a_suspension_ends_it_though_its_task_was_resumed_before_anybody_looked(books_of: Any, desk: Desk) -> None:
    books = books_of('scope = "task"\n')
    first = books.issued()
    books.order(Order.SUSPEND, "a" * 32)
    books.order(Order.RESUME, "b" * 32)
    assert [(one.name, why) for one, why in books.lending.living.due()] == [(first.name, "suspended")]
    again = books.issued(replace(PERMIT, id="2" * 32))
    assert again.name != first.name
    assert [one.name for one, _ in books.lending.living.due()] == [first.name]
    books.lending.ending.revoke(first)
    assert desk.live == {again.name}


@pytest.mark.parametrize("fault", [None, OSError("the backend hung up")])
def test_who_writes_the_end_of_a_former_classs_last_credential_does_not_wait_for_its_broker(
    books_of: Any, fault: Exception | None
) -> None:
    """It may have a login to give back, and the loop that writes decides for everybody."""
    books, asked, answers, closers = books_of(), Event(), Event(), list[int]()
    one = books.lending.classes["desk"]

    def close() -> None:
        closers.append(get_ident())
        asked.set()
        if get_ident() != here:
            answers.wait(WAIT_S)
        closers.append(0)
        if fault is not None:
            raise fault

    here = get_ident()
    broker = SimpleNamespace(plan=one.broker.plan, issue=one.broker.issue, traits=one.broker.traits, close=close)
    broker.revoke = one.broker.revoke
    books.lending._holdings.classes = {"desk": replace(one, broker=broker)}
    lease = books.issued()
    books.lending.take({})
    books.lending.ending.revoke(lease)
    assert not asked.is_set()
    books.write(revoked(lease, "done", NOW))
    assert asked.wait(WAIT_S)
    assert here not in closers
    answers.set()
    books.lending.close()
    assert closers[1:] == [0], "and who ends the process waits for it"


@pytest.mark.parametrize("scope", ["action", "task"])
def test_what_is_made_while_its_task_is_suspended_is_given_to_nobody(books_of: Any, desk: Desk, scope: str) -> None:
    books = books_of(f'scope = "{scope}"\n', timeout_s=WAIT_S)
    desk.fault(issue="slow")
    lease = books.planned()
    _, future = books.lending.making._begin(lease)
    books.order(Order.SUSPEND, "a" * 32)
    books.order(Order.RESUME, "b" * 32)
    desk.fault()
    assert isinstance(future.exception(WAIT_S), CannotDo)
    assert [(one.name, why) for one, why in books.lending.living.due()] == [(lease.name, "suspended")]
    books.lending.ending.revoke(lease)
    assert desk.live == set()
    assert books.planned(replace(PERMIT, id="2" * 32)).secret is None


def test_what_was_planned_when_its_task_was_suspended_is_not_begun(books_of: Any, desk: Desk) -> None:
    books = books_of()
    lease = books.planned()
    books.order(Order.SUSPEND, "a" * 32)
    books.order(Order.RESUME, "b" * 32)
    assert reason_of(lambda: books.lending.making.issue(lease)) is Reason.UNAVAILABLE
    books.lending.ending.revoke(lease)
    assert desk.asked == []


@pytest.mark.parametrize("is_begun", [True, False])
def test_of_many_who_end_it_at_once_one_writes_that(books_of: Any, desk: Desk, *, is_begun: bool) -> None:
    """A call whose time has come, and the keeper, which heard of an order meanwhile."""
    books, together = books_of(timeout_s=WAIT_S), Barrier(8)
    lease = books.issued() if is_begun else books.planned()
    handlers = {
        Revoke: lambda ask: books.lending.ending.revoke(ask.lease),
        Tell: lambda _ask: books.now,
        Record: lambda ask: books.write(ask.entry),
    }

    def end_it() -> None:
        together.wait(WAIT_S)
        with suppress(CannotDo):
            run(end(lease, "killed"), handlers)

    threads = [Thread(target=end_it) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    kinds = [written.body["kind"] for written in books.ledger.read(Stream.PERMITS)]
    assert kinds.count("revoked") == 1
    assert desk.live == set()


def test_what_nobody_had_to_ask_for_is_ended_again_where_that_was_not_written(books_of: Any, desk: Desk) -> None:
    books = books_of()
    lease = books.planned()
    books.lending.ending.revoke(lease)
    assert reason_of(lambda: books.lending.ending.revoke(lease)) is Reason.UNAVAILABLE
    books.now += RECORDING_MS
    books.lending.ending.revoke(lease)
    assert desk.asked == []
