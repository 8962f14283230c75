from __future__ import annotations

import copy
from typing import Any

import pytest

from forestall.catalogue.change import SHOWN, classify_change, differences, shape_digest
from tests.unit.catalogue.sample import LOOK, SEND


def changed(**members: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SEND), **members}


def schema(**keywords: Any) -> dict[str, Any]:
    return changed(inputSchema={**copy.deepcopy(SEND["inputSchema"]), **keywords})


def argument(name: str, value: Any) -> dict[str, Any]:
    return schema(properties={**SEND["inputSchema"]["properties"], name: value})


COSMETIC: dict[str, dict[str, Any]] = {
    "description": changed(description="Sends a message, kindly."),
    "title": changed(title="Send"),
    "no description": {name: value for name, value in SEND.items() if name != "description"},
    "title in the hints": changed(annotations={"title": "Other", "readOnlyHint": False}),
    "description of an argument": argument("body", {"type": "string", "description": "Other."}),
    "title of the schema": schema(title="sendArguments"),
    "examples": argument("to", {"type": "string", "examples": ["a@example.com"]}),
    "nothing that is pinned": changed(icons=[{"src": "x"}], _meta={"x": 1}),
}

AUTHORITY: dict[str, dict[str, Any]] = {
    "new argument": argument("bcc", {"type": "string"}),
    "new argument called title": argument("title", {"type": "string"}),
    "new argument called description": argument("description", {}),
    "removed argument": schema(properties={"to": {"type": "string"}}),
    "type": argument("to", {"type": "array"}),
    "default": argument("to", {"type": "string", "default": "all@example.com"}),
    "enum": argument("to", {"type": "string", "enum": ["all@example.com"]}),
    "a default's wording": argument(
        "body", {"type": "string", "description": "What to say.", "default": {"title": "x"}}
    ),
    "required": schema(required=["to", "body"]),
    "open to more": schema(additionalProperties=True),
    "hint": changed(annotations={"title": "Send", "readOnlyHint": True}),
    "no hints": {name: value for name, value in SEND.items() if name != "annotations"},
    "output": changed(outputSchema={"type": "object"}),
    "pattern": schema(patternProperties={"^x": {"title": "X"}}),
    "name": changed(name="Send"),
}


@pytest.mark.parametrize("name", COSMETIC)
def test_wording_is_cosmetic(name: str) -> None:
    assert classify_change(SEND, COSMETIC[name]) == classify_change(COSMETIC[name], SEND) == "cosmetic"
    assert shape_digest(SEND) == shape_digest(COSMETIC[name])


@pytest.mark.parametrize("name", AUTHORITY)
def test_anything_else_is_authority(name: str) -> None:
    assert classify_change(SEND, AUTHORITY[name]) == classify_change(AUTHORITY[name], SEND) == "authority"
    assert differences(SEND, AUTHORITY[name])


def test_wording_is_found_wherever_a_schema_may_stand() -> None:
    deep = {
        "anyOf": [{"title": "A", "items": {"description": "B"}}, {"not": {"$comment": "C"}}],
        "prefixItems": [{"title": "D"}],
        "$defs": {"title": {"title": "E"}},
        "items": {"title": "F"},
    }
    plain = {
        "anyOf": [{"items": {}}, {"not": {}}],
        "prefixItems": [{}],
        "$defs": {"title": {}},
        "items": {},
    }
    assert classify_change(changed(inputSchema=deep), changed(inputSchema=plain)) == "cosmetic"


def test_differences_name_the_place_and_both_values() -> None:
    new = argument("bcc", {"type": "string"}) | {"description": "Sends a message to all."}
    del new["annotations"]
    assert list(map(str, differences(SEND, new))) == [
        '- annotations: {"title": "Send", "readOnlyHint": false}',
        '~ description: "Sends a message." -> "Sends a message to all."',
        '+ inputSchema.properties.bcc: {"type": "string"}',
    ]


def test_equal_definitions_do_not_differ() -> None:
    assert differences(SEND, copy.deepcopy(SEND)) == ()
    assert differences(LOOK, {**LOOK, "icons": []}) == ()


def test_long_texts_are_shown_from_where_they_part() -> None:
    old, new = changed(description="a" * 500 + "old"), changed(description="a" * 500 + "new")
    (difference,) = differences(old, new)
    assert difference.old is not None
    assert difference.old.endswith('old"')
    assert str(difference).endswith('new"')


def test_what_is_invisible_shows_and_what_is_long_is_cut() -> None:
    hidden = "\x1b[2J\u202e\U000e0041\x7f"
    (difference,) = differences(SEND, changed(description=hidden))
    assert str(difference).isascii()
    assert str(difference).isprintable()
    (difference,) = differences(SEND, argument(hidden, {"enum": ["x" * 1000]}))
    assert str(difference).isprintable()
    assert difference.new is not None
    assert len(difference.new) <= SHOWN
