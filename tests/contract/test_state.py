"""What every `port.State` has to do, whatever it is made of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.adapter.store.state import LogState, open_state
from forestall.core.effects import Effect
from forestall.core.entry import Entry, Stream, closed, opened, permitted, settled
from forestall.core.label import CLEAN, WORST, Confidentiality, Integrity, Label
from forestall.core.model import Fate, Grant, Permit
from forestall.port import Ledger, State, Written
from forestall.testing.ledger import MemoryLedger
from forestall.testing.world import AGENT, GRANT, NOW, TOOL, action, facts

WRITES = frozenset({Effect.WRITE})
LIMITED = replace(GRANT, effects=frozenset(Effect), budget={Effect.WRITE: 3})
SECRET = Label(Integrity.UNTRUSTED, Confidentiality.SECRET)


@pytest.fixture(params=["memory", "index"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    made = LogState() if request.param == "memory" else open_state(tmp_path / "state.sqlite", MemoryLedger())
    yield made
    made.close()


def permit(name: str = "p1", task: str = GRANT.task, output: Label = CLEAN) -> Permit:
    return Permit(name, task, TOOL.id, TOOL.pin, "sha256:0", WRITES, output, ("one",), "sha256:1", NOW + 10_000)


def permission(of: Permit, *, durable: bool = True) -> Entry:
    asked = replace(action(), id=of.id, task=of.task)
    known = replace(facts(), effects=of.effects)
    return permitted(of, asked, AGENT, known, durable=durable)


class Books:
    """A ledger that everything goes into, and from there into the state."""

    def __init__(self, state: State, ledger: Ledger | None = None) -> None:
        self.state = state
        self.ledger = MemoryLedger() if ledger is None else ledger

    def write(self, *entries: Entry) -> list[Written]:
        return [self.take(self.put(entry)) for entry in entries]

    def put(self, entry: Entry) -> Written:
        position = self.ledger.append(entry)
        return next(self.ledger.read(position.stream, position.index))

    def take(self, written: Written) -> Written:
        self.state.apply(written)
        return written


def test_a_task_is_known_from_opened_to_closed(state: State) -> None:
    books = Books(state)
    assert state.find_grant(GRANT.task) is None
    books.write(opened(GRANT, AGENT, NOW))
    assert state.find_grant(GRANT.task) == GRANT
    books.write(closed(GRANT.task, "completed", NOW))
    assert state.find_grant(GRANT.task) is None


def test_a_task_starts_clean_and_one_that_is_not_known_is_the_worst(state: State) -> None:
    Books(state).write(opened(GRANT, AGENT, NOW))
    assert state.labels(GRANT.task) == CLEAN
    assert state.labels("another") == WORST


@pytest.mark.parametrize("fate", list(Fate))
def test_labels_join_what_a_call_may_have_put_out(state: State, fate: Fate) -> None:
    secret = permit(output=SECRET)
    Books(state).write(opened(GRANT, AGENT, NOW), permission(secret), settled(secret, fate, NOW))
    assert state.labels(GRANT.task) == (CLEAN if fate is Fate.NOT_STARTED else SECRET)


def test_a_permit_is_unsettled_until_it_is_settled(state: State) -> None:
    books = Books(state)
    books.write(opened(GRANT, AGENT, NOW), permission(permit("a")), permission(permit("b")))
    assert {one.id for one in state.unsettled()} == {"a", "b"}
    books.write(settled(permit("a"), Fate.DONE, NOW))
    (left,) = state.unsettled()
    assert (left.id, left.task, left.tool, left.effects) == ("b", GRANT.task, TOOL.id, WRITES)
    assert left.output == CLEAN


def test_a_permit_of_a_closed_task_is_still_unsettled(state: State) -> None:
    books = Books(state)
    books.write(opened(GRANT, AGENT, NOW), permission(permit()), closed(GRANT.task, "completed", NOW))
    assert [one.id for one in state.unsettled()] == ["p1"]
    books.write(settled(permit(), Fate.AMBIGUOUS, NOW))
    assert not state.unsettled()


def test_a_budget_is_reserved_once_a_call_and_no_further(state: State) -> None:
    Books(state).write(opened(LIMITED, AGENT, NOW))
    assert [state.reserve(LIMITED, WRITES) for _ in range(5)] == [True] * 3 + [False] * 2
    assert state.reserve(LIMITED, frozenset({Effect.READ})), "an effect without a limit is not limited"


def test_all_effects_are_reserved_or_none(state: State) -> None:
    grant = replace(LIMITED, budget={Effect.WRITE: 1, Effect.EXTERNAL: 2})
    Books(state).write(opened(grant, AGENT, NOW))
    both = frozenset({Effect.WRITE, Effect.EXTERNAL})
    assert state.reserve(grant, both)
    assert not state.reserve(grant, both)
    assert state.reserve(grant, frozenset({Effect.EXTERNAL}))


def test_what_is_released_can_be_reserved_again(state: State) -> None:
    Books(state).write(opened(LIMITED, AGENT, NOW))
    assert all(state.reserve(LIMITED, WRITES) for _ in range(3))
    state.release(LIMITED, WRITES)
    assert state.reserve(LIMITED, WRITES)
    assert not state.reserve(LIMITED, WRITES)


def test_a_recorded_permit_is_spending_and_never_comes_back(state: State) -> None:
    books = Books(state)
    books.write(opened(LIMITED, AGENT, NOW))
    for name in "abc":
        assert state.reserve(LIMITED, WRITES)
        books.write(permission(permit(name)), settled(permit(name), Fate.NOT_STARTED, NOW))
    assert not state.reserve(LIMITED, WRITES)
    state.release(LIMITED, WRITES)
    assert not state.reserve(LIMITED, WRITES), "nothing was reserved, so nothing is given back"


def test_a_task_that_is_not_open_reserves_nothing(state: State) -> None:
    assert not state.reserve(LIMITED, WRITES)
    Books(state).write(opened(LIMITED, AGENT, NOW), closed(LIMITED.task, "completed", NOW))
    assert not state.reserve(LIMITED, WRITES)
    state.release(LIMITED, WRITES)


def test_the_budget_that_was_opened_counts_not_the_one_that_is_shown(state: State) -> None:
    Books(state).write(opened(LIMITED, AGENT, NOW))
    generous = replace(LIMITED, budget={})
    assert [state.reserve(generous, WRITES) for _ in range(4)] == [True] * 3 + [False]


def test_threads_never_reserve_more_than_there_is(state: State) -> None:
    grant = replace(LIMITED, budget={Effect.WRITE: 50})
    Books(state).write(opened(grant, AGENT, NOW))
    got: list[bool] = []
    threads = [
        threading.Thread(target=lambda: got.extend(state.reserve(grant, WRITES) for _ in range(20))) for _ in "12345"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(got) == 50


def test_an_entry_counts_once(state: State) -> None:
    books = Books(state)
    (first,) = books.write(opened(LIMITED, AGENT, NOW))
    assert state.reserve(LIMITED, WRITES)
    (second,) = books.write(permission(permit()))
    for written in (first, second, second):
        state.apply(written)
    assert state.applied(Stream.PERMITS) == 2
    assert [state.reserve(LIMITED, WRITES) for _ in range(3)] == [True, True, False]


def test_streams_are_counted_apart(state: State) -> None:
    Books(state).write(opened(GRANT, AGENT, NOW))
    assert (state.applied(Stream.PERMITS), state.applied(Stream.DENIALS)) == (1, 0)


STEPS = st.lists(st.tuples(st.sampled_from(["permit", "settle", "close"]), st.integers(0, 4)), max_size=14)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(STEPS, st.data())
def test_in_whatever_order_answers_come_and_wherever_it_restarts_the_end_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    """The state by way of memory, by way of an index that was cut off anywhere, and by replay alone are one."""
    ledger = MemoryLedger()
    books = Books(LogState(), ledger)
    written = [books.put(opened(LIMITED, AGENT, NOW))]
    written += [books.put(entry) for entry in _entries(steps)]
    path = tmp_path_factory.mktemp("s") / "state.sqlite"
    half = open_state(path, MemoryLedger())
    order = _causal(data.draw(st.permutations(written[1:])))
    for entry in [written[0], *order[: data.draw(st.integers(0, len(order)))]]:
        half.apply(entry)
    half.close()
    whole = open_state(path, ledger)
    plain = LogState()
    for entry in written:
        plain.apply(entry)
    assert _picture(whole, LIMITED) == _picture(plain, LIMITED)
    whole.close()


def _entries(steps: list[tuple[str, int]]) -> Iterator[Entry]:
    """A history that can have happened: each permit once, each settled after it, the task closed last."""
    out: set[int] = set()
    done: set[int] = set()
    for kind, number in steps:
        one = permit(f"p{number}", output=SECRET if number == 3 else CLEAN)
        if kind == "permit" and number not in out:
            out.add(number)
            yield permission(one)
        elif kind == "settle" and number in out - done:
            done.add(number)
            yield settled(one, Fate.DONE, NOW)
    if ("close", 0) in steps:
        yield closed(LIMITED.task, "completed", NOW)


def _causal(order: list[Written]) -> list[Written]:
    """The nearest order that can happen: a permit before its outcome, and both before the end of their task."""
    rank = {"permitted": 0, "settled": 1}
    places: dict[str, list[int]] = {}
    for place, written in enumerate(order):
        if written.body["kind"] != "closed":
            places.setdefault(written.body["id"], []).append(place)
    sorted_ = list(order)
    for held in places.values():
        for place, written in zip(
            held, sorted((order[i] for i in held), key=lambda w: rank[w.body["kind"]]), strict=True
        ):
            sorted_[place] = written
    return sorted(sorted_, key=lambda written: written.body["kind"] == "closed")


def _picture(state: LogState, grant: Grant) -> object:
    open_, labels = state.find_grant(grant.task), state.labels(grant.task)
    left = [state.reserve(grant, WRITES) for _ in range(4)] if open_ else []
    return open_, labels, sorted(one.id for one in state.unsettled()), left, state.applied(Stream.PERMITS)
