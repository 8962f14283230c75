"""What a credential fills in: not there for who calls."""

from __future__ import annotations

from forestall.core.hide import given_though_hidden, without

SCHEMA = {"type": "object", "properties": {"to": {}, "key": {"type": "string"}}, "required": ["to", "key"]}


def test_a_hidden_argument_is_in_no_part_of_the_schema_and_the_original_stays() -> None:
    shown = without(SCHEMA, {"key"})
    assert shown == {"type": "object", "properties": {"to": {}}, "required": ["to"]}
    assert SCHEMA["required"] == ["to", "key"]
    assert "key" in SCHEMA["properties"]


def test_a_schema_that_is_odd_is_left_as_it_is() -> None:
    assert without(SCHEMA, ()) is SCHEMA
    assert without({"properties": 1, "required": "key"}, {"key"}) == {"properties": 1, "required": "key"}


def test_who_gives_it_is_seen_in_whatever_case() -> None:
    assert given_though_hidden({"apiKey"}, {"to", "APIKEY"}) == "apiKey"
    assert given_though_hidden({"apiKey"}, {"to"}) == ""
    assert given_though_hidden((), {"apiKey"}) == ""
