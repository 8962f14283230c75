"""Policy may grant less, and never more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.attenuate import narrower
from forestall.core.effects import Effect
from forestall.core.model import Grant, Narrowing
from forestall.core.narrow import narrow, narrowest
from forestall.core.reason import Objection, Reason
from forestall.testing.world import GRANT, NOW

EFFECTS = st.frozensets(st.sampled_from(Effect))
NARROWINGS = st.builds(
    Narrowing,
    effects=st.none() | EFFECTS,
    lifetime_ms=st.none() | st.integers(1, 200_000),
    max_depth=st.none() | st.integers(0, 8),
)
GRANTS = st.builds(
    lambda effects, life, longer, depth, deeper: replace(
        GRANT,
        effects=effects,
        expires_at=NOW + life,
        longest_at=NOW + life + longer if longer else 0,
        depth=depth,
        max_depth=depth + deeper,
    ),
    EFFECTS.filter(bool),
    st.integers(1, 100_000),
    st.integers(0, 100_000),
    st.integers(0, 3),
    st.integers(0, 3),
)


def below(grant: Grant) -> Grant:
    """As `narrower` compares: a task one hop on."""
    return replace(grant, depth=grant.depth + 1)


@given(GRANTS, NARROWINGS)
def test_what_is_left_is_within_what_was_asked_for(grant: Grant, by: Narrowing) -> None:
    left = narrow(grant, by, NOW)
    if isinstance(left, Objection):
        assert left.reason in {Reason.OUT_OF_SCOPE, Reason.DEPTH}
        return
    assert narrower(below(left), grant)
    assert left.effects
    assert left.depth <= left.max_depth
    assert max(left.expires_at, left.longest_at) <= max(grant.expires_at, grant.longest_at)
    if by.effects is not None:
        assert left.effects <= by.effects
    if by.lifetime_ms is not None:
        assert max(left.expires_at, left.longest_at) <= NOW + by.lifetime_ms
    if by.max_depth is not None:
        assert left.max_depth <= by.max_depth
    changed = replace(
        left,
        effects=grant.effects,
        expires_at=grant.expires_at,
        longest_at=grant.longest_at,
        max_depth=grant.max_depth,
    )
    assert changed == grant


@given(GRANTS, st.lists(NARROWINGS, max_size=4))
def test_all_at_once_is_one_after_another_in_any_order(grant: Grant, several: list[Narrowing]) -> None:
    at_once = narrow(grant, narrowest(several), NOW)
    for order in (several, several[::-1]):
        left: Grant | Objection = grant
        for one in order:
            left = narrow(left, one, NOW) if isinstance(left, Grant) else left
        if isinstance(at_once, Objection):
            assert isinstance(left, Objection)
        else:
            assert left == at_once


@given(GRANTS)
def test_nothing_said_leaves_all(grant: Grant) -> None:
    assert narrow(grant, None, NOW) is grant
    assert narrow(grant, Narrowing(), NOW) == replace(
        grant, longest_at=grant.longest_at if grant.longest_at > grant.expires_at else 0
    )


@pytest.mark.parametrize(
    ("by", "reason"),
    [(Narrowing(frozenset()), Reason.OUT_OF_SCOPE), (Narrowing(max_depth=1), Reason.DEPTH)],
)
def test_where_nothing_is_left_there_is_no_task(by: Narrowing, reason: Reason) -> None:
    left = narrow(replace(GRANT, depth=2, max_depth=4), by, NOW)
    assert isinstance(left, Objection)
    assert left.reason is reason


def test_an_extension_does_not_give_back_what_was_taken() -> None:
    grant = replace(GRANT, expires_at=NOW + 10_000, longest_at=NOW + 60_000)
    left = narrow(grant, Narrowing(lifetime_ms=20_000), NOW)
    assert isinstance(left, Grant)
    assert (left.expires_at, left.longest_at) == (NOW + 10_000, NOW + 20_000)
    left = narrow(grant, Narrowing(lifetime_ms=5_000), NOW)
    assert isinstance(left, Grant)
    assert (left.expires_at, left.longest_at) == (NOW + 5_000, 0)
