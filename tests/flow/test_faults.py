"""Every effect fails, alone, in pairs and in triples, before and after it took effect: the rules of the flow hold."""

from __future__ import annotations

import pytest

from forestall.core.flow import govern
from tests.flow.scenarios import ACTION, SCENARIOS, Scenario, broken_rules, faults, play, reference


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_rules_hold_under_every_combination_of_faults(scenario: Scenario) -> None:
    untroubled, _ = play(govern, scenario, {})
    steps = len(untroubled.asked) + 3  # a fault lengthens the way by its clean-up
    played = 0
    for fault in faults(steps):
        world, outcome = play(govern, scenario, fault)
        assert broken_rules(scenario, world, outcome) == [], fault
        played += 1
    assert played > steps**2


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_reference_decider_says_what_each_scenario_expects(scenario: Scenario) -> None:
    assert reference(scenario.world(), ACTION) == scenario.refusal
