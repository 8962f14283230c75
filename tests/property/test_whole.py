"""Promises 3, 4, 6 and 8 of docs/threat-model.md on a whole decision point: see whole/machine.py."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.whole.machine import Whole

SEARCH = settings(max_examples=60, stateful_step_count=50, deadline=None)


def test_promises_3_4_6_and_8_on_random_trees_races_and_faults() -> None:
    run_state_machine_as_test(Whole, settings=SEARCH)
