from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.wildcard import matches


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
