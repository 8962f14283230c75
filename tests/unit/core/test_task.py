"""A task is written down before anything can be asked under it."""

from __future__ import annotations

import pytest

from forestall.core.ask import CannotDo, Record
from forestall.core.effects import Effect
from forestall.core.entry import closed, opened
from forestall.core.mandate import from_mandate
from forestall.core.model import Mandate
from forestall.core.task import close_task, open_task
from forestall.run import run
from forestall.testing.playbook import Playbook
from forestall.testing.world import AGENT, NOW, Fault, World

MANDATE = Mandate("default", "tidy up", ("*",), frozenset(Effect), 60_000)


def test_a_task_opens_with_a_durable_entry() -> None:
    grant = from_mandate(MANDATE, "task-1", AGENT, NOW)
    book = Playbook(open_task(MANDATE, "task-1", AGENT, NOW)) << Record(opened(grant, AGENT, NOW)) >> None
    assert book.outcome == grant
    assert opened(grant, AGENT, NOW).durable


@pytest.mark.parametrize("fault", Fault)
def test_a_task_that_cannot_be_recorded_is_not_open(fault: Fault) -> None:
    with pytest.raises(CannotDo):
        run(open_task(MANDATE, "task-1", AGENT, NOW), World(faults={0: fault}).handlers())


def test_a_task_closes_with_the_reason_why() -> None:
    book = Playbook(close_task("task-1", "disconnected", NOW)) << Record(closed("task-1", "disconnected", NOW)) >> None
    assert book.pending is None
    assert closed("task-1", "disconnected", NOW).body == {"task": "task-1", "why": "disconnected"}
