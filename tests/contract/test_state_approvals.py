"""Held actions and what people said to them: as they happen, after the log was read again, and after a restart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.store import holds
from forestall.adapter.store.state import LogState, open_state
from forestall.core.action import ask_for
from forestall.core.approval import Approver, binding_of
from forestall.core.entry import Entry, Kind, Stream, approved, closed, declined, held, opened, permitted
from forestall.core.flow import PERMIT_LIFETIME_MS
from forestall.core.label import CLEAN, WORST
from forestall.core.model import Action, Approval, Decision, Facts, Hold, Permit, Ruling
from forestall.core.reason import Reason
from forestall.port import State, Waiting, Written
from forestall.testing.ledger import MemoryLedger
from forestall.testing.world import AGENT, GRANT, NOW, TOOL, facts

ANN = Approver(2000, frozenset({"user:ann"}))
BOB = Approver(2001, frozenset({"user:bob", "group:security"}))
ASKER = replace(AGENT, uid=1000)
RULING = Ruling(
    Decision.HOLD, "b", "s", Reason.NEEDS_APPROVAL, ("ask",), (Approval(("user:ann", "user:bob"), lifetime_ms=1_000),)
)
FACTS = facts()
CHILD = replace(GRANT, task="child", parent=GRANT.task, root=GRANT.task, depth=1)
NAMES = iter(range(10**9))


def call(path: str = "a", task: str = GRANT.task, at: int = NOW) -> Action:
    name = f"action-{next(NAMES)}"
    salt = name.encode().ljust(16)[:16]
    arguments = {"path": path}
    return ask_for(TOOL.id, arguments, action_id=name, task=task, pin=TOOL.pin, salt=salt, at=at, proof=None)


class Books:
    """A ledger, and a state that is what `way` says: live, or made anew from the log or the index for each question."""

    def __init__(self, way: str, path: Path) -> None:
        self.way, self.path = way, path
        self.ledger = MemoryLedger()
        self._state = self._open()
        self.write(opened(GRANT, ASKER, NOW), opened(CHILD, ASKER, NOW))

    def _open(self) -> LogState:
        return LogState() if self.way == "live" else open_state(self.path / "state.sqlite", self.ledger)

    @property
    def state(self) -> State:
        if self.way != "live":
            self._state.close()
            if self.way == "log":
                (self.path / "state.sqlite").unlink()
            self._state = self._open()
        return self._state

    def write(self, *entries: Entry) -> None:
        for entry in entries:
            position = self.ledger.append(entry)
            body = dict(next(self.ledger.read(position.stream, position.index)).body)
            if entry.stream is Stream.PERMITS or entry.kind is Kind.HELD:
                self._state.apply(Written(position, {**body, "binding": entry.binding}))

    def hold(self, asked: Action, known: Facts = FACTS, ruling: Ruling = RULING) -> str:
        hold = Hold(asked.id, Reason.NEEDS_APPROVAL, ruling.approvals, ("ask",), "b", ruling.slice_digest)
        self.write(held(hold, asked, ASKER, known))
        return asked.id

    def approve(self, hold: str, who: Approver = ANN, until: int = NOW + 1_000) -> str:
        name = f"yes-{hold}-{who.uid}"
        body, sealed = self._held(hold)
        self.write(approved(body, sealed, who, name, shown="sha256:seen", expires_at=until, at=NOW))
        return name

    def decline(self, hold: str) -> None:
        body, sealed = self._held(hold)
        self.write(declined(body, sealed, ANN, f"no-{hold}", shown="sha256:seen", why="no", at=NOW))

    def _held(self, hold: str) -> tuple[Any, bytes]:
        (found,) = [one for one in self.ledger.read(Stream.DENIALS) if one.body["id"] == hold]
        sealed = self.ledger.unseal(found.position)
        assert sealed is not None
        return found.body, sealed

    def take(self, asked: Action, known: Facts = FACTS, ruling: Ruling = RULING) -> tuple[str, ...] | Reason:
        return self.state.take_approval(asked, ASKER, ruling, known)

    def permit(self, asked: Action, approvals: tuple[str, ...]) -> None:
        permit = Permit(
            asked.id, asked.task, asked.tool, asked.pin, asked.digest, TOOL.effects, CLEAN, ("ask",), "b",
            asked.at + PERMIT_LIFETIME_MS, approvals=approvals,
        )  # fmt: skip
        self.write(permitted(permit, asked, ASKER, FACTS, durable=True))

    @property
    def waiting(self) -> list[str]:
        return [one.shown.hold for one in self.state.waiting()]


@pytest.fixture(params=["live", "log", "index"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    made = Books(request.param, tmp_path)
    yield made
    made._state.close()


def test_a_held_action_waits_and_runs_once_when_it_is_approved(books: Books) -> None:
    hold = books.hold(call())
    assert books.waiting == [hold]
    assert books.take(call()) is Reason.NEEDS_APPROVAL
    yes = books.approve(hold)
    retry = call()
    taken = books.take(retry)
    assert taken == (yes,)
    books.permit(retry, (yes,))
    assert books.take(call()) is Reason.NEEDS_APPROVAL
    assert (books.waiting, books.state.held(hold)) == ([], None)
    assert books.state.fate_of(hold) == ("gone" if books.way == "index" else "used")


def test_an_approval_that_was_taken_is_found_by_nobody_else(tmp_path: Path) -> None:
    books = Books("live", tmp_path)
    yes = books.approve(books.hold(call()))
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(books.take(call()))) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=str) == [(yes,), *[Reason.NEEDS_APPROVAL] * 63]


def test_a_permit_that_was_recorded_before_a_crash_used_its_approval_up(books: Books) -> None:
    hold = books.hold(call())
    yes = books.approve(hold)
    books.permit(call(), (yes,))  # nothing after it: no settlement, no answer
    assert books.take(call()) is Reason.NEEDS_APPROVAL
    assert books.state.held(hold) is None


def test_it_is_for_one_task_one_tool_and_one_set_of_arguments(books: Books) -> None:
    yes = books.approve(books.hold(call()))
    assert books.take(call("b")) is Reason.NEEDS_APPROVAL
    assert books.take(call(task="child")) is Reason.NEEDS_APPROVAL
    assert books.take(replace(call(), tool="files/x")) is Reason.NEEDS_APPROVAL
    assert books.take(replace(call(), pin="sha256:ff")) is Reason.NEEDS_APPROVAL
    assert books.take(call(), ruling=replace(RULING, slice_digest="s2")) is Reason.NEEDS_APPROVAL
    assert books.take(call(), replace(FACTS, labels=WORST)) is Reason.NEEDS_APPROVAL
    assert books.take(call()) == (yes,), "what did not fit took nothing"


def test_a_quorum_is_of_distinct_persons(books: Books) -> None:
    ruling = replace(RULING, approvals=(replace(RULING.approvals[0], quorum=2),))
    hold = books.hold(call(), ruling=ruling)
    first = books.approve(hold)
    assert books.take(call(), ruling=ruling) is Reason.NEEDS_APPROVAL
    second = books.approve(hold, BOB)
    assert set(books.take(call(), ruling=ruling)) == {first, second}  # type: ignore[arg-type]


def test_a_decline_is_final_for_the_task_and_those_it_is_handed_on_to(books: Books) -> None:
    hold = books.hold(call())
    books.approve(hold, BOB)
    books.decline(hold)
    assert books.take(call()) is Reason.NOT_APPROVED
    assert books.take(call(task="child")) is Reason.NOT_APPROVED
    assert books.take(call("b")) is Reason.NEEDS_APPROVAL
    assert (books.waiting, books.state.fate_of(hold)) == ([], "declined")
    books.hold(call())
    assert books.take(call()) is Reason.NOT_APPROVED


def test_what_is_declined_below_is_declined_above(books: Books) -> None:
    books.decline(books.hold(call(task="child")))
    books.write(closed("child", "completed", NOW))
    assert books.take(call()) is Reason.NOT_APPROVED


def test_an_end_of_the_task_is_the_end_of_what_it_waited_for(books: Books) -> None:
    hold, other = books.hold(call()), books.hold(call("b", task="child"))
    books.approve(hold)
    books.decline(books.hold(call("c")))
    books.write(closed(GRANT.task, "completed", NOW))
    assert books.waiting == []
    assert [books.state.fate_of(one) for one in (hold, other)] == ["gone", "gone"]
    for path in ("a", "b", "c"):
        assert books.take(call(path)) is Reason.NEEDS_APPROVAL


def test_a_yes_that_comes_after_the_end_changes_nothing(books: Books) -> None:
    hold = books.hold(call())
    books.write(closed(GRANT.task, "revoked", NOW))
    books.approve(hold)
    assert books.take(call()) is Reason.NEEDS_APPROVAL


def test_an_approval_that_expired_is_said_so_once(tmp_path: Path) -> None:
    books = Books("live", tmp_path)
    books.approve(books.hold(call()), until=NOW + 5)
    assert books.take(call(at=NOW + 5)) is Reason.APPROVAL_EXPIRED
    assert books.take(call(at=NOW + 5)) is Reason.NEEDS_APPROVAL


def test_a_hold_that_nobody_answered_is_a_denial_once(tmp_path: Path) -> None:
    books = Books("live", tmp_path)
    hold = books.hold(call())
    assert books.take(call(at=NOW + 999)) is Reason.NEEDS_APPROVAL
    assert books.take(call(at=NOW + 1_000)) is Reason.APPROVAL_EXPIRED
    assert books.take(call(at=NOW + 1_000)) is Reason.NEEDS_APPROVAL
    assert books.state.fate_of(hold) == "gone"


def test_a_repetition_waits_with_the_first_and_longer(books: Books) -> None:
    hold = books.hold(call())
    again = books.hold(call(at=NOW + 500))
    assert len(books.waiting) == 1
    for name in {hold, again} if books.way == "live" else {books.waiting[0]}:
        waiting = books.state.held(name)
        assert isinstance(waiting, Waiting)
        assert waiting.until == NOW + 1_500
    yes = books.approve(books.waiting[0])
    assert books.take(call()) == (yes,)


def test_graver_facts_are_another_hold_and_void_what_was_said(books: Books) -> None:
    hold = books.hold(call())
    books.approve(hold)
    worse = replace(FACTS, labels=WORST)
    assert books.take(call(), worse) is Reason.NEEDS_APPROVAL
    later = books.hold(call(), worse)
    if books.way == "live":
        assert books.waiting == [later]
    yes = books.approve(later)
    assert books.take(call(), worse) == (yes,)


def test_a_hold_that_was_only_counted_cannot_be_approved() -> None:
    state = LogState()
    books = Books("live", Path())
    books._state = state
    books.write(opened(GRANT, ASKER, NOW))
    asked = call()
    entry = held(Hold(asked.id, Reason.NEEDS_APPROVAL, RULING.approvals), asked, ASKER, FACTS)
    position = replace(books.ledger.append(entry), index=-1)
    body = {**entry.body, "kind": "held", "id": asked.id, "at": NOW, "binding": entry.binding}
    state.apply(Written(position, body))
    assert state.waiting() == []


def test_more_holds_than_a_task_may_have_do_not_wait(tmp_path: Path) -> None:
    books = Books("live", tmp_path)
    first = [books.hold(call(str(number))) for number in range(holds.MAX_OF_TASK)]
    books.hold(call("one too many"))
    assert books.waiting == first
    other = books.hold(call("x", task="child"))
    assert books.waiting == [*first, other], "another task has room of its own"
    late = books.hold(call("late", at=NOW + 1_000))
    assert books.waiting == [late], "what ran out makes room"


def test_there_is_an_end_to_all_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "MAX_HOLDS", 3)
    books = Books("live", tmp_path)
    for task in (GRANT.task, "child"):
        for path in "abc":
            books.hold(call(path, task=task))
    assert len(books.waiting) == 3


def test_an_id_of_many_is_forgotten_and_the_hold_is_not(tmp_path: Path) -> None:
    books = Books("live", tmp_path)
    ids = [books.hold(call()) for _ in range(holds.MAX_NAMES + 3)]
    assert books.state.held(ids[0]) is not None
    assert books.state.held(ids[1]) is None
    assert books.state.held(ids[-1]) is not None


def test_a_hold_whose_arguments_are_lost_is_approved_by_nobody(books: Books) -> None:
    hold = books.hold(call())
    leaves = books.ledger._leaves[Stream.DENIALS]
    leaves[-1] = (leaves[-1][0], None)
    books.state.close()
    assert (hold in [one.shown.hold for one in books.state.waiting()]) is (books.way == "live")


@pytest.mark.parametrize("how", ["declined", "expired", "used"])
def test_nobody_waits_for_a_hold_that_is_over(tmp_path: Path, how: str) -> None:
    books = Books("live", tmp_path)
    hold = books.hold(call())
    assert books.state.undecided_above(CHILD.task) == (GRANT.task,)
    if how == "declined":
        books.decline(hold)
    elif how == "expired":
        books._state.expire(NOW + 1_000)
    else:
        books._state.answered(hold)
        books.approve(hold)
        assert books.state.undecided_above(CHILD.task) == (GRANT.task,), "the agent has not tried it again yet"
        books.take(call())
    assert books.state.undecided_above(CHILD.task) == ()


def test_what_a_hold_is_bound_to_is_the_same_after_a_restart(tmp_path: Path) -> None:
    books = Books("index", tmp_path)
    asked = call()
    books.hold(asked)
    (waiting,) = books.state.waiting()
    assert waiting.shown.binding == binding_of(asked, FACTS)
    assert waiting.shown.asker == replace(ASKER, asserted_name=ASKER.asserted_name)
