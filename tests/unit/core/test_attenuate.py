"""A grant below another: what is wanted, where that is no wider; else what is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.attenuate import attenuate, covered, narrower
from forestall.core.effects import Effect
from forestall.core.grant import MAX_DEPTH
from forestall.core.label import Confidentiality
from forestall.core.model import Assurance, Grant, Resource, Subject
from forestall.core.quantity import Quantity
from forestall.core.reason import Objection, Reason
from forestall.core.wanted import MAX_ENTRIES, Wanted
from forestall.testing.world import NOW

PLANNER = Subject("planner", Assurance.LOCAL, tenant="t", trust_domain="e", instance="i-1")
HELPER = Subject("helper", Assurance.LOCAL, tenant="t", trust_domain="e", instance="i-2")
BOUND = Resource("files/*", "path", ("out/", ""))
PARENT = Grant(
    task="t1",
    holder=PLANNER.id,
    purpose="p",
    mandate="m",
    tools=("files/*", "shop/read"),
    effects=frozenset({Effect.READ, Effect.WRITE}),
    expires_at=NOW + 60_000,
    budget={Effect.WRITE: 5, Quantity.ROWS: 100, Quantity.FAN_OUT: 2},
    per_call={Quantity.ROWS: 10},
    max_depth=2,
    tenant="t",
    trust_domain="e",
    instance="i-1",
    user="alice",
    request="sha256:1",
    parameters={"order": "1"},
    resources=(BOUND,),
    ceiling=Confidentiality.INTERNAL,
)


def below(parent: Grant = PARENT, holder: Subject = HELPER, **wanted: Any) -> Grant | Objection:
    return attenuate(parent, Wanted(holder.id, **wanted), task="t2", holder=holder, at=NOW)


def granted(parent: Grant = PARENT, holder: Subject = HELPER, **wanted: Any) -> Grant:
    grant = below(parent, holder, **wanted)
    assert isinstance(grant, Grant), grant
    assert narrower(grant, parent)
    return grant


def test_what_is_not_said_is_as_above_and_one_hop_deeper() -> None:
    assert granted() == replace(
        PARENT,
        task="t2",
        holder="helper",
        instance="i-2",
        depth=1,
        parent="t1",
        root="t1",
        actors=(("e", "helper"), ("e", "planner")),
        longest_at=PARENT.expires_at,
    )


def test_the_chain_and_the_root_go_on() -> None:
    third = Subject("third", Assurance.LOCAL, tenant="t", trust_domain="e")
    grant = granted(replace(granted(), task="t2"), third)
    assert grant.chain == (("e", "third"), ("e", "helper"), ("e", "planner"))
    assert (grant.parent, grant.root, grant.depth) == ("t2", "t1", 2)


def test_less_is_given_as_asked() -> None:
    grant = granted(
        tools=("files/re*",),
        effects=frozenset({Effect.READ}),
        resources=(Resource("files/*", "path", ("out/a/", "")), Resource("shop/read", "order", ("1",))),
        ceiling=Confidentiality.PUBLIC,
        expires_at=NOW + 1,
        budget={Effect.WRITE: 0, Effect.READ: 3},
        per_call={Quantity.ROWS: 1, Quantity.BYTES: 9},
        max_depth=1,
    )
    assert grant.tools == ("files/re*",)
    assert grant.resources == (
        BOUND,
        Resource("files/*", "path", ("out/a/", "")),
        Resource("shop/read", "order", ("1",)),
    )
    assert grant.budget == {Effect.WRITE: 0, Effect.READ: 3, Quantity.ROWS: 100, Quantity.FAN_OUT: 2}
    assert (grant.expires_at, grant.max_depth, grant.ceiling) == (NOW + 1, 1, Confidentiality.PUBLIC)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("tools", {"tools": ("*",)}),
        ("tools", {"tools": ("files/read", "shop/*")}),
        ("effects", {"effects": frozenset({Effect.READ, Effect.EXTERNAL})}),
        ("resources", {"resources": (Resource("files/*", "path", ("", "")),)}),
        ("resources", {"resources": (Resource("files/read", "path", ("in/a",)),)}),
        ("resources", {"resources": (Resource("*", "path", ("in/a",)),)}),
        ("confidentiality", {"ceiling": Confidentiality.SECRET}),
        ("expires_at", {"expires_at": NOW + 60_001}),
        ("max_depth", {"max_depth": 3}),
        ("budget", {"budget": {Effect.WRITE: 6}}),
        ("budget", {"budget": {Quantity.FAN_OUT: 3}}),
        ("per_call", {"per_call": {Quantity.ROWS: 11}}),
    ],
)
def test_whatever_is_wider_is_refused_and_named(name: str, wanted: dict[str, Any]) -> None:
    assert below(**wanted) == Objection(Reason.WIDER, f"`{name}`")


@pytest.mark.parametrize(
    ("reason", "parent", "holder"),
    [
        (Reason.PARENT_ENDED, {"expires_at": NOW}, {}),
        (Reason.OTHER_DOMAIN, {}, {"tenant": "u"}),
        (Reason.OTHER_DOMAIN, {}, {"trust_domain": "f"}),
        (Reason.CYCLE, {}, {"id": "planner"}),
        (Reason.CYCLE, {"actors": (("e", "planner"), ("e", "helper"))}, {}),
        (Reason.DEPTH, {"max_depth": 0}, {}),
        (Reason.DEPTH, {"depth": 2}, {}),
        (Reason.DEPTH, {"depth": MAX_DEPTH, "max_depth": MAX_DEPTH + 5}, {}),
        (Reason.BUDGET, {"budget": {}}, {}),
        (Reason.BUDGET, {"budget": {Quantity.FAN_OUT: 0}}, {}),
        (Reason.OUT_OF_SCOPE, {"tools": ()}, {}),
        (Reason.OUT_OF_SCOPE, {"resources": (BOUND,) * (MAX_ENTRIES + 1)}, {}),
    ],
)
def test_each_wrong_has_its_reason(reason: Reason, parent: dict[str, Any], holder: dict[str, Any]) -> None:
    against = below(replace(PARENT, **parent), replace(HELPER, **holder))
    assert isinstance(against, Objection)
    assert against.reason is reason


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        (Reason.TASK_ENDED, {"expires_at": NOW}),
        (Reason.DEPTH, {"max_depth": 0}),
        (Reason.OUT_OF_SCOPE, {"tools": ()}),
        (Reason.OUT_OF_SCOPE, {"effects": frozenset()}),
    ],
)
def test_a_task_that_could_do_nothing_is_a_mistake(reason: Reason, wanted: dict[str, Any]) -> None:
    against = below(**wanted)
    assert isinstance(against, Objection)
    assert against.reason is reason


@pytest.mark.parametrize(
    "wider",
    [
        {"depth": 0},
        {"max_depth": 3},
        {"expires_at": NOW + 60_001},
        {"effects": frozenset(Effect)},
        {"tools": ("*",)},
        {"resources": ()},
        {"resources": (Resource("files/read", "path", ("out/", "")),)},
        {"ceiling": None},
        {"ceiling": Confidentiality.CONFIDENTIAL},
        {"budget": {}},
        {"budget": {**PARENT.budget, Effect.WRITE: 6}},
        {"per_call": {}},
    ],
)
def test_a_grant_that_is_wider_in_one_thing_is_not_narrower(wider: dict[str, Any]) -> None:
    assert not narrower(replace(granted(), **wider), PARENT)


def test_several_patterns_may_cover_one_only_together_with_none_left_over() -> None:
    assert covered(("files/read", "files/w*"), ("files/*",))
    assert not covered(("files/*",), ("files/r*", "files/w*"))
    assert covered((), ("a",))
    assert not covered(("a",), ())
