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
from forestall.adapter.store.tree import MAX_KILLED
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.effects import Effect
from forestall.core.entry import Entry, Stream, closed, extended, leased, opened, ordered, permitted, revoked, settled
from forestall.core.fate import Fate
from forestall.core.label import CLEAN, WORST, Confidentiality, Integrity, Label
from forestall.core.model import Grant, Permit, Risk, Scope, Secret, Subject
from forestall.core.place import Place, Where
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.port import Ledger, State, Written
from forestall.testing.ledger import MemoryLedger
from forestall.testing.world import AGENT, GRANT, LEASE, NOW, PERMITTED, TOOL, action, facts

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


# -- trees


HOLDER = replace(AGENT, instance="i-1")
HELPER = replace(AGENT, id="helper", instance="i-2")
ROOT = replace(LIMITED, instance="i-1", budget={Effect.WRITE: 3, Quantity.FAN_OUT: 2}, max_depth=3)
CHILD = replace(
    ROOT,
    task="child",
    holder="helper",
    instance="i-2",
    parent=ROOT.task,
    root=ROOT.task,
    depth=1,
    budget={Effect.WRITE: 2},
)
GRANDCHILD = replace(CHILD, task="grandchild", holder="third", instance="", parent="child", depth=2, budget={})
ONE_MORE = frozenset({Quantity.FAN_OUT})


def tree(state: State) -> Books:
    books = Books(state)
    books.write(opened(ROOT, HOLDER, NOW), opened(CHILD, HELPER, NOW), opened(GRANDCHILD, AGENT, NOW))
    return books


def test_a_task_that_was_handed_on_is_known_with_all_it_has(state: State) -> None:
    tree(state)
    assert [state.find_grant(each.task) for each in (ROOT, CHILD)] == [ROOT, CHILD]


@pytest.mark.parametrize("ends", [ROOT, CHILD, GRANDCHILD])
def test_the_end_of_a_task_is_the_end_of_all_below_it_and_of_nothing_else(state: State, ends: Grant) -> None:
    tree(state).write(closed(ends.task, "revoked", NOW))
    for each in (ROOT, CHILD, GRANDCHILD):
        lives = each.depth < ends.depth
        assert (state.find_grant(each.task) is not None) is lives
        assert state.reserve(each, WRITES) is lives


def test_a_tree_draws_on_one_account_and_each_part_on_its_own(state: State) -> None:
    tree(state)
    assert [state.reserve(GRANDCHILD, WRITES) for _ in range(3)] == [True, True, False], "the child has two"
    assert [state.reserve(ROOT, WRITES) for _ in range(2)] == [True, False], "and the tree has three"
    state.release(GRANDCHILD, WRITES)
    assert state.reserve(CHILD, WRITES)
    assert not state.reserve(ROOT, WRITES)


def test_what_a_task_spent_stays_spent_when_it_ends(state: State) -> None:
    books = tree(state)
    one = permit("p1", "child")
    assert state.reserve(CHILD, WRITES)
    books.write(permission(one), settled(one, Fate.DONE, NOW), closed("child", "completed", NOW))
    assert [state.reserve(ROOT, WRITES) for _ in range(3)] == [True, True, False]


def test_a_delegation_takes_fan_out_of_every_task_above(state: State) -> None:
    books = Books(state)
    books.write(opened(ROOT, HOLDER, NOW))
    assert [state.reserve(ROOT, ONE_MORE) for _ in range(3)] == [True, True, False]
    state.release(ROOT, ONE_MORE)
    books.write(opened(CHILD, HELPER, NOW))
    assert state.reserve(CHILD, ONE_MORE)
    assert not state.reserve(ROOT, ONE_MORE)


def test_threads_of_several_tasks_never_take_more_than_the_tree_has(state: State) -> None:
    root = replace(ROOT, budget={Effect.WRITE: 40})
    below = [replace(CHILD, task=f"c{number}", budget={Effect.WRITE: 15}) for number in range(4)]
    Books(state).write(opened(root, HOLDER, NOW), *(opened(each, HELPER, NOW) for each in below))
    got: dict[str, list[bool]] = {each.task: [] for each in below}
    threads = [
        threading.Thread(target=lambda each=each: got[each.task].extend(state.reserve(each, WRITES) for _ in range(20)))
        for each in below
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(sum(each) for each in got.values()) == 40
    assert max(sum(each) for each in got.values()) <= 15


ROWS = replace(LIMITED, budget={Quantity.ROWS: 25}, per_call={Quantity.ROWS: 10})


@pytest.mark.parametrize(
    ("fate", "used", "left"),
    [
        (Fate.DONE, {Quantity.ROWS: 0}, 2),
        (Fate.DONE, {Quantity.ROWS: 4}, 2),
        (Fate.DONE, {Quantity.ROWS: 6}, 1),
        (Fate.FAILED, {}, 1),
        (Fate.AMBIGUOUS, {}, 1),
        (Fate.NOT_STARTED, {}, 2),
        (Fate.DONE, {Quantity.ROWS: 16}, 0),
        (Fate.DONE, {Quantity.BYTES: 10**9}, 1),
        (Fate.DONE, {Quantity.ROWS: -5}, 2),
    ],
)
def test_a_call_reserves_the_most_it_may_use_and_gives_back_what_it_did_not(
    state: State, fate: Fate, used: dict[Quantity, int], left: int
) -> None:
    books = Books(state)
    books.write(opened(ROWS, AGENT, NOW))
    assert [state.reserve(ROWS, WRITES) for _ in range(3)] == [True, True, False]
    state.release(ROWS, WRITES)
    books.write(permission(permit()), settled(permit(), fate, NOW, used=used))
    assert [state.reserve(ROWS, WRITES) for _ in range(3)] == [True] * left + [False] * (3 - left)


@pytest.mark.parametrize(
    ("took_ms", "calls"), [(-5, 3), (0, 3), (1, 2), (3_000, 2), (3_001, 1), (6_000, 1), (6_001, 0), (99_000, 0)]
)
def test_seconds_are_counted_from_the_log(state: State, took_ms: int, calls: int) -> None:
    grant = replace(LIMITED, budget={Quantity.SECONDS: 9}, per_call={Quantity.SECONDS: 3})
    books = Books(state)
    books.write(opened(grant, AGENT, NOW), permission(permit()), settled(permit(), Fate.DONE, NOW + took_ms))
    assert sum(state.reserve(grant, WRITES) for _ in range(5)) == calls


def test_an_extension_makes_a_task_longer_and_never_shorter(state: State) -> None:
    books = tree(state)
    later = ROOT.expires_at + 5_000
    books.write(
        extended(ROOT.task, later, HOLDER, NOW, PERMITTED), extended(ROOT.task, later - 1, HOLDER, NOW, PERMITTED)
    )
    found = state.find_grant(ROOT.task)
    assert found is not None
    assert found.expires_at == later
    books.write(closed(ROOT.task, "completed", NOW), extended(ROOT.task, later + 1, HOLDER, NOW, PERMITTED))
    assert state.find_grant(ROOT.task) is None


def test_nothing_is_revived_below_a_task_that_has_ended(state: State) -> None:
    books = Books(state)
    books.write(opened(ROOT, HOLDER, NOW), closed(ROOT.task, "revoked", NOW), opened(CHILD, HELPER, NOW))
    assert state.find_grant("child") is None
    assert not state.reserve(CHILD, WRITES)
    books.write(opened(replace(CHILD, task="orphan", parent="never"), HELPER, NOW))
    assert state.find_grant("orphan") is None


def test_a_task_of_a_tree_is_not_opened_twice(state: State) -> None:
    books = tree(state)
    books.write(closed("child", "revoked", NOW), opened(CHILD, HELPER, NOW))
    assert state.find_grant("child") is None
    books.write(opened(replace(ROOT, budget={}), HOLDER, NOW))
    assert [state.reserve(ROOT, WRITES) for _ in range(4)] == [True] * 3 + [False]


def test_a_delegation_that_is_answered_after_the_end_above_opens_nothing(state: State) -> None:
    books = Books(state)
    books.write(opened(ROOT, HOLDER, NOW))
    assert state.reserve(ROOT, ONE_MORE)
    late = books.put(opened(CHILD, HELPER, NOW))
    books.write(closed(ROOT.task, "revoked", NOW))
    books.take(late)
    assert state.find_grant("child") is None


# -- may it start?


def test_a_permit_stands_from_its_record_to_its_outcome_while_its_task_lives(state: State) -> None:
    books = tree(state)
    one = permit("p1", "grandchild")
    assert not state.stands("p1", NOW)
    books.write(permission(one))
    assert state.stands("p1", NOW)
    assert not state.stands("p1", one.expires_at)
    books.write(settled(one, Fate.DONE, NOW))
    assert not state.stands("p1", NOW)


@pytest.mark.parametrize("ends", ["task-1", "child", "grandchild"])
@pytest.mark.parametrize("before", [True, False])
def test_once_a_task_above_has_ended_no_permit_stands(state: State, ends: str, before: bool) -> None:
    """Whether the permit was recorded before the end or after it."""
    books = tree(state)
    entries = [permission(permit("p1", "grandchild")), closed(ends, "revoked", NOW)]
    assert state.reserve(GRANDCHILD, WRITES)
    books.write(*(entries if before else reversed(entries)))
    assert not state.stands("p1", NOW)
    assert [one.id for one in state.unsettled()] == ["p1"]


def test_no_permit_stands_when_a_task_above_is_out_of_time(state: State) -> None:
    root = replace(ROOT, expires_at=NOW + 5)
    Books(state).write(opened(root, HOLDER, NOW), opened(CHILD, HELPER, NOW), permission(permit("p1", "child")))
    assert state.stands("p1", NOW + 4)
    assert not state.stands("p1", NOW + 5)


# -- labels


def learns(books: Books, task: str, subject: Subject, name: str = "p9") -> None:
    one = permit(name, task, SECRET)
    asked = replace(action(), id=one.id, task=one.task)
    known = replace(facts(), effects=one.effects)
    books.write(permitted(one, asked, subject, known, durable=True), settled(one, Fate.DONE, NOW))


def test_what_a_task_learns_is_known_above_and_not_beside(state: State) -> None:
    books = tree(state)
    beside = replace(CHILD, task="beside", instance="i-3", holder="other")
    books.write(opened(beside, replace(HELPER, id="other", instance="i-3"), NOW))
    learns(books, "grandchild", replace(AGENT, id="third"))
    assert [state.labels(each) for each in (ROOT.task, "child", "grandchild", "beside")] == [SECRET] * 3 + [CLEAN]


def test_closing_a_tainted_task_and_opening_a_clean_one_launders_nothing(state: State) -> None:
    books = Books(state)
    books.write(opened(ROOT, HOLDER, NOW))
    learns(books, ROOT.task, HOLDER)
    books.write(closed(ROOT.task, "completed", NOW), opened(replace(ROOT, task="again"), HOLDER, NOW))
    assert state.labels("again") == SECRET
    fresh = replace(HOLDER, instance="i-fresh")
    books.write(opened(replace(ROOT, task="fresh", instance="i-fresh"), fresh, NOW))
    assert state.labels("fresh") == CLEAN


def test_what_an_instance_has_seen_is_known_before_it_opens_its_next_task(state: State) -> None:
    books = Books(state)
    assert state.seen("i-1") == CLEAN
    books.write(opened(replace(ROOT, task="first"), HOLDER, NOW, WORST))
    assert state.seen("i-1") == WORST
    books.write(closed("first", "completed", NOW))
    assert state.seen("i-1") == WORST
    assert state.seen("i-2") == CLEAN
    books.write(opened(replace(ROOT, task="nobody", instance=""), replace(HOLDER, instance=""), NOW, WORST))
    assert state.seen("") == CLEAN


def test_what_an_instance_learns_in_one_task_it_knows_in_its_others(state: State) -> None:
    books = Books(state)
    books.write(opened(ROOT, HOLDER, NOW), opened(replace(ROOT, task="other"), HOLDER, NOW))
    learns(books, ROOT.task, HOLDER)
    assert state.labels("other") == SECRET


def test_what_a_helper_learnt_elsewhere_reaches_whoever_it_works_for(state: State) -> None:
    books = Books(state)
    own = replace(ROOT, task="own", instance="i-2", holder="helper")
    books.write(opened(ROOT, HOLDER, NOW), opened(CHILD, HELPER, NOW), opened(own, HELPER, NOW))
    learns(books, "own", HELPER)
    assert state.labels(ROOT.task) == SECRET
    books.write(opened(replace(ROOT, task="next"), HOLDER, NOW))
    assert state.labels("next") == SECRET, "its own instance was told"


def test_a_tainted_helper_taints_the_task_above_when_it_is_given_work(state: State) -> None:
    books = Books(state)
    own = replace(ROOT, task="own", instance="i-2", holder="helper")
    books.write(opened(own, HELPER, NOW))
    learns(books, "own", HELPER)
    books.write(closed("own", "completed", NOW), opened(ROOT, HOLDER, NOW))
    assert state.labels(ROOT.task) == CLEAN
    books.write(opened(CHILD, HELPER, NOW))
    assert [state.labels(each) for each in ("child", ROOT.task)] == [SECRET, SECRET]


def test_what_was_told_when_a_task_was_opened_its_instance_knows(state: State) -> None:
    books = Books(state)
    books.write(opened(ROOT, HOLDER, NOW), opened(CHILD, HELPER, NOW, SECRET), closed("child", "completed", NOW))
    books.write(opened(replace(ROOT, task="own", holder="helper", instance="i-2"), HELPER, NOW))
    assert state.labels("own") == SECRET


def test_an_outcome_after_the_end_still_reaches_the_instance(state: State) -> None:
    books = Books(state)
    one = permit("p1", ROOT.task, SECRET)
    asked, known = replace(action(), id="p1"), replace(facts(), effects=WRITES)
    books.write(opened(ROOT, HOLDER, NOW), permitted(one, asked, HOLDER, known, durable=True))
    books.write(closed(ROOT.task, "failed", NOW), settled(one, Fate.AMBIGUOUS, NOW))
    books.write(opened(replace(ROOT, task="again"), HOLDER, NOW))
    assert state.labels("again") == SECRET


def test_under_a_permit_that_came_after_the_end_only_whoever_asked_learns(state: State) -> None:
    """It did not stand, so that nothing of it can have gone up; what its asker saw all the same stays with it."""
    books = tree(state)
    books.write(closed("child", "revoked", NOW))
    learns(books, "child", HELPER)
    assert state.labels(ROOT.task) == CLEAN
    books.write(opened(replace(ROOT, task="own", holder="helper", instance="i-2"), HELPER, NOW))
    assert state.labels("own") == SECRET


LABELS = [Label(integrity, level) for integrity in Integrity for level in Confidentiality]
ASKERS = [HOLDER, HELPER, AGENT, replace(AGENT, instance="", process="i-1"), replace(HELPER, process="i-3")]
OWN = replace(ROOT, task="own", instance="i-3", holder="other")
INSTANCES = ("i-1", "i-2", "i-3", "i-4")
knowledge = st.tuples(st.sampled_from(["task", "child", "grandchild", "own"]), st.sampled_from(ASKERS))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(knowledge, st.sampled_from(LABELS)), max_size=4),
    knowledge,
    st.sampled_from(LABELS),
    st.sampled_from(["", "child", "own"]),
)
def test_an_output_adds_nothing_exactly_where_its_outcome_changes_no_label(
    before: list[tuple[tuple[str, Subject], Label]], asked: tuple[str, Subject], output: Label, ended: str
) -> None:
    state = LogState()
    books = tree(state)
    books.write(opened(OWN, replace(AGENT, id="other", instance="i-3"), NOW))
    for number, ((task, asker), label) in enumerate(before):
        one = permit(f"before{number}", name_of(task), label)
        books.write(permission_of(one, asker), settled(one, Fate.DONE, NOW))
    if ended:
        books.write(closed(ended, "completed", NOW))
    one = permit("now", name_of(asked[0]), output)
    books.write(permission_of(one, asked[1]))
    adds_nothing, known = state.adds_nothing("now"), labels_of(state)
    books.write(settled(one, Fate.DONE, NOW))
    if adds_nothing:
        assert labels_of(state) == known
    elif not ended:
        assert labels_of(state) != known


def name_of(task: str) -> str:
    return ROOT.task if task == "task" else task


def permission_of(of: Permit, asker: Subject) -> Entry:
    asked = replace(action(), id=of.id, task=of.task)
    return permitted(of, asked, asker, replace(facts(), effects=of.effects), durable=True)


def labels_of(state: LogState) -> list[Label]:
    """Of everybody, and of what each instance would open next."""
    tasks = [state.labels(each) for each in (ROOT.task, "child", "grandchild", "own")]
    return tasks + [state.seen(instance) for instance in INSTANCES]


def test_of_a_permit_that_is_not_out_it_is_not_known_that_it_adds_nothing(state: State) -> None:
    books = Books(state)
    books.write(opened(GRANT, AGENT, NOW))
    assert not state.adds_nothing("p1")
    books.write(permission(permit()))
    assert state.adds_nothing("p1")
    books.write(settled(permit(), Fate.DONE, NOW))
    assert not state.adds_nothing("p1")


# -- upstream


def test_a_task_knows_which_tasks_above_it_have_something_undecided(state: State) -> None:
    tree(state)
    assert state.undecided_above("grandchild") == ()
    state.asked("a", ROOT.task)
    state.asked("b", "child")
    state.asked("c", "child")
    state.asked("own", "grandchild")
    assert state.undecided_above("grandchild") == ("child", ROOT.task)
    assert state.undecided_above("child") == (ROOT.task,)
    assert state.undecided_above(ROOT.task) == ()
    state.answered("b")
    assert state.undecided_above("grandchild") == ("child", ROOT.task)
    state.answered("c")
    state.answered("c")
    state.answered("never asked")
    assert state.undecided_above("grandchild") == (ROOT.task,)


def test_an_action_is_counted_once_and_moves_with_its_task(state: State) -> None:
    tree(state)
    state.asked("a", ROOT.task)
    state.asked("a", "child")
    assert state.undecided_above("grandchild") == ("child",)
    state.answered("a")
    assert state.undecided_above("grandchild") == ()


def test_what_a_task_that_is_over_asked_for_is_not_waited_for(state: State) -> None:
    books = tree(state)
    state.asked("a", "grandchild")
    state.asked("b", "child")
    books.write(closed("child", "failed", NOW))
    state.asked("late", "child")
    books.write(opened(replace(CHILD, task="child-2"), HELPER, NOW))
    assert state.undecided_above("child-2") == ()
    assert state.undecided_above("grandchild") == ()


def test_whoever_waits_for_what_is_above_is_woken_once_when_it_is_settled(state: State) -> None:
    books = tree(state)
    woken: list[str] = []

    def wake() -> None:
        woken.append("once")

    assert not state.watch_above("grandchild", wake), "there is nothing to wait for"
    for asked, task in (("a", ROOT.task), ("b", "child"), ("own", "grandchild")):
        state.asked(asked, task)
    assert state.watch_above("grandchild", wake)
    state.answered("own")
    state.answered("a")
    assert not woken
    state.answered("b")
    assert woken == ["once"]
    state.asked("a", ROOT.task)
    state.answered("a")
    assert woken == ["once"], "it asked once"
    state.asked("c", "child")
    assert state.watch_above("grandchild", wake)
    books.write(closed("child", "failed", NOW))
    assert woken == ["once", "once"], "what is over is not waited for"
    state.asked("d", ROOT.task)
    books.write(opened(replace(CHILD, task="child-2"), HELPER, NOW))
    assert state.watch_above("child-2", wake)
    state.unwatch(wake)
    state.answered("d")
    assert woken == ["once", "once"]


# -- orders


ALICE = replace(GRANT, task="alices", user="alice", tenant="t", trust_domain="one.example", holder="planner")
BOB = replace(ALICE, task="bobs", user="bob", holder="another", trust_domain="two.example")
OTHERS = replace(ALICE, task="of-another-tenant", tenant="u")
UNDER_ALICE = replace(ALICE, task="under", parent="alices", root="alices", depth=1, holder="helper")
UNDER_ALICE = replace(UNDER_ALICE, actors=(("one.example", "helper"), ("one.example", "planner")))
GRANTS = (ALICE, BOB, OTHERS, UNDER_ALICE)


def holder_of(grant: Grant) -> Subject:
    return Subject(grant.holder, AGENT.assurance, tenant=grant.tenant, trust_domain=grant.trust_domain)


def says(kind: str, target: Target, level: Risk | None = None, why: str = "it went wrong") -> Entry:
    return ordered(Command(Order(kind), target, why, "uid/0", level), f"order-{kind}", NOW)


def crowd(state: State) -> Books:
    books = Books(state)
    books.write(*(opened(grant, holder_of(grant), NOW) for grant in GRANTS))
    return books


def stopped(state: State) -> dict[str, Reason | None]:
    return {grant.task: state.stopped(grant.task) for grant in GRANTS}


def meant(target: Target) -> set[str]:
    """Said once more, from the words of the order and not from the code."""
    match target.reach, target.name:
        case Reach.EVERYTHING, _:
            return {grant.task for grant in GRANTS}
        case Reach.TASK, name:
            return {name, "under"} if name == "alices" else {name}
        case (Reach.AGENT, "planner") | (Reach.USER, "alice") | (Reach.TRUST_DOMAIN, "one.example"):
            return {"alices", "under"} if target.tenant == "t" else {"of-another-tenant"}
        case Reach.AGENT, "helper":
            return {"under"}
    raise AssertionError(target)


TARGETS = [
    Target(Reach.TASK, "alices"),
    Target(Reach.TASK, "under", tenant="t"),
    Target(Reach.AGENT, "planner", "one.example", "t"),
    Target(Reach.AGENT, "planner", "one.example", "u"),
    Target(Reach.AGENT, "helper", "one.example", "t"),
    Target(Reach.USER, "alice", tenant="t"),
    Target(Reach.USER, "alice", tenant="u"),
    Target(Reach.TRUST_DOMAIN, "one.example", tenant="t"),
    Target(Reach.EVERYTHING),
    Target(Reach.EVERYTHING, "", "ignored", "ignored"),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_kill_ends_what_it_covers_and_all_below_and_nothing_else(state: State, target: Target) -> None:
    books = crowd(state)
    books.write(*(permission(permit(grant.task, grant.task)) for grant in GRANTS))
    assert all(state.stands(grant.task, NOW) for grant in GRANTS)
    books.write(says("kill", target))
    gone = meant(target)
    assert stopped(state) == {grant.task: Reason.REVOKED if grant.task in gone else None for grant in GRANTS}
    for grant in GRANTS:
        assert (state.find_grant(grant.task) is None) is (grant.task in gone)
        assert state.stands(grant.task, NOW) is (grant.task not in gone)
        assert state.reserve(grant, WRITES) is (grant.task not in gone)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_suspension_stops_what_it_covers_and_all_below_until_it_is_resumed(state: State, target: Target) -> None:
    books = crowd(state)
    books.write(*(permission(permit(grant.task, grant.task)) for grant in GRANTS), says("suspend", target))
    held_back = meant(target)
    assert stopped(state) == {grant.task: Reason.SUSPENDED if grant.task in held_back else None for grant in GRANTS}
    for grant in GRANTS:
        assert state.find_grant(grant.task) == grant, "it is not over"
        assert state.stands(grant.task, NOW) is (grant.task not in held_back)
    books.write(says("resume", Target(Reach.USER, "somebody else", tenant="t")))
    assert Reason.SUSPENDED in stopped(state).values(), "that was another target"
    books.write(says("resume", target))
    assert not any(stopped(state).values())
    assert all(state.stands(grant.task, NOW) for grant in GRANTS)


def test_a_task_by_its_id_is_of_whatever_tenant_unless_the_order_names_one(state: State) -> None:
    books = crowd(state)
    books.write(says("kill", Target(Reach.TASK, "bobs", tenant="u")))
    assert state.stopped("bobs") is None
    books.write(says("kill", Target(Reach.TASK, "bobs")))
    assert state.stopped("bobs") is Reason.REVOKED


STANDING = [target for target in TARGETS if target.reach is not Reach.TASK]


@pytest.mark.parametrize("kind", ["kill", "suspend"])
@pytest.mark.parametrize("target", STANDING, ids=str)
def test_what_is_opened_after_a_standing_order_never_lives(state: State, kind: str, target: Target) -> None:
    books = Books(state)
    books.write(says(kind, target), *(opened(grant, holder_of(grant), NOW) for grant in GRANTS))
    dead = meant(target)
    assert {grant.task for grant in GRANTS if state.find_grant(grant.task) is None} == dead
    for grant in (ALICE, BOB, OTHERS):
        reason = Reason.REVOKED if kind == "kill" else Reason.SUSPENDED
        expected = reason if grant.task in dead else None
        assert state.barred(holder_of(grant), grant.user) is expected
    if kind == "kill":
        assert {grant.task for grant in GRANTS if state.stopped(grant.task) is Reason.REVOKED} == dead
    books.write(says("resume", target))
    assert not any(state.barred(holder_of(grant), grant.user) for grant in GRANTS)
    assert {grant.task for grant in GRANTS if state.find_grant(grant.task) is None} == dead, "it is never revived"
    books.write(opened(replace(ALICE, task="again"), holder_of(ALICE), NOW))
    assert state.find_grant("again") is not None


def test_an_order_about_a_task_keeps_nobody_from_new_ones(state: State) -> None:
    books = crowd(state)
    books.write(says("kill", Target(Reach.TASK, "alices")), says("suspend", Target(Reach.TASK, "bobs")))
    assert not any(state.barred(holder_of(grant), grant.user) for grant in GRANTS)


def test_a_permit_that_is_recorded_after_the_kill_never_stands(state: State) -> None:
    """Nor does one that was recorded before it, and heard of after it."""
    books = crowd(state)
    early = books.put(permission(permit("early", "alices")))
    books.write(says("kill", Target(Reach.TASK, "alices")), permission(permit("late", "alices")))
    books.take(early)
    assert not state.stands("late", NOW)
    assert not state.stands("early", NOW)


@pytest.mark.parametrize("kind", ["kill", "suspend"])
@pytest.mark.parametrize("target", STANDING, ids=str)
def test_what_counts_is_the_place_in_the_log_and_not_when_it_was_heard_of(
    state: State, kind: str, target: Target
) -> None:
    books = Books(state)
    before = books.put(opened(ALICE, holder_of(ALICE), NOW))
    order = books.put(says(kind, target))
    after = books.put(opened(replace(ALICE, task="after"), holder_of(ALICE), NOW))
    for written in (after, order, before):
        books.take(written)
    covered = "alices" in meant(target)
    assert (state.find_grant("after") is None) is covered
    assert state.stopped("alices") is (None if not covered else Reason.REVOKED if kind == "kill" else Reason.SUSPENDED)


def test_a_killed_task_is_revoked_also_when_its_tree_is_forgotten(state: State) -> None:
    books = crowd(state)
    books.write(says("kill", Target(Reach.TASK, "alices")))
    assert "alices" not in {view.task for view in state.tasks()}
    assert state.stopped("alices") is state.stopped("under") is Reason.REVOKED
    books.write(opened(replace(UNDER_ALICE, task="late"), holder_of(UNDER_ALICE), NOW))
    assert state.stopped("late") is Reason.REVOKED, "what came below it afterwards"
    books.write(closed("bobs", "completed", NOW), says("kill", Target(Reach.TASK, "bobs")))
    assert state.stopped("bobs") is None, "it had ended by itself"


def test_so_many_killed_tasks_are_remembered_and_no_more(state: State) -> None:
    books = Books(state)
    for number in range(MAX_KILLED + 1):
        one = replace(GRANT, task=f"k{number}")
        books.write(opened(one, AGENT, NOW), says("kill", Target(Reach.TASK, one.task)))
    assert state.stopped("k0") is None
    assert state.find_grant("k0") is None, "denied all the same"
    assert state.stopped("k1") is state.stopped(f"k{MAX_KILLED}") is Reason.REVOKED


def test_risk_is_the_highest_that_is_said_of_a_task_or_above_it(state: State) -> None:
    books = crowd(state)
    assert state.risk(UNDER_ALICE) is Risk.LOW
    alice, planner = Target(Reach.USER, "alice", tenant="t"), Target(Reach.AGENT, "planner", "one.example", "t")
    books.write(says("risk", alice, Risk.MEDIUM))
    assert [state.risk(grant) for grant in GRANTS] == [Risk.MEDIUM, Risk.LOW, Risk.LOW, Risk.MEDIUM]
    books.write(says("risk", planner, Risk.HIGH), says("risk", Target(Reach.TASK, "bobs"), Risk.HIGH))
    assert [state.risk(grant) for grant in GRANTS] == [Risk.HIGH, Risk.HIGH, Risk.LOW, Risk.HIGH]
    books.write(says("risk", planner, Risk.LOW), says("resume", alice))
    assert [state.risk(grant) for grant in GRANTS] == [Risk.MEDIUM, Risk.HIGH, Risk.LOW, Risk.MEDIUM]
    books.write(says("risk", Target(Reach.TASK, "alices"), Risk.HIGH))
    assert state.risk(UNDER_ALICE) is Risk.HIGH, "of the task above it"
    assert state.stopped("alices") is None, "policy says what follows from it"


def test_the_epoch_counts_orders_and_only_them(state: State) -> None:
    books = crowd(state)
    assert state.epoch == 0
    (written,) = books.write(says("suspend", Target(Reach.EVERYTHING)))
    state.apply(written)
    books.write(says("resume", Target(Reach.EVERYTHING)), says("risk", Target(Reach.TASK, "bobs"), Risk.HIGH))
    assert state.epoch == 3


def test_tasks_are_shown_as_they_stand(state: State) -> None:
    books = crowd(state)
    books.write(permission(permit("p1", "alices")), permission(permit("p2", "bobs")))
    books.write(says("suspend", Target(Reach.AGENT, "helper", "one.example", "t"), why="odd calls"))
    books.write(says("kill", Target(Reach.TASK, "bobs")))
    views = {view.task: view for view in state.tasks()}
    assert list(views)[-1] == "under", "those above come first"
    assert {name: view.state.value for name, view in views.items()} == {
        "alices": "open",
        "bobs": "killed",
        "of-another-tenant": "open",
        "under": "suspended",
    }
    under, top = views["under"], views["alices"]
    assert (under.parent, under.root, under.depth, under.user) == ("alices", "alices", 1, "alice")
    assert (under.why, under.since) == ("odd calls", NOW)
    assert (top.why, top.since, top.running) == ("", 0, 1)
    assert (top.budget, top.spent[Effect.WRITE]) == (ALICE.budget, 1)


def test_orders_survive_a_restart_with_and_without_the_index(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    state = open_state(tmp_path / "state.sqlite", ledger)
    books = Books(state, ledger)
    books.write(*(opened(grant, holder_of(grant), NOW) for grant in GRANTS))
    books.write(says("suspend", Target(Reach.AGENT, "helper", "one.example", "t")))
    books.write(
        says("kill", Target(Reach.USER, "bob", tenant="t")), says("risk", Target(Reach.TASK, "alices"), Risk.HIGH)
    )
    books.write(says("suspend", Target(Reach.EVERYTHING)), says("resume", Target(Reach.EVERYTHING)))
    state.close()
    by_index = open_state(tmp_path / "state.sqlite", ledger)
    by_log = open_state(tmp_path / "another.sqlite", ledger)
    for again in (state, by_index, by_log):
        assert stopped(again) == {**dict.fromkeys(stopped(again)), "bobs": Reason.REVOKED, "under": Reason.SUSPENDED}
        assert again.barred(holder_of(BOB), "bob") is Reason.REVOKED
        assert again.barred(holder_of(UNDER_ALICE), "") is Reason.SUSPENDED
        assert again.barred(holder_of(ALICE), "alice") is None
        assert (again.risk(ALICE), again.risk(OTHERS), again.epoch) == (Risk.HIGH, Risk.LOW, 5)
    by_index.close()
    by_log.close()


LENT = replace(LEASE, place=Place(Where.HEADER, "Authorization", ""), exposed=True, standing=True)
SECOND = replace(LEASE, name="forestall-0badcafe-p2", permit="p2", scope=Scope.TASK, task="another")


def test_a_credential_may_be_alive_from_its_record_until_that_of_its_end(state: State) -> None:
    books = Books(state)
    assert state.leases() == []
    books.write(leased(LENT, NOW), leased(SECOND, NOW + 1))
    assert state.leases() == [(NOW, LENT), (NOW + 1, SECOND)]
    books.write(revoked(LENT, "done", NOW + 2), revoked(LENT, "done", NOW + 3), revoked(LEASE, "orphan", NOW + 4))
    assert state.leases() == [(NOW + 1, SECOND)]
    books.write(revoked(SECOND, "task_ended", NOW + 5))
    assert state.leases() == []


def test_it_is_remembered_without_its_secret_and_whatever_becomes_of_its_task(state: State) -> None:
    books = Books(state)
    secret = Secret({"token": "correct horse battery staple"}, "handle")
    books.write(opened(GRANT, AGENT, NOW), permission(permit(LEASE.permit)))
    books.write(leased(replace(LEASE, secret=secret), NOW), closed(GRANT.task, "completed", NOW))
    assert state.leases() == [(NOW, LEASE)]


def test_credentials_survive_a_restart_with_and_without_the_index(tmp_path: Path) -> None:
    ledger, path = MemoryLedger(), tmp_path / "state.sqlite"
    state = open_state(path, ledger)
    Books(state, ledger).write(leased(SECOND, NOW), leased(LENT, NOW + 1), leased(LEASE, NOW + 2))
    Books(state, ledger).write(revoked(SECOND, "done", NOW + 3))
    found = state.leases()
    state.close()
    for _ in range(2):
        state = open_state(path, ledger)
        assert state.leases() == found
        state.close()
        path.unlink()


STEPS = st.lists(st.tuples(st.sampled_from(["permit", "settle", "close"]), st.integers(0, 4)), max_size=14)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60, deadline=None
)
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
