from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.wildcard import covers, matches


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "a", True),
        ("a", "aa", False),
        ("*", "", True),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-c-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("*ab*ab*", "abab", True),
        ("*ab*ab*", "abb", False),
        ("a.c", "abc", False),
    ],
)
def test_a_wildcard_stands_for_any_run_and_nothing_else_is_special(pattern: str, text: str, found: bool) -> None:
    assert matches(pattern.split("*"), text) is found


@given(st.lists(st.text(alphabet="ab.\n", max_size=3), min_size=1, max_size=4), st.text(alphabet="ab.\n", max_size=8))
def test_it_is_what_a_regular_expression_says(parts: list[str], text: str) -> None:
    expression = ".*".join(map(re.escape, parts))
    assert matches(parts, text) is (re.fullmatch(expression, text, re.DOTALL) is not None)


SMALL = st.text(alphabet="ab*", max_size=5)


def every(length: int) -> list[str]:
    """All texts of three letters, one of which no pattern below has, up to this length."""
    return ["".join(letters) for size in range(length + 1) for letters in product("abz", repeat=size)]


TEXTS = every(6)


@given(st.lists(SMALL, min_size=1, max_size=3), SMALL)
def test_one_pattern_is_within_others_exactly_when_every_text_of_it_is(wider: list[str], narrower: str) -> None:
    parts = [pattern.split("*") for pattern in wider]
    texts = [text for text in TEXTS if matches(narrower.split("*"), text)]
    every_one = all(any(matches(one, text) for one in parts) for text in texts)
    assert covers(parts, narrower.split("*")) is every_one


@pytest.mark.parametrize(
    ("wider", "narrower", "within"),
    [
        (["*"], "*", True),
        (["*"], "", True),
        (["a*"], "*", False),
        (["a*", "b*"], "*", False),
        (["files/*"], "files/re*", True),
        (["files/read"], "files/*", False),
        (["a*b"], "a**b", True),
        (["a**b"], "a*b", True),
        ([], "a", False),
        (["\x01*"], "\x01*", True),
    ],
)
def test_what_is_within_what(wider: list[str], narrower: str, within: bool) -> None:
    assert covers([one.split("*") for one in wider], narrower.split("*")) is within
