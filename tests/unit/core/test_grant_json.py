"""What the log holds of a grant is the grant."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from forestall.core.canonical import canonical, parse
from forestall.core.effects import Effect
from forestall.core.entry import opened
from forestall.core.grant_json import executable_from_json, grant_from_json, subject_to_json
from forestall.core.label import Confidentiality
from forestall.core.model import Assurance, Executable, Grant, Resource, Subject
from forestall.core.quantity import Quantity
from forestall.testing.world import AGENT, GRANT, NOW

HOLDER = Subject("spiffe://e/a", Assurance.LOCAL, "a", instance="i-1", tenant="t", trust_domain="e", key="jkt:k")
FULL = Grant(
    task="t2",
    holder=HOLDER.id,
    purpose="p",
    mandate="m",
    tools=("a/*", "b"),
    effects=frozenset({Effect.READ, Effect.WRITE}),
    expires_at=NOW,
    budget={Effect.WRITE: 0, Quantity.ROWS: 9},
    depth=1,
    max_depth=2,
    per_call={Quantity.ROWS: 3},
    parent="t1",
    root="t0",
    actors=(("e", "spiffe://e/a"), ("e", "spiffe://e/b")),
    tenant="t",
    trust_domain="e",
    instance="i-1",
    user="alice",
    request="sha256:1",
    parameters={"order": "1"},
    resources=(Resource("a/*", "x", ("p", "")),),
    ceiling=Confidentiality.INTERNAL,
    longest_at=NOW + 1,
    key="jkt:k",
)


def written(grant: Grant, holder: Subject) -> Any:
    return parse(canonical(opened(grant, holder, NOW).body), max_bytes=65_535)


@pytest.mark.parametrize(("grant", "holder"), [(GRANT, AGENT), (FULL, HOLDER)])
def test_a_grant_comes_back_as_it_was(grant: Grant, holder: Subject) -> None:
    assert grant_from_json(written(grant, holder)) == grant


@pytest.mark.parametrize("name", [each.name for each in fields(Grant)])
def test_no_part_of_a_grant_is_forgotten(name: str) -> None:
    default = getattr(GRANT, name)
    assert getattr(FULL, name) != default, "the example differs from the plain one in every part"
    assert getattr(grant_from_json(written(FULL, HOLDER)), name) == getattr(FULL, name)


def test_what_a_subject_runs_comes_back_as_it_was() -> None:
    runs = Executable("/opt/agent", "sha256:0", interpreter=False, same_uid=False)
    body = subject_to_json(replace(HOLDER, executable=runs))
    assert executable_from_json(body["executable"]) == runs
    assert "executable" not in subject_to_json(HOLDER)


def test_a_plain_task_is_written_as_ever() -> None:
    assert set(opened(GRANT, AGENT, NOW).body) == {
        *("task", "purpose", "mandate", "subject", "tools", "effects", "expires_at", "budget", "seen")
    }
    assert set(subject_to_json(AGENT)) == {"id", "assurance", "asserted_name"}


@pytest.mark.parametrize(
    "harm",
    [
        {"budget": {"rowz": 1}},
        {"per_call": {"write": 1}},
        {"resources": [{"tool": "a", "argument": "x"}]},
        {"resources": [{"tool": "a", "argument": "x", "value": []}]},
        {"resources": [{"tool": "a", "argument": "x", "value": "ab"}]},
        {"resources": [{"tool": "a", "argument": 3, "value": ["a"]}]},
        {"ceiling": "cosmic"},
        {"actors": [["one"]]},
        {"effects": ["wrote"]},
        {"expires_at": "soon"},
    ],
)
def test_what_is_no_grant_is_not_read_as_one(harm: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        grant_from_json({**written(FULL, HOLDER), **harm})


def test_the_chain_of_a_task_that_was_opened_is_its_holder() -> None:
    assert replace(FULL, actors=()).chain == (("e", "spiffe://e/a"),)
    assert FULL.chain == FULL.actors
    assert (GRANT.tree, FULL.tree) == (GRANT.task, "t0")
