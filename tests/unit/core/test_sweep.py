"""A crash left permits without an outcome: each is settled once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forestall.core.ask import CannotDo, Record
from forestall.core.entry import Kind, settled
from forestall.core.fate import Fate
from forestall.core.flow import conclude
from forestall.core.model import Permit
from forestall.core.sweep import sweep
from forestall.run import run
from forestall.testing.playbook import Playbook
from forestall.testing.world import NOW, PERMITTED, TOOL, Fault, World, action, facts

decided = conclude(PERMITTED, action(), TOOL, facts())
assert isinstance(decided, Permit)
PLAIN = decided
CREDENTIALED = replace(PLAIN, id="action-2", credential="database")


def ambiguous(permit: Permit) -> Record:
    return Record(settled(permit, Fate.AMBIGUOUS, NOW, detail="swept"))


def test_nothing_unsettled_asks_for_nothing() -> None:
    book = Playbook(sweep((), NOW))
    assert book.pending is None
    assert book.outcome == ()


def test_a_permit_without_an_outcome_may_have_acted() -> None:
    book = Playbook(sweep((PLAIN, CREDENTIALED), NOW)) << ambiguous(PLAIN) >> None << ambiguous(CREDENTIALED) >> None
    assert book.outcome == ()


def test_a_permit_whose_outcome_cannot_be_recorded_stays_unsettled_and_the_rest_go_on() -> None:
    book = Playbook(sweep((PLAIN, CREDENTIALED), NOW)) << ambiguous(PLAIN) >> CannotDo(detail="disk full")
    book = book << ambiguous(CREDENTIALED) >> None
    assert book.outcome == (PLAIN,)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("step", range(2))
def test_sweeping_again_finishes_what_a_fault_left(step: int, fault: Fault) -> None:
    world = World(faults={step: fault})
    left = run(sweep((CREDENTIALED, PLAIN), NOW), world.handlers())
    assert len(left) == 1
    assert run(sweep(left, NOW), world.handlers()) == ()
    assert {entry.id for entry in world.entries} == {PLAIN.id, CREDENTIALED.id}
    assert {entry.kind for entry in world.entries} == {Kind.SETTLED}
    assert {entry.body["fate"] for entry in world.entries} == {Fate.AMBIGUOUS}
