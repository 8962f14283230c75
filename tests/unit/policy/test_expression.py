from __future__ import annotations

import json
from typing import Any

import cedarpy
import pytest

from forestall.policy.expression import Use, looks, may_overflow, mentions_approval, uses
from forestall.policy.render import render


def tree(condition: str) -> dict[str, Any]:
    text = f"permit (principal, action, resource) when {{ {condition} }};"
    (found,) = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    return dict(found)


def body(condition: str) -> Any:
    return tree(condition)["conditions"][0]["body"]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("context.args.path.real == context.task.id", {("args", "path"), ("task", "id")}),
        ('context has labels && ["a"].contains(context.labels.integrity)', {("labels",), ("labels", "integrity")}),
        ("context.args has a.b && context.own_files", {("args", "a"), ("own_files",)}),
        ("context.args == {a: 1}", {("args",)}),
        ("[context.args].contains(context.args)", {("args",)}),
        ("principal.assurance == resource.x", set()),
        ("context == {a: 1}", {()}),
        ("{a: context}.a.labels == 1", {()}),
        ("(if true then context else context).labels == 1", {()}),
        ("[context].contains(context)", {()}),
        ('ip(context.x.y).isInRange(ip("1.2.3.4"))', {("x", "y")}),
        ("context.a is Workload in context.b && context.c.hasTag(context.d)", {("a",), ("b",), ("c",), ("d",)}),
        ('{"Value": context.a, "Var": context.b}.Value == !(-context.c < 1)', {("a",), ("b",), ("c",)}),
        ('context["like"]["."]["has"] == "context"', {("like", ".")}),
    ],
)
def test_what_a_policy_looks_at(condition: str, found: set[tuple[str, ...]]) -> None:
    assert looks(tree(condition)) == found


def test_paths_are_read_from_the_variable_on() -> None:
    found = set(uses(body('context.args has a.b && context.args.a.b like "x"')))
    assert Use("context", ("args", "a", "b"), tested=True) in found
    assert Use("context", ("args", "a", "b"), tested=False) in found


@pytest.mark.parametrize(
    ("condition", "mentions"),
    [
        ("context has approval", True),
        ("context.approval.granted", True),
        ("[context].contains(context)", True),
        ("context.args.approval.granted", False),
        ("context.own_files", False),
    ],
)
def test_who_mentions_an_approval(condition: str, mentions: bool) -> None:
    assert mentions_approval(looks(tree(condition))) is mentions


@pytest.mark.parametrize(
    ("expression", "overflows"),
    [
        ("context.a + 1", False),
        ("context.a * 1000", False),
        ("context.a * 1025", True),
        ("context.a * context.b", True),
        ("-context.a - 9223372036854775807", True),
        ("9223372036854775807 - 1", False),
        ("9223372036854775807 + 1", True),
        ("9223372036854775807 * -1", False),
        ("-(-9223372036854775808)", True),
        ("(if true then context.a else 5) * 1025", True),
        ("(if true then 3 else 5) * 1025", False),
        ('context.a.getTag("x") + 1', True),
    ],
)
def test_arithmetic_is_bounded(expression: str, overflows: bool) -> None:
    assert may_overflow(body(f"{expression} > 0")) is overflows


@pytest.mark.parametrize(
    "text",
    [
        'context.args has "a b" && context.args["a b"] == "c"',
        "(context.a || context.b) && !(context.c && context.d)",
        'context.args has "like" && context.args["like"] == 1',
        "context.a - (context.b - 1) * -2 <= 3",
        'context.a like "a\\*b*" && principal is Workload',
        'if context.a then [1, 2].contains(context.b) else {"x": 1}.x == 2',
        'ip("10.0.0.1").isInRange(ip("10.0.0.0/8")) && decimal("1.2").lessThan(context.d)',
        'principal in Workload::"a\\"b" && context.s.isEmpty()',
    ],
)
def test_what_is_rendered_reads_as_it_was_written(text: str) -> None:
    assert render(body(text)) == text
    assert body(render(body(text))) == body(text)
