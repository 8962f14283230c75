"""A fact that comes from elsewhere may not have come. What needs it is then denied, a forbid not less than a permit."""

from __future__ import annotations

import pytest

from forestall.core.model import Decision, Risk
from forestall.core.reason import Reason
from forestall.policy.cedar import CedarEngine
from forestall.policy.explain import explain
from tests.unit.policy.world import DELETE_FILE, PERMIT_ALL, READ_FILE, engine, problems, question

HIGH = 'context has risk && context.risk == "high"'
DISK = 'context.posture has disk && context.posture.disk == "open"'
FORBID_HIGH = f'@id("no-high") forbid (principal, action in Action::"destructive", resource) when {{ {HIGH} }};'
ONLY_LOW = 'permit (principal, action, resource) when { context has risk && context.risk == "low" };'


def decide(built: CedarEngine, risk: Risk | None, posture: dict[str, str] | None = None) -> tuple[Decision, object]:
    ruling = built.evaluate(question(DELETE_FILE, {"path": "a"}, risk=risk, posture=posture))
    return ruling.decision, ruling.reason


@pytest.mark.parametrize(
    ("risk", "wanted"),
    [
        (Risk.LOW, (Decision.PERMIT, None)),
        (Risk.MEDIUM, (Decision.PERMIT, None)),
        (Risk.HIGH, (Decision.DENY, Reason.FORBIDDEN)),
        (None, (Decision.DENY, Reason.MISSING_CONTEXT)),
    ],
)
def test_a_forbid_at_high_risk_forbids_also_where_the_risk_is_not_known(risk: Risk | None, wanted: object) -> None:
    assert decide(engine(PERMIT_ALL, FORBID_HIGH), risk) == wanted


def test_a_permit_at_low_risk_says_that_the_fact_is_missing() -> None:
    built = engine(ONLY_LOW)
    assert decide(built, Risk.LOW) == (Decision.PERMIT, None)
    assert decide(built, Risk.MEDIUM) == (Decision.DENY, Reason.NO_POLICY)
    assert decide(built, None) == (Decision.DENY, Reason.MISSING_CONTEXT)


def test_an_approval_does_not_stand_in_for_a_fact() -> None:
    asks = f'@approvers("ann") permit (principal, action, resource) when {{ context has approval && {HIGH} }};'
    assert decide(engine(asks), None) == (Decision.DENY, Reason.MISSING_CONTEXT)
    assert decide(engine(asks), Risk.HIGH) == (Decision.HOLD, Reason.NEEDS_APPROVAL)


def test_calls_that_no_policy_about_risk_reaches_go_on_without_it() -> None:
    ruling = engine(PERMIT_ALL, FORBID_HIGH).evaluate(question(READ_FILE, {"path": "a"}))
    assert ruling.decision is Decision.PERMIT


def test_a_policy_may_say_what_holds_without_the_fact() -> None:
    built = engine(PERMIT_ALL, FORBID_HIGH.replace("forbid", '@without("risk") forbid'))
    assert decide(built, None) == (Decision.PERMIT, None)
    assert decide(built, Risk.HIGH) == (Decision.DENY, Reason.FORBIDDEN)
    careful = '@without("risk") forbid (principal, action, resource) unless { context has risk };'
    assert decide(engine(PERMIT_ALL, careful), None) == (Decision.DENY, Reason.FORBIDDEN)


def test_a_policy_that_may_do_without_speaks_for_itself_alone() -> None:
    built = engine(PERMIT_ALL, FORBID_HIGH.replace("forbid", '@without("risk") forbid'), FORBID_HIGH.replace("no", "n"))
    assert decide(built, None) == (Decision.DENY, Reason.MISSING_CONTEXT)


@pytest.mark.parametrize(
    ("posture", "wanted"),
    [
        ({"disk": "encrypted", "os": "15"}, (Decision.PERMIT, None)),
        ({"disk": "open"}, (Decision.DENY, Reason.FORBIDDEN)),
        ({"os": "15"}, (Decision.DENY, Reason.MISSING_CONTEXT)),
        ({}, (Decision.DENY, Reason.MISSING_CONTEXT)),
    ],
)
def test_each_part_of_a_posture_may_be_missing_by_itself(posture: dict[str, str], wanted: object) -> None:
    built = engine(PERMIT_ALL, f"forbid (principal, action, resource) when {{ {DISK} }};", posture=("disk", "os"))
    assert decide(built, None, posture) == wanted


def test_what_no_source_is_said_to_tell_is_no_part_of_a_posture() -> None:
    built = engine(PERMIT_ALL, posture=("os",))
    assert decide(built, None, {"disk": "open"}) == (Decision.PERMIT, None)
    text = f"forbid (principal, action, resource) when {{ {DISK} }};"
    assert any("`context.posture.disk`" in one.sentence for one in problems(text, posture=("os",)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ONLY_LOW.replace("low", "lwo"), "`context.risk` is never `lwo`. Did you mean `low`?"),
        ('@without("risks") ' + ONLY_LOW, "names facts that may be missing"),
        ('@without("") ' + ONLY_LOW, "names facts that may be missing"),
        ('@without("posture") ' + ONLY_LOW, "this does not look at it"),
        ('permit (principal, action, resource) when { context.risk == "low" };', "context has"),
    ],
)
def test_what_would_never_hold_is_found(text: str, words: str) -> None:
    assert any(words in one.sentence for one in problems(text)), problems(text)


def test_the_whole_context_holds_what_may_be_missing() -> None:
    built = engine(
        '@approvers("ann") permit (principal, action, resource) when { context == context };', posture=("disk",)
    )
    assert decide(built, Risk.LOW, {"disk": "open"}) == (Decision.PERMIT, None)
    assert decide(built, Risk.LOW) == (Decision.DENY, Reason.MISSING_CONTEXT)
    assert decide(built, None, {"disk": "open"}) == (Decision.DENY, Reason.MISSING_CONTEXT)


def test_an_explanation_says_where_the_fact_would_come_from() -> None:
    said = explain(engine(PERMIT_ALL, FORBID_HIGH), question(DELETE_FILE, {"path": "a"}))
    assert said.ruling.detail == "No source says what `context.risk` is now."
    assert said.changes == ("A fresh fact from its source, under [[risk]] in forestall.toml.",)
