from __future__ import annotations

import json
from typing import Any

import cedarpy
import pytest

from forestall.policy.flat import Flat, lay
from forestall.policy.render import render
from forestall.policy.shape import BOOL, LONG, STRING, Type, record, set_of

CONTEXT: dict[str, Type] = {
    "args": record({"path": STRING, "count": LONG, "a.b": STRING, "deep": record({"x": LONG, "y": LONG})}),
    "paths": record({"path": record({"real": STRING, "inside": STRING}, frozenset({"inside"}))}, frozenset({"path"})),
    "effects": set_of(STRING),
    "own_files": BOOL,
    "approval": {**record({"granted": BOOL}), "required": False},
}
VALUES: dict[str, Any] = {
    "args": {"path": "a", "count": 3, "a.b": "c", "deep": {"x": 1, "y": 2}},
    "paths": {"path": {"real": "/a"}},
    "effects": ["read"],
    "own_files": False,
}


def laid(condition: str) -> tuple[Flat, str]:
    """The vocabulary of a policy with this condition, and the condition in it."""
    text = f"permit (principal, action, resource) when {{ {condition} }};"
    (tree,) = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    flat = lay([tree], CONTEXT)
    return flat, render(flat.rewrite(tree)["conditions"][0]["body"])


@pytest.mark.parametrize(
    ("condition", "rewritten", "sent"),
    [
        ("context.own_files", 'context["0"]', {"0": False}),
        ("context.args.deep.x == 1", 'context["0"] == 1', {"0": 1}),
        ('context.args["a.b"] == "c"', 'context["0"]', {"0": True}),
        ('"d" != context.args["a.b"]', '!context["0"]', {"0": False}),
        ('context.args.path like "a*"', 'context["0"]', {"0": True}),
        ('["b", "c"].contains(context.args.path)', 'context["0"]', {"0": False}),
        ("context.args.path == context.args.path", 'context["0"] == context["0"]', {"0": "a"}),
        ("context.args has count", 'context has "0"', {"0": True}),
        ("context has args", 'context has "0"', {"0": True}),
        ("context has approval && context.approval.granted", 'context has "0" && context["1"]', {}),
        (
            "context.paths has path && context.paths.path has inside",
            'context has "0" && context["0"] && context has "1"',
            {"0": True},
        ),
        ('context.paths has other && context.paths.other == "a"', 'context has "1" && context["0"]', {}),
    ],
)
def test_what_is_read_lies_flat(condition: str, rewritten: str, sent: dict[str, Any]) -> None:
    flat, text = laid(condition)
    assert text.replace("(", "").replace(")", "") == rewritten
    assert flat.context(VALUES.get) == sent
    assert flat.types.keys() >= sent.keys()


@pytest.mark.parametrize(
    ("condition", "sent"),
    [
        ("context.args == context.args", {"args"}),
        ("[context.args.deep].contains(context.args.deep)", {"args"}),
        ("context.args.path.length == 1", {"args"}),
        ("context.args.path has length", {"args"}),
        ('context.args.deep == "a"', {"args"}),
        ('context.effects == "a"', {"effects"}),
        ("context.args.deep == {x: 1, y: 2} && context.own_files", {"args", "0"}),
        ("context == {a: 1}", set(VALUES)),
        ("{a: context}.a.own_files", set(VALUES)),
    ],
)
def test_what_is_used_as_a_whole_stands_as_it_is(condition: str, sent: set[str]) -> None:
    flat, _ = laid(condition)
    found = flat.context(VALUES.get)
    assert set(found) == sent
    assert all(found[name] == VALUES[name] for name in sent & set(VALUES))


def test_no_value_goes_where_none_is_looked_at() -> None:
    flat, _ = laid('context.paths.path.inside like "a/*"')
    assert flat.context(VALUES.get) == {}
    assert flat.context({"paths": {"path": {"real": "/a", "inside": "a"}}}.get) == {"0": False}
    assert flat.context({"paths": {"path": {"real": "/a", "inside": "a/b"}}}.get) == {"0": True}
    assert flat.values("approval", {"granted": True}) == {}


def test_an_approval_is_added_in_the_same_words() -> None:
    flat, _ = laid("context has approval && context.approval.granted")
    assert flat.values("approval", {"granted": True}) == {"0": True, "1": True}
    whole, _ = laid("context.approval == {granted: true}")
    assert whole.values("approval", {"granted": True}) == {"approval": {"granted": True}}


def test_only_what_every_context_has_is_required() -> None:
    flat, _ = laid('context.own_files && context.paths.path.real == "a" && context has approval')
    assert sorted(one.get("required", True) for one in flat.types.values()) == [False, False, True]
