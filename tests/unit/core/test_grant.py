"""Which objection speaks when several hold, and what a mandate becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.effects import Effect
from forestall.core.grant import MAX_DEPTH, covers_tool, objection
from forestall.core.label import Confidentiality, Integrity, Label
from forestall.core.mandate import from_mandate
from forestall.core.model import Assurance, Facts, Grant, Mandate, RealPath, Resource, Subject
from forestall.core.reason import Reason
from forestall.testing.world import AGENT, GRANT, NOW, TOOL, facts

WRONGS: list[tuple[Reason, dict[str, Any]]] = [
    (Reason.NOT_HOLDER, {"holder": "local/0/thief"}),
    (Reason.TASK_ENDED, {"expires_at": NOW}),
    (Reason.DEPTH, {"depth": MAX_DEPTH + 1}),
    (Reason.OUT_OF_SCOPE, {"tools": ("git/*",)}),
]
"""In the order in which they are looked for."""


def against(grant: Grant | None, known: Facts | None = None) -> Reason | None:
    return objection(grant, AGENT, TOOL, known or facts(), NOW)


def test_a_grant_that_covers_the_action_meets_no_objection() -> None:
    assert against(GRANT) is None


def test_without_a_grant_there_is_nothing_to_act_under() -> None:
    assert against(None) is Reason.NO_GRANT


@pytest.mark.parametrize(("reason", "wrong"), WRONGS)
def test_each_wrong_alone_is_named(reason: Reason, wrong: dict[str, Any]) -> None:
    assert against(replace(GRANT, **wrong)) is reason


@pytest.mark.parametrize("first", range(len(WRONGS)))
def test_of_several_wrongs_the_first_is_named(first: int) -> None:
    everything = {name: value for _, wrong in WRONGS[first:] for name, value in wrong.items()}
    assert against(replace(GRANT, **everything)) is WRONGS[first][0]


def test_a_grant_ends_at_its_last_millisecond() -> None:
    assert against(replace(GRANT, expires_at=NOW + 1)) is None
    assert against(replace(GRANT, expires_at=NOW)) is Reason.TASK_ENDED


@pytest.mark.parametrize("where", ["grant", "facts"])
def test_depth_counts_wherever_it_is_known(where: str) -> None:
    for depth, expected in ((MAX_DEPTH, None), (MAX_DEPTH + 1, Reason.DEPTH)):
        grant = replace(GRANT, depth=depth) if where == "grant" else GRANT
        known = replace(facts(), depth=depth) if where == "facts" else facts()
        assert against(grant, known) is expected


def test_the_effects_of_the_tool_and_of_the_call_must_both_be_granted() -> None:
    writes = replace(GRANT, effects=frozenset({Effect.WRITE}))
    assert against(writes) is None
    assert against(replace(writes, effects=frozenset({Effect.READ}))) is Reason.OUT_OF_SCOPE
    assert against(writes, replace(facts(), effects=frozenset({Effect.EXTERNAL}))) is Reason.OUT_OF_SCOPE
    assert against(replace(writes, effects=frozenset())) is Reason.OUT_OF_SCOPE


def test_another_tenants_task_does_not_exist() -> None:
    ours = replace(GRANT, tenant="t", trust_domain="e")
    for subject, expected in (
        (replace(AGENT, tenant="t", trust_domain="e"), None),
        (replace(AGENT, tenant="u", trust_domain="e"), Reason.NO_GRANT),
        (replace(AGENT, tenant="t", trust_domain="f"), Reason.NO_GRANT),
        (AGENT, Reason.NO_GRANT),
        (replace(AGENT, id="thief", tenant="u", trust_domain="e"), Reason.NO_GRANT),
    ):
        assert objection(ours, subject, TOOL, facts(), NOW) is expected
    assert objection(GRANT, replace(AGENT, tenant="u"), TOOL, facts(), NOW) is Reason.NO_GRANT


def test_a_task_of_one_instance_is_not_anothers() -> None:
    bound = replace(GRANT, instance="i-1")
    assert objection(bound, replace(AGENT, instance="i-1"), TOOL, facts(), NOW) is None
    assert objection(bound, replace(AGENT, instance="i-2"), TOOL, facts(), NOW) is Reason.NOT_HOLDER
    assert objection(bound, AGENT, TOOL, facts(), NOW) is Reason.NOT_HOLDER
    assert objection(GRANT, replace(AGENT, instance="i-2"), TOOL, facts(), NOW) is None


def test_data_beyond_the_ceiling_is_not_read_and_not_known() -> None:
    bound = replace(GRANT, ceiling=Confidentiality.INTERNAL)
    for level in Confidentiality:
        label = Label(Integrity.UNTRUSTED, level)
        high = level in {Confidentiality.CONFIDENTIAL, Confidentiality.SECRET}
        expected = Reason.OUT_OF_SCOPE if high else None
        assert objection(bound, AGENT, replace(TOOL, output=label), facts(), NOW) is expected
        assert objection(bound, AGENT, TOOL, facts(labels=label), NOW) is expected
        assert objection(GRANT, AGENT, replace(TOOL, output=label), facts(labels=label), NOW) is None


def test_a_bound_argument_has_to_be_there_and_match() -> None:
    bound = replace(GRANT, resources=(Resource("files/*", "path", ("out/", "")),))
    for arguments, expected in (
        ({"path": "out/a"}, None),
        ({"path": "in/a"}, Reason.OUT_OF_SCOPE),
        ({"path": "out/../in/a"}, Reason.OUT_OF_SCOPE),
        ({}, Reason.OUT_OF_SCOPE),
    ):
        assert objection(bound, AGENT, TOOL, facts(), NOW, arguments) is expected
    assert objection(bound, AGENT, TOOL, facts(), NOW) is Reason.OUT_OF_SCOPE
    led = replace(facts(), paths={"path": (RealPath("/etc/passwd"),)})
    assert objection(bound, AGENT, TOOL, led, NOW, {"path": "out/a"}) is Reason.OUT_OF_SCOPE


def test_a_grant_for_no_tools_covers_none() -> None:
    assert against(replace(GRANT, tools=())) is Reason.OUT_OF_SCOPE


@pytest.mark.parametrize(
    ("pattern", "tool", "covered"),
    [
        ("*", "files/read", True),
        ("files/*", "files/read", True),
        ("files/*", "files-2/read", False),
        ("files/read", "files/read", True),
        ("files/read", "files/read_all", False),
        ("*/read", "files/read", True),
        ("*/read", "files/read/x", False),
        ("f*s/r*d", "files/read", True),
        ("a*a", "a", False),  # the star's two sides may not share a character
        ("*ab*ab*", "ab", False),
        ("files/r?ad", "files/read", False),  # nothing but the star is special
        ("files/[r]ead", "files/read", False),
        ("files/.*", "files/read", False),
        ("", "files/read", False),
        ("FILES/*", "files/read", False),
    ],
)
def test_the_star_is_the_only_special_character(pattern: str, tool: str, covered: bool) -> None:
    assert covers_tool((pattern,), tool) is covered


def test_a_mandate_becomes_a_grant_for_one_holder_and_no_longer_than_it_says() -> None:
    mandate = Mandate("tidy", "tidy up", ("files/*",), frozenset({Effect.READ}), 60_000, {Effect.READ: 3})
    grant = from_mandate(mandate, "task-9", AGENT, NOW)
    assert grant == Grant(
        task="task-9",
        holder=AGENT.id,
        purpose="tidy up",
        mandate="tidy",
        tools=("files/*",),
        effects=frozenset({Effect.READ}),
        expires_at=NOW + 60_000,
        budget={Effect.READ: 3},
        depth=0,
    )


@pytest.mark.parametrize(
    ("assurance", "uid", "user"),
    [
        (Assurance.LOCAL, 1000, "uid/1000"),
        (Assurance.EMBEDDED, 0, "uid/0"),
        (Assurance.LOCAL, None, ""),
        (Assurance.ATTESTED, 1001, ""),
        (Assurance.SVID, 1001, ""),
    ],
)
def test_a_person_is_served_by_what_runs_as_them_and_by_no_agent_with_a_user_of_its_own(
    assurance: Assurance, uid: int | None, user: str
) -> None:
    assert Subject("a", assurance, uid=uid).local_user == user
