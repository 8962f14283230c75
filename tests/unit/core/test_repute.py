"""What a source of risk tells: read strictly, the highest counts, and what is not known is not harmless."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.errors import InvalidInput
from forestall.core.model import Risk
from forestall.core.repute import MAX_MEMBERS, MAX_TEXT, UNKNOWN, Repute, parse_reputes, together
from forestall.testing.world import GRANT

HOLDER, ABOVE = ("example.org", "helper"), ("example.org", "planner")
TASK = replace(
    GRANT,
    holder="helper",
    trust_domain="example.org",
    actors=(HOLDER, ABOVE),
    tenant="acme",
    user="alice",
)
LOW, MEDIUM, HIGH = Risk.LOW, Risk.MEDIUM, Risk.HIGH
RISKS = st.sampled_from([None, *Risk])


def agent(name: str = "helper", domain: str = "example.org", **more: Any) -> dict[str, Any]:
    return {"id": name, "trust_domain": domain, **(more or {"risk": "high"})}


def risk_of(**document: Any) -> Risk | None:
    return parse_reputes(document, ()).of(TASK).risk


@pytest.mark.parametrize(
    ("document", "risk"),
    [
        ({}, None),
        ({"default": "low"}, LOW),
        ({"default": "low", "agents": [agent(risk="medium")]}, MEDIUM),
        ({"default": "high", "agents": [agent(risk="low")]}, LOW),
        ({"agents": [agent("planner")]}, HIGH),
        ({"agents": [agent("helper", "elsewhere")]}, None),
        ({"agents": [{"id": "helper", "risk": "high"}]}, None),
        ({"users": [{"id": "alice", "tenant": "acme", "risk": "high"}]}, HIGH),
        ({"users": [{"id": "alice", "risk": "high"}]}, None),
        ({"users": [{"id": "alice", "tenant": "other", "risk": "high"}]}, None),
        ({"trust_domains": [{"id": "example.org", "risk": "medium"}]}, MEDIUM),
        (
            {
                "agents": [agent(risk="low"), agent("planner", risk="medium")],
                "users": [{"id": "alice", "tenant": "acme", "risk": "low"}],
                "trust_domains": [{"id": "example.org", "risk": "low"}],
            },
            MEDIUM,
        ),
    ],
)
def test_the_highest_of_all_who_act_counts(document: dict[str, Any], risk: Risk | None) -> None:
    assert risk_of(**document) is risk


def test_an_agent_above_from_a_risky_domain_counts() -> None:
    task = replace(TASK, actors=(HOLDER, ("other.org", "planner")))
    told = parse_reputes({"trust_domains": [{"id": "other.org", "risk": "high"}]}, ())
    assert told.of(task).risk is HIGH


def test_a_task_for_nobody_is_not_that_of_a_user_without_a_name() -> None:
    with pytest.raises(InvalidInput):
        parse_reputes({"users": [{"id": "", "tenant": "acme", "risk": "high"}]}, ())


def test_a_posture_is_that_of_the_holder_then_of_its_user_then_of_its_domain() -> None:
    document = {
        "agents": [agent(posture={"disk": "encrypted"}), agent("planner", posture={"os": "9"})],
        "users": [{"id": "alice", "tenant": "acme", "posture": {"disk": "open", "mfa": "yes"}}],
        "trust_domains": [{"id": "example.org", "posture": {"mfa": "no", "zone": "eu"}}],
    }
    told = parse_reputes(document, ("disk", "mfa", "zone", "os")).of(TASK)
    assert told == Repute(None, {"disk": "encrypted", "mfa": "yes", "zone": "eu"})


@pytest.mark.parametrize(
    ("told", "risk"),
    [
        ([], None),
        ([LOW], LOW),
        ([LOW, MEDIUM], MEDIUM),
        ([LOW, None], None),
        ([MEDIUM, None], None),
        ([HIGH, None], HIGH),
        ([None, None], None),
    ],
)
def test_the_highest_of_all_sources_counts_and_one_that_is_silent_makes_it_unknown(
    told: list[Risk | None], risk: Risk | None
) -> None:
    assert together([Repute(one) for one in told]).risk is risk


@given(st.lists(RISKS, max_size=5), RISKS)
def test_one_more_source_never_makes_it_milder(told: list[Risk | None], more: Risk | None) -> None:
    gravity = {LOW: 0, MEDIUM: 1, None: 2, HIGH: 3}
    before = together([Repute(one) for one in told]).risk
    after = together([Repute(one) for one in (*told, more)]).risk
    assert not told or gravity[after] >= gravity[before]


def test_postures_of_several_sources_stand_together() -> None:
    assert together([Repute(LOW, {"a": "1"}), Repute(LOW, {"b": "2"})]).posture == {"a": "1", "b": "2"}
    assert together([]) == UNKNOWN


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "low",
        {"more": 1},
        {"default": "none"},
        {"default": None},
        {"default": ["low"]},
        {"at": 0},
        {"at": -1},
        {"at": 1.5},
        {"at": True},
        {"at": "2026-11-21"},
        {"at": 2**53},
        {"agents": {}},
        {"agents": ["helper"]},
        {"agents": [{"id": "a"}]},
        {"agents": [{"risk": "low"}]},
        {"agents": [agent(), agent()]},
        {"agents": [agent(risk="LOW")]},
        {"agents": [agent(risk="low", tenant="x")]},
        {"agents": [{"id": 7, "risk": "low"}]},
        {"agents": [{"id": "x" * (MAX_TEXT + 1), "risk": "low"}]},
        {"agents": [{"id": "a\nb", "risk": "low"}]},
        {"agents": [agent(posture=["disk"])]},
        {"agents": [agent(posture={"disk": 1})]},
        {"agents": [agent(posture={"disk": ""})]},
        {"agents": [agent(posture={"unknown": "x"})]},
        {"trust_domains": [{"id": "a", "trust_domain": "b", "risk": "low"}]},
        {"users": [{"id": str(number), "risk": "low"} for number in range(MAX_MEMBERS + 1)]},
    ],
)
def test_what_is_not_understood_is_refused_as_a_whole(document: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_reputes(document, ("disk",))
