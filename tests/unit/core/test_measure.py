"""How much an output is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.measure import exceeds, rows
from forestall.core.quantity import Quantity


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ({}, 0),
        (None, 0),
        ("", 0),
        ("one", 1),
        ("one\ntwo\n", 2),
        ([], 0),
        ([1, 2, 3], 3),
        ({"result": [{"a": [1]}, {"a": [1, 2]}]}, 2),
        ({"content": [{"type": "text", "text": "a\nb\nc"}]}, 3),
        ({"page": {"items": [[], [], [], []]}}, 4),
        ((1, 2), 2),
        (7, 0),
    ],
)
def test_rows_are_elements_or_lines_whichever_are_more(value: Any, count: int) -> None:
    assert rows(value) == count


deep = st.recursive(
    st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(deep, st.integers(0, 50))
def test_what_is_wrapped_has_no_fewer_rows(value: Any, depth: int) -> None:
    wrapped = value
    for _ in range(depth):
        wrapped = {"inside": [wrapped]}
    assert rows(wrapped) >= rows(value)


def test_nesting_costs_no_stack() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert rows(value) == 1


@pytest.mark.parametrize(
    ("used", "limits", "over"),
    [
        ({}, {}, False),
        ({Quantity.ROWS: 3}, {}, False),
        ({}, {Quantity.ROWS: 3}, True),
        ({}, {Quantity.BYTES: 3}, True),
        ({}, {Quantity.SECONDS: 3, Quantity.SPEND: 3}, False),
        ({Quantity.SECONDS: 4}, {Quantity.SECONDS: 3}, True),
        ({Quantity.ROWS: 3}, {Quantity.ROWS: 3}, False),
        ({Quantity.ROWS: 4}, {Quantity.ROWS: 3}, True),
        ({Quantity.ROWS: 1}, {Quantity.ROWS: 0}, True),
        ({Quantity.BYTES: 9}, {Quantity.ROWS: 3}, True),
        ({Quantity.BYTES: 9, Quantity.ROWS: 4}, {Quantity.ROWS: 3, Quantity.BYTES: 9}, True),
    ],
)
def test_a_call_exceeds_what_it_used_more_of_and_what_nobody_measured(
    used: dict[Quantity, int], limits: dict[Quantity, int], *, over: bool
) -> None:
    assert exceeds(used, limits) is over
