"""When a credential is over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.lease import Around, over, reaches
from forestall.core.model import Risk, Scope
from forestall.core.reason import Reason
from forestall.testing.world import GRANT, LEASE, NOW

FINE = Around(NOW, GRANT, None, settled=False)
TASK = replace(LEASE, scope=Scope.TASK)


def test_it_lives_while_its_call_runs_or_its_task_is_open() -> None:
    assert over(LEASE, FINE) == ""
    assert over(TASK, replace(FINE, settled=True)) == ""


@pytest.mark.parametrize(
    ("around", "why"),
    [
        (replace(FINE, is_ours=False), "swept"),
        (replace(FINE, condemned="leaked"), "leaked"),
        (replace(FINE, stopped=Reason.REVOKED, grant=None), "killed"),
        (replace(FINE, grant=None), "task_ended"),
        (replace(FINE, stopped=Reason.SUSPENDED), "suspended"),
        (replace(FINE, at=LEASE.expires_at), "expired"),
        (replace(FINE, until=NOW), "expired"),
        (replace(FINE, risk=Risk.HIGH, revoke_at=Risk.MEDIUM), "risk"),
    ],
)
@pytest.mark.parametrize("lease", [LEASE, TASK])
def test_each_of_these_ends_it(lease: object, around: Around, why: str) -> None:
    assert over(lease, around) == why  # type: ignore[arg-type]


def test_one_of_an_action_ends_with_its_permit() -> None:
    assert over(LEASE, replace(FINE, settled=True)) == "settled"


@pytest.mark.parametrize("risk", [None, *Risk])
@pytest.mark.parametrize("level", [None, *Risk])
def test_a_risk_reaches_a_level_that_is_no_higher(risk: Risk | None, level: Risk | None) -> None:
    order = list(Risk)
    expected = risk is not None and level is not None and order.index(risk) >= order.index(level)
    assert reaches(risk, level) is expected


@given(
    st.builds(
        Around,
        at=st.integers(NOW, LEASE.expires_at - 1),
        grant=st.sampled_from([GRANT, None]),
        stopped=st.sampled_from([None, Reason.REVOKED, Reason.SUSPENDED]),
        settled=st.booleans(),
        risk=st.sampled_from([None, *Risk]),
        revoke_at=st.sampled_from([None, Risk.MEDIUM, Risk.HIGH]),
        is_ours=st.booleans(),
        condemned=st.sampled_from(["", "lost"]),
    )
)
def test_nothing_lives_that_any_one_of_them_ends(around: Around) -> None:
    ends = (
        not around.is_ours
        or bool(around.condemned)
        or around.grant is None
        or around.stopped is not None
        or reaches(around.risk, around.revoke_at)
    )
    assert bool(over(TASK, around)) is ends
    assert bool(over(LEASE, around)) is (ends or around.settled)
