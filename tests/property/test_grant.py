"""`covers_tool` and `objection` against references that were written another way."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from forestall.core.effects import Effect
from forestall.core.grant import covers_tool, objection
from forestall.testing.world import AGENT, GRANT, NOW, TOOL, facts

SMALL = "ab/*?[]."
"""Few characters, so that patterns and names meet often."""

patterns = st.lists(st.text(SMALL, max_size=8), max_size=4).map(tuple)
names = st.text(SMALL + "\n", max_size=10)
effects = st.frozensets(st.sampled_from(Effect))


def reference(pattern: str, name: str) -> bool:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    return re.fullmatch(expression, name, re.DOTALL) is not None


@given(patterns, names)
def test_a_tool_is_covered_exactly_when_some_pattern_matches_all_of_it(patterns: tuple[str, ...], name: str) -> None:
    assert covers_tool(patterns, name) is any(reference(pattern, name) for pattern in patterns)


@given(patterns, patterns, names)
def test_more_patterns_never_cover_less(some: tuple[str, ...], more: tuple[str, ...], name: str) -> None:
    assert covers_tool(some, name) <= covers_tool(some + more, name)


@given(st.text(max_size=20))
def test_a_name_without_a_star_covers_itself_and_a_star_covers_everything(name: str) -> None:
    assert covers_tool(("*",), name)
    assert covers_tool((name,), name)


@given(granted=effects, declared=effects, found=effects)
def test_an_effect_is_in_scope_exactly_when_it_is_granted(
    granted: frozenset[Effect], declared: frozenset[Effect], found: frozenset[Effect]
) -> None:
    known = replace(facts(), effects=found)
    against = objection(replace(GRANT, effects=granted), AGENT, replace(TOOL, effects=declared), known, NOW)
    assert (against is None) is all(effect in granted for effect in declared | found)


@given(granted=effects, more=effects, declared=effects)
def test_what_a_narrower_grant_covers_a_wider_one_covers_too(
    granted: frozenset[Effect], more: frozenset[Effect], declared: frozenset[Effect]
) -> None:
    tool = replace(TOOL, effects=declared)
    narrow, wide = (
        objection(replace(GRANT, effects=those), AGENT, tool, facts(tool), NOW) for those in (granted, granted | more)
    )
    assert narrow is not None or wide is None
