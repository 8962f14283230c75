"""A bound argument has to be there, to match, and to lead where it says."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.core.model import RealPath, Resource
from forestall.core.resource import MAX_VALUES, implies, is_narrower, objected_argument

ORDER = Resource("shop/*", "order", ("17",))
FOLDER = Resource("files/*", "path", ("out/", ""))


def kept(resource: Resource, value: Any, *leads: RealPath) -> bool:
    name = resource.argument
    tool = resource.tool.replace("*", "tool")
    return objected_argument([resource], tool, {name: value}, {name: leads} if leads else {}) is None


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("17", True),
        (17, True),
        (["17", 17], True),
        ("170", False),
        ("", False),
        ([], False),
        (["17", "18"], False),
        (None, False),
        (17.0, False),
        (True, False),
        ({"id": "17"}, False),
        ([["17"]], False),
        (["17"] * (MAX_VALUES + 1), False),
    ],
)
def test_a_literal_is_the_whole_value_however_it_is_sent(value: Any, good: bool) -> None:
    assert kept(ORDER, value) is good


def test_true_is_not_one() -> None:
    assert not kept(Resource("shop/*", "all", ("1",)), value=True)
    assert kept(Resource("shop/*", "all", ("true",)), value=True)


def test_a_bound_argument_that_is_missing_is_objected_to() -> None:
    assert objected_argument([ORDER], "shop/refund", {}, {}) == "order"


def test_a_bound_speaks_of_its_tools_alone() -> None:
    assert objected_argument([ORDER], "files/read", {}, {}) is None
    assert objected_argument([FOLDER, ORDER], "shop/refund", {"order": "18"}, {}) == "order"


def test_all_that_speak_of_a_tool_bind_it() -> None:
    both = [FOLDER, Resource("files/*", "path", ("", ".md"))]
    assert objected_argument(both, "files/read", {"path": "out/a.md"}, {}) is None
    assert objected_argument(both, "files/read", {"path": "out/a.txt"}, {}) == "path"
    assert objected_argument(both, "files/read", {"path": "a.md"}, {}) == "path"


@pytest.mark.parametrize(
    "value",
    [
        "out/../secret",
        "out/..",
        "out/a/../../../etc",
        "out\\..\\..\\x",
        "out/..\\x",
        "out/%2e%2e/x",
        "out/%2E./x",
        "out%2f..%2fx",
        "out/%252e%252e/x",
        "out/a%5c..",
        "out/%25252525252e%25252525252e/x",
        "out/a\x00.md",
        "out/a%00.md",
        "out/a\n",
    ],
)
def test_where_a_wildcard_takes_part_nothing_leads_upwards(value: str) -> None:
    pattern = Resource("files/*", "path", ("out", ""))
    assert not kept(pattern, value)


@pytest.mark.parametrize("value", ["out/a", "out/..a", "out/a..", "out/100%", "out/%zz", "out/%e9", "out/a b", "out/é"])
def test_what_only_looks_alike_is_let_through(value: str) -> None:
    assert kept(FOLDER, value)


def test_a_path_that_links_lead_elsewhere_has_to_match_there_too() -> None:
    assert kept(FOLDER, "out/a", RealPath("/srv/out/a", "out/a"))
    assert kept(FOLDER, "out/./a", RealPath("/srv/out/a", "out/a"))
    assert kept(FOLDER, "out/link", RealPath("/srv/out/b", "out/b"))
    assert not kept(FOLDER, "out/link", RealPath("/etc/passwd", None))
    assert not kept(FOLDER, "out/link", RealPath("/srv/src/a", "src/a"))
    assert kept(Resource("f/*", "path", ("/srv/", "")), "/srv/a", RealPath("/srv/a", None))
    assert not kept(Resource("f/*", "path", ("/srv/", "")), "/srv/a", RealPath("/etc/a", None))
    assert not kept(Resource("f/*", "path", ("out/a",)), "out/a", RealPath("/etc/passwd", None))


def test_as_many_places_as_values_or_none() -> None:
    good = RealPath("/srv/out/a", "out/a")
    assert kept(FOLDER, ["out/a", "out/a"], good, good)
    assert not kept(FOLDER, ["out/a", "out/a"], good)
    assert not kept(FOLDER, ["out/a", "out/b"], good, RealPath("/etc/passwd", None))


@pytest.mark.parametrize(
    ("mine", "bound", "within"),
    [
        (ORDER, ORDER, True),
        (Resource("*", "order", ("17",)), ORDER, True),
        (Resource("shop/refund", "order", ("17",)), ORDER, False),
        (Resource("shop/*", "order", ("18",)), ORDER, False),
        (Resource("shop/*", "item", ("17",)), ORDER, False),
        (Resource("files/*", "path", ("out/a",)), FOLDER, True),
        (Resource("files/*", "path", ("out/a/", "")), FOLDER, True),
        (Resource("files/*", "path", ("", "")), FOLDER, False),
        (Resource("files/*", "path", ("out/*",)), FOLDER, True),
        (FOLDER, Resource("files/*", "path", ("out/*",)), False),
    ],
)
def test_one_bound_is_within_another(mine: Resource, bound: Resource, within: bool) -> None:
    assert implies(mine, bound) is within
    assert is_narrower([mine], [bound]) is within


def test_fewer_bounds_are_wider() -> None:
    assert is_narrower([ORDER, FOLDER], [ORDER])
    assert not is_narrower([ORDER], [ORDER, FOLDER])
    assert is_narrower([], [])
