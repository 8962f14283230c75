"""The index may be lost, late, foreign or unwritable; what the state says is the log's."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from forestall.adapter.store.state import LogState, open_state
from forestall.core.effects import Effect
from forestall.core.entry import Stream, closed, opened, settled
from forestall.core.errors import Tampered
from forestall.core.fate import Fate
from forestall.port import Position, Written
from forestall.testing.ledger import MemoryLedger
from forestall.testing.world import AGENT, GRANT, NOW
from tests.contract.test_state import (
    CHILD,
    HELPER,
    HOLDER,
    LIMITED,
    ONE_MORE,
    ROOT,
    SECRET,
    WRITES,
    Books,
    learns,
    permission,
    permit,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def test_a_second_start_reads_only_what_is_new(path: Path) -> None:
    ledger = MemoryLedger()
    first = Books(open_state(path, ledger), ledger)
    first.write(opened(LIMITED, AGENT, NOW), permission(permit("a")))
    first.state.close()
    for entry in (permission(permit("b")), settled(permit("a"), Fate.DONE, NOW)):
        ledger.append(entry)
    starts: list[tuple[Stream, int]] = []
    read = ledger.read
    ledger.read = lambda stream, start=0: (starts.append((stream, start)), read(stream, start))[1]  # type: ignore[method-assign]
    second = open_state(path, ledger)
    assert starts == [(Stream.PERMITS, 1), (Stream.PERMITS, 2), (Stream.DENIALS, 0)], (
        "the last entry that was taken in, to know the log by; then the new ones"
    )
    assert [one.id for one in second.unsettled()] == ["b"]
    assert [second.reserve(LIMITED, WRITES) for _ in range(2)] == [True, False]
    second.close()


def test_labels_and_grants_survive_as_they_were(path: Path) -> None:
    ledger = MemoryLedger()
    books = Books(open_state(path, ledger), ledger)
    grant = replace(LIMITED, tools=("a/*", "b"), effects=frozenset({Effect.WRITE}))
    books.write(opened(grant, AGENT, NOW))
    books.state.close()
    again = open_state(path, ledger)
    assert again.find_grant(grant.task) == grant
    again.close()


def test_an_index_that_is_ahead_of_the_log_is_thrown_away(path: Path) -> None:
    ledger, shorter = MemoryLedger(), MemoryLedger()
    books = Books(open_state(path, ledger), ledger)
    books.write(opened(GRANT, AGENT, NOW), permission(permit()))
    books.state.close()
    shorter.append(opened(GRANT, AGENT, NOW))
    again = open_state(path, shorter)
    assert not again.unsettled()
    assert again.applied(Stream.PERMITS) == 1
    assert "it was replaced or rolled back: compare it with a remembered checkpoint" in again.fault
    again.close()
    once = open_state(path, shorter)
    assert once.fault == ""
    once.close()


@pytest.mark.parametrize(
    "harm",
    [
        "PRAGMA user_version=99",
        "UPDATE stream SET body='{}'",
        "UPDATE stream SET body='[1'",
        "UPDATE task SET body='{\"task\": 3}'",
        "UPDATE permit SET body='null'",
        "DROP TABLE task",
        "CREATE TABLE other(x); DROP TABLE permit; CREATE TABLE permit(x)",
    ],
)
def test_an_index_that_is_not_understood_is_thrown_away(path: Path, harm: str) -> None:
    ledger = MemoryLedger()
    books = Books(open_state(path, ledger), ledger)
    books.write(opened(GRANT, AGENT, NOW), permission(permit()))
    books.state.close()
    connection = sqlite3.connect(path)
    connection.executescript(harm)
    connection.close()
    again = open_state(path, ledger)
    assert [one.id for one in again.unsettled()] == ["p1"]
    assert again.find_grant(GRANT.task) == GRANT
    assert again.fault == ""
    again.close()


def test_where_no_index_can_be_made_the_state_goes_on_without(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    ledger.append(opened(GRANT, AGENT, NOW))
    for path in (tmp_path / "missing" / "state.sqlite", tmp_path / "link"):
        if path.name == "link":
            path.symlink_to(tmp_path / "elsewhere")
        state = open_state(path, ledger)
        assert state.find_grant(GRANT.task) == GRANT
        assert "replayed" in state.fault
        state.flush()
        state.close()
    assert not (tmp_path / "elsewhere").exists(), "a link is not followed"


def test_an_index_that_cannot_be_written_any_more_is_given_up(path: Path) -> None:
    ledger = MemoryLedger()
    state = open_state(path, ledger)
    books = Books(state, ledger)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("DROP TABLE task")
    books.write(opened(GRANT, AGENT, NOW))
    state.flush()
    assert "not kept" in state.fault
    books.write(permission(permit()))
    state.flush()
    assert [one.id for one in state.unsettled()] == ["p1"]
    state.close()
    other.close()


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        open_state(path, MemoryLedger()).close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "opened", "id": "t", "at": 1},
        {"kind": "permitted", "id": "p", "at": 1, "task": "t"},
        {"kind": "settled", "id": "p", "at": 1, "task": "t"},
        {"kind": "closed", "id": "t", "at": 1},
    ],
)
def test_an_entry_that_lacks_what_its_kind_holds_is_tampered(body: dict[str, object]) -> None:
    state = LogState()
    Books(state).write(opened(GRANT, AGENT, NOW))
    with pytest.raises(Tampered, match=r"Entry 1 of permits"):
        state.apply(Written(Position(Stream.PERMITS, 1), body))


def test_a_task_that_is_over_is_forgotten_so_that_memory_does_not_grow(path: Path) -> None:
    ledger = MemoryLedger()
    state = open_state(path, ledger)
    books = Books(state, ledger)
    for number in range(50):
        grant = replace(GRANT, task=f"t{number}")
        one = permit(f"p{number}", task=grant.task)
        books.write(opened(grant, AGENT, NOW), permission(one), closed(grant.task, "x", NOW))
        books.write(settled(one, Fate.DONE, NOW))
    assert not state._trees.tasks
    assert not state._unsettled
    state.close()
    connection = sqlite3.connect(path)
    assert [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("task", "permit")] == [0, 0]
    connection.close()


def test_what_failed_after_it_had_written_is_caught_up_with_and_spends_once() -> None:
    state, ledger = LogState(), MemoryLedger()
    books = Books(state, ledger)
    books.write(opened(LIMITED, AGENT, NOW))
    assert state.reserve(LIMITED, WRITES)
    lost = books.put(permission(permit("lost")))
    state.release(LIMITED, WRITES)  # as the flow does when it is told that the append failed
    assert state.reserve(LIMITED, WRITES)
    running = books.put(permission(permit("running")))
    books.write(settled(permit("other"), Fate.DONE, NOW))
    assert state.behind
    state.catch_up(ledger)
    assert not state.behind
    assert {one.id for one in state.unsettled()} == {"lost", "running"}
    state.apply(running)
    assert [state.reserve(LIMITED, WRITES) for _ in range(2)] == [True, False]
    assert lost.position.index == 1


def test_a_delegation_that_failed_after_it_had_written_is_caught_up_with_and_counts_once() -> None:
    state, ledger = LogState(), MemoryLedger()
    books = Books(state, ledger)
    books.write(opened(ROOT, HOLDER, NOW))
    assert state.reserve(ROOT, ONE_MORE)
    late = books.put(opened(CHILD, HELPER, NOW))
    books.write(settled(permit("other"), Fate.DONE, NOW))
    state.catch_up(ledger)
    assert state.find_grant(CHILD.task) == CHILD
    state.apply(late)
    assert [state.reserve(ROOT, ONE_MORE) for _ in range(2)] == [True, False]


def test_trees_and_what_instances_have_seen_survive_without_the_log_being_read_again(path: Path) -> None:
    ledger = MemoryLedger()
    books = Books(open_state(path, ledger), ledger)
    books.write(opened(ROOT, HOLDER, NOW), opened(CHILD, HELPER, NOW))
    learns(books, CHILD.task, HELPER)
    books.state.close()
    again = open_state(path, ledger)
    assert (again.find_grant(CHILD.task), again.labels(ROOT.task)) == (CHILD, SECRET)
    assert [again.reserve(CHILD, WRITES) for _ in range(2)] == [True, False]
    rest = Books(again, ledger)
    rest.write(closed(ROOT.task, "revoked", NOW))
    assert again.find_grant(CHILD.task) is None
    rest.write(opened(replace(ROOT, task="next"), HOLDER, NOW))
    assert again.labels("next") == SECRET
    again.close()


@pytest.mark.parametrize("used", [{"rows": -1}, {"write": 1}, {"rows": "many"}, []])
def test_an_outcome_that_used_what_nothing_can_use_is_tampered(used: object) -> None:
    state = LogState()
    books = Books(state)
    books.write(opened(GRANT, AGENT, NOW), permission(permit()))
    body = {**books.put(settled(permit(), Fate.DONE, NOW)).body, "used": used}
    with pytest.raises(Tampered, match=r"Entry 2 of permits"):
        state.apply(Written(Position(Stream.PERMITS, 2), body))


def test_a_tree_that_is_over_is_forgotten_as_a_whole() -> None:
    state = LogState()
    books = Books(state)
    books.write(opened(ROOT, HOLDER, NOW), opened(CHILD, HELPER, NOW), permission(permit("p1", CHILD.task)))
    books.write(closed(CHILD.task, "failed", NOW), closed(ROOT.task, "failed", NOW))
    assert set(state._trees.tasks) == {ROOT.task, CHILD.task}, "one of its permits has no outcome yet"
    books.write(settled(permit("p1", CHILD.task), Fate.DONE, NOW))
    trees = state._trees
    assert [trees.tasks, trees._members, trees._below, trees._held] == [{}] * 4
