"""A template becomes a grant: every parameter has a value, and no value becomes a pattern."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from forestall.core.effects import Effect
from forestall.core.label import Confidentiality
from forestall.core.mandate import Wish, bound, from_mandate, is_name, places, require_pattern
from forestall.core.model import Grant, Mandate, Parameter, Resource
from forestall.core.quantity import Quantity
from forestall.core.reason import Objection, Reason
from forestall.core.resource import objected_argument
from forestall.testing.world import AGENT, NOW

MANDATE = Mandate(
    "refund",
    "Refund one order.",
    ("shop/*",),
    frozenset({Effect.READ, Effect.WRITE}),
    60_000,
    {Effect.WRITE: 3, Quantity.ROWS: 100},
    {Quantity.ROWS: 10},
    {"order": Parameter("[0-9]{6}"), "region": Parameter(values=("eu", "us"), max_length=2)},
    (Resource("shop/*", "path", ("orders/{region}/{order}/", "")),),
    Confidentiality.INTERNAL,
    depth=2,
)
VALUES = {"order": "123456", "region": "eu"}
HOLDER = replace(AGENT, instance="i-1", tenant="t", trust_domain="example.org")


def opened(**wish: Any) -> Grant | Objection:
    return from_mandate(MANDATE, "task-9", HOLDER, NOW, Wish(**{"parameters": VALUES, **wish}))


def test_everything_that_the_mandate_says_is_in_the_grant() -> None:
    assert opened(user="alice", request="sha256:1") == Grant(
        task="task-9",
        holder=HOLDER.id,
        purpose="Refund one order.",
        mandate="refund",
        tools=("shop/*",),
        effects=frozenset({Effect.READ, Effect.WRITE}),
        expires_at=NOW + 60_000,
        budget={Effect.WRITE: 3, Quantity.ROWS: 100},
        per_call={Quantity.ROWS: 10},
        max_depth=2,
        tenant="t",
        trust_domain="example.org",
        instance="i-1",
        user="alice",
        request="sha256:1",
        parameters=VALUES,
        resources=(Resource("shop/*", "path", ("orders/eu/123456/", "")),),
        ceiling=Confidentiality.INTERNAL,
        longest_at=0,
    )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"order": "123456"},
        {**VALUES, "other": "x"},
        {**VALUES, "order": "12345"},
        {**VALUES, "order": "1234567"},
        {**VALUES, "order": "123456\n"},
        {**VALUES, "order": "١٢٣٤٥٦"},
        {**VALUES, "order": 123456},
        {**VALUES, "order": ""},
        {**VALUES, "region": "e"},
        {**VALUES, "region": "EU"},
    ],
)
def test_without_a_fitting_value_for_each_parameter_there_is_no_task(values: dict[str, Any]) -> None:
    against = opened(parameters=values)
    assert isinstance(against, Objection)
    assert against.reason is Reason.INVALID_PARAMETERS


def test_a_parameter_that_says_nothing_lets_nothing_through() -> None:
    empty = replace(MANDATE, parameters={"order": Parameter(), "region": Parameter(values=("eu",))})
    assert isinstance(from_mandate(empty, "t", HOLDER, NOW, Wish(VALUES)), Objection)


def test_a_value_is_never_a_pattern() -> None:
    template = Resource("shop/*", "path", ("orders/{order}/", ""))
    found = bound(template, {"order": "*"})
    assert found.value == ("orders/*/", "")
    assert objected_argument([found], "shop/read", {"path": "orders/17/a"}, {}) == "path"
    assert objected_argument([found], "shop/read", {"path": "orders/*/a"}, {}) is None
    assert bound(Resource("s/*", "x", ("{a}",)), {"a": "{b}", "b": "no"}).value == ("{b}",)


def test_a_life_is_no_longer_than_the_mandates_and_a_shorter_one_can_grow_to_it() -> None:
    for lifetime, longest in ((60_000, 0), (20_000, NOW + 60_000)):
        grant = opened(lifetime_ms=lifetime)
        assert isinstance(grant, Grant)
        assert (grant.expires_at, grant.longest_at) == (NOW + lifetime, longest)
    for lifetime in (60_001, 0, -1):
        against = opened(lifetime_ms=lifetime)
        assert isinstance(against, Objection)
        assert against.reason is Reason.BEYOND_MANDATE


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("a", frozenset()),
        ("{order}", {"order"}),
        ("x/{a}/{b}/{a}", {"a", "b"}),
        ("{Order}", None),
        ("{}", None),
        ("{a", None),
        ("a}", None),
        ("{{a}}", None),
    ],
)
def test_braces_name_parameters_or_are_a_mistake(template: str, found: set[str] | None) -> None:
    assert places(template) == found


def test_what_a_parameter_may_be_called() -> None:
    assert [is_name(name) for name in ("order", "o_1", "", "1a", "Order", "a-b", "a" * 33)] == [True, True] + [
        False
    ] * 5


@pytest.mark.parametrize(
    "pattern",
    ["[0-9]{6}", "[a-z0-9-]+", "ORD-[0-9]{1,8}", r"\d{4}-\d{2}", r"[a-z]+\.git", "[^/]*", "a?b", r"\w+@\w+", r"[\w.]+"],
)
def test_patterns_that_are_taken(pattern: str) -> None:
    assert require_pattern(pattern) == pattern
    re.compile(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        ".*",
        "(a+)+",
        "a|b",
        "^a$",
        r"\1",
        "a++",
        "a**",
        "[a-z]*[a-z]*[a-z]*",
        "a{1,9}b+c?",
        "[z-a]",
        "[",
        "[]",
        "a{99999}",
        "x" * 257,
        "(?i)a",
        r"\b",
    ],
)
def test_patterns_that_could_be_slow_or_mean_something_else_are_not(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        require_pattern(pattern)


def test_no_value_takes_long_to_refuse() -> None:
    """The worst that two open parts can do: as many tries as the square of the longest value."""
    parameter = Parameter(require_pattern("[a-z]*[a-z]*!"), max_length=1024)
    slow = replace(MANDATE, parameters={"order": parameter}, resources=())
    assert isinstance(from_mandate(slow, "t", HOLDER, NOW, Wish({"order": "a" * 1024})), Objection)
