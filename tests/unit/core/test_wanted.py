"""What a delegation asks for is a closed form."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.core.effects import Effect
from forestall.core.errors import InvalidInput
from forestall.core.label import Confidentiality
from forestall.core.model import Resource
from forestall.core.quantity import Quantity
from forestall.core.wanted import DELEGATE, MAX_ENTRIES, MAX_TEXT, Wanted, parse_wanted

FULL: dict[str, Any] = {
    "to": "helper",
    "tools": ["files/*"],
    "effects": ["read"],
    "resources": [{"tool": "files/*", "argument": "path", "value": ["out/", ""]}],
    "confidentiality": "internal",
    "expires_at": 5,
    "budget": {"write": 1, "rows": 2},
    "per_call": {"rows": 1},
    "max_depth": 0,
}


def test_every_member_is_read() -> None:
    assert parse_wanted(FULL) == Wanted(
        "helper",
        ("files/*",),
        frozenset({Effect.READ}),
        (Resource("files/*", "path", ("out/", "")),),
        Confidentiality.INTERNAL,
        5,
        {Effect.WRITE: 1, Quantity.ROWS: 2},
        {Quantity.ROWS: 1},
        0,
    )
    assert set(FULL) == set(DELEGATE.input_schema["properties"])


def test_what_is_not_said_is_not_wanted_otherwise() -> None:
    assert parse_wanted({"to": "helper"}) == Wanted("helper")


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": None},
        {"to": ""},
        {"to": "x" * (MAX_TEXT + 1)},
        {"other": 1},
        {"tools": []},
        {"tools": "files/*"},
        {"tools": [1]},
        {"tools": ["a"] * (MAX_ENTRIES + 1)},
        {"effects": ["wrote"]},
        {"effects": [["read"]]},
        {"resources": []},
        {"resources": [[]]},
        {"resources": [{"tool": "a", "argument": "b"}]},
        {"resources": [{"tool": "a", "argument": "b", "value": []}]},
        {"resources": [{"tool": "a", "argument": "b", "value": [1]}]},
        {"resources": [{"tool": "a", "argument": "b", "value": "c"}]},
        {"resources": [{"tool": "a", "argument": "", "value": ["c"]}]},
        {"resources": [{"tool": "a", "argument": "b", "value": ["c"], "or": "else"}]},
        {"confidentiality": "cosmic"},
        {"expires_at": -1},
        {"expires_at": True},
        {"expires_at": 2**53},
        {"budget": {}},
        {"budget": {"rowz": 1}},
        {"budget": {"rows": 1.0}},
        {"per_call": {"write": 1}},
        {"per_call": []},
        {"max_depth": "1"},
        {"tools": None},
    ],
    ids=repr,
)
def test_what_is_not_understood_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        parse_wanted({**FULL, **wrong})


def test_nobody_holds_nothing() -> None:
    with pytest.raises(InvalidInput):
        parse_wanted({})
