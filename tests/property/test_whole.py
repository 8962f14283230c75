"""Promises 3, 4, 6 and 8 on random trees, races and faults: see whole/machine.py."""

from __future__ import annotations

from hypothesis import settings

from tests.property.whole.machine import Whole

TestWhole = Whole.TestCase
TestWhole.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
