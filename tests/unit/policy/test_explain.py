from __future__ import annotations

from dataclasses import replace

import pytest

from forestall.core.errors import InvalidInput
from forestall.core.label import WORST
from forestall.core.model import Decision
from forestall.policy.explain import explain, question_of
from tests.unit.policy.world import DELETE_FILE, READ_FILE, WRITE_FILE, engine, question

BODY = {
    "task": "t1",
    "subject": {"id": "agent", "assurance": "local", "asserted_name": "a client"},
    "effects": ["destructive"],
    "confidence": "declared",
    "seen": {"integrity": "untrusted", "confidentiality": "secret"},
    "reaches_own_files": False,
    "depth": 0,
}

POLICIES = """
@id("named") permit (principal, action, resource)
when { context.args has path && context.args.path == "b" && context.task.purpose == "report" };
@id("clean") permit (principal, action in Action::"destructive", resource)
unless { context.labels.integrity == "untrusted" };
@id("other") permit (principal == Workload::"someone", action, resource);
@id("ask") @approvers("ann", ) permit (principal, action, resource) when { context has approval };
@id("no") forbid (principal, action, resource) when { context.args has path && context.args.path like "/etc/*" };
""".replace(", )", ")")


def stopped(of: object, labels: object = WORST, path: str = "a") -> dict[str, str]:
    told = explain(engine(POLICIES), question(DELETE_FILE, {"path": path}, labels=WORST))
    return {one.policy.id: one.stopped_by for one in told.considered}


def test_each_policy_says_what_stopped_it() -> None:
    assert stopped(DELETE_FILE) == {
        "forestall:own-files": "context.own_files",
        "no": 'context.args.path like "/etc/*"',
        "ask": "context has approval",
        "clean": 'unless { context.labels.integrity == "untrusted" }',
        "named": 'context.args.path == "b"',
        "other": "its scope does not cover this caller",
    }


def test_the_first_part_that_was_not_so_is_the_one_that_is_named() -> None:
    told = explain(engine(POLICIES), question(DELETE_FILE, {"path": "b"}, labels=WORST, purpose="other"))
    assert {one.policy.id: one.stopped_by for one in told.considered}["named"] == 'context.task.purpose == "report"'


def test_what_would_have_changed_a_hold() -> None:
    told = explain(engine(POLICIES), question(DELETE_FILE, {"path": "a"}, labels=WORST))
    assert told.ruling.decision is Decision.HOLD
    assert "An approval by 1 of ann." in told.changes
    assert '`named` would permit it if this were so: context.args.path == "b"' in told.changes


def test_what_would_have_changed_a_forbid() -> None:
    told = explain(engine(POLICIES), question(DELETE_FILE, {"path": "/etc/x"}, labels=WORST))
    assert any("`no` forbids these, and no approval lifts it" in change for change in told.changes)
    assert not any("An approval by" in change for change in told.changes)


def test_what_would_have_changed_a_denial_without_policy() -> None:
    told = explain(engine(), question(DELETE_FILE, {"path": "a"}))
    assert told.changes == ("A policy that permits this tool: none does.",)


def test_what_would_have_changed_a_permit() -> None:
    told = explain(engine('@id("all") permit (principal, action, resource);'), question(READ_FILE, {"path": "a"}))
    assert told.changes == ("A change to the permit `all`.",)
    assert [one.applied for one in told.considered] == [False, True]


def test_arguments_that_do_not_fit_are_the_explanation() -> None:
    told = explain(engine(POLICIES), question(WRITE_FILE, {"path": 3}))
    assert told.considered == ()
    assert told.changes == ("The argument `path` is not a string. Policy was not asked.",)


def test_a_forbid_that_waits_for_approval_is_not_called_final() -> None:
    text = '@id("no") @approvers("ann") forbid (principal, action, resource) unless { context has approval };'
    told = explain(engine('@id("all") permit (principal, action, resource);', text), question(READ_FILE, {"path": "a"}))
    assert told.changes == ("An approval by 1 of ann.",)
    assert [one.policy.id for one in told.considered if one.waits_for_approval] == ["no"]


def test_a_ledger_entry_is_the_question_again() -> None:
    asked = question_of(BODY, {"path": "a"}, DELETE_FILE, {"purpose": "report", "mandate": "default"})
    wanted = question(DELETE_FILE, {"path": "a"}, labels=WORST)
    assert (asked.subject, asked.facts, asked.arguments) == (wanted.subject, wanted.facts, wanted.arguments)
    assert asked.grant == replace(wanted.grant, tools=(), effects=frozenset())


@pytest.mark.parametrize("name", ["seen", "effects", "subject", "depth"])
def test_an_entry_without_facts_cannot_be_explained(name: str) -> None:
    body = {key: value for key, value in BODY.items() if key != name}
    with pytest.raises(InvalidInput, match="refused before policy was asked"):
        question_of(body, {}, DELETE_FILE, {})
    with pytest.raises(InvalidInput):
        question_of({**BODY, name: None}, {}, DELETE_FILE, {})
