"""What holds for every definition that a server could send, and for every file that a person could write."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.catalogue import load
from forestall.catalogue.change import classify_change, differences
from forestall.catalogue.propose import propose
from forestall.catalogue.read import read_texts
from forestall.catalogue.statement import MAX_TOOL_NAME, effective
from forestall.catalogue.write import accept, render_definitions, render_head, render_tool
from forestall.core.canonical import parse
from forestall.core.effects import UNKNOWN, Confidence
from forestall.core.errors import SetupError
from forestall.core.label import WORST
from forestall.core.pin import definition_digest
from tests.unit.catalogue.sample import LOOK, SEND, files, table

FILE = Path("mail.toml")
ASSUMED = 'from = { effects = "assumed", arguments = "assumed", output = "assumed" }'

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
printing = text.filter(lambda name: 0 < len(name) <= MAX_TOOL_NAME and name.isprintable())
scalar = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | text
value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=8
)
schema = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(text, value, max_size=4)},
    optional={"required": st.lists(text, max_size=2), "title": text, "additionalProperties": value},
)
hints = st.fixed_dictionaries(
    {}, optional={name: st.booleans() | text for name in ("readOnlyHint", "destructiveHint", "openWorldHint", "title")}
)
definition = st.fixed_dictionaries(
    {"name": printing},
    optional={
        "inputSchema": schema | value,
        "description": text,
        "annotations": hints,
        "outputSchema": value,
        "x": value,
    },
)


@given(definition)
def test_whatever_a_server_sends_it_proposes_and_holds_at_the_worst(one: dict[str, Any]) -> None:
    name, proposal = one["name"], propose(one)
    written = render_head("mail", "x") + render_tool("mail", one, proposal, "today")
    said = read_texts(FILE, written, {name: one})
    (tool,) = said.tools()
    assert said.statements[name].effects == proposal.statement.effects
    assert tool.effects >= UNKNOWN
    assert tool.output == WORST
    assert tool.durable
    assert tool.content == frozenset()
    assert tool.pin == definition_digest("mail", one)
    accepted = read_texts(FILE, accept(written, [name], "today"), {name: one})
    assert accepted.tools()[0].effects == proposal.statement.effects
    assert accepted.tools()[0].confidence is Confidence.DECLARED


@given(definition)
def test_definitions_are_read_back_as_they_were_sent(one: dict[str, Any]) -> None:
    kept = parse(render_definitions("mail", {one["name"]: one}), max_bytes=1_000_000)["tools"][0]
    assert definition_digest("mail", kept) == definition_digest("mail", one)
    assert kept == one


@given(definition, definition)
def test_a_change_that_the_pin_sees_has_a_difference(old: dict[str, Any], new: dict[str, Any]) -> None:
    same = definition_digest("mail", old) == definition_digest("mail", new)
    assert bool(differences(old, new)) is not same
    assert classify_change(old, old) == "cosmetic"
    for difference in differences(old, new):
        assert str(difference).isprintable()
        assert str(difference).isascii()


@given(definition, text)
def test_a_description_is_always_wording(one: dict[str, Any], words: str) -> None:
    assert classify_change(one, {**one, "description": words}) == "cosmetic"


@given(schema, text, st.sampled_from(["default", "enum", "const", "type", "x-other"]), value)
def test_a_keyword_that_is_no_wording_is_always_authority(one: Any, name: str, keyword: str, new: Any) -> None:
    old = {"name": "t", "inputSchema": {**one, "properties": {**one["properties"], name: {}}}}
    changed = copy.deepcopy(old)
    changed["inputSchema"]["properties"][name] = {keyword: new}
    assert classify_change(old, changed) == "authority"


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_file_is_refused_or_says_what_it_said(data: st.DataObject) -> None:
    """No damage makes a tool milder without the word that declares it."""
    whole = 'format = 1\nserver = "mail"\n' + table(**{"from": ASSUMED})
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 12)))
    damaged = whole[:start] + data.draw(text) + whole[end:]
    try:
        tools = read_texts(FILE, damaged, {"send": SEND, "look": LOOK}).tools()
    except SetupError:
        tools = []
    for tool in tools:
        assert tool.confidence is Confidence.DECLARED or tool.effects >= UNKNOWN


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_bytes_are_no_catalogue(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    directory = tmp_path_factory.mktemp("catalogue")
    files(directory)
    for name in ("mail.toml", "mail.json"):
        kept = (directory / name).read_bytes()
        (directory / name).write_bytes(data)
        with pytest.raises(SetupError, match=r"mail\."):
            load(directory)
        (directory / name).write_bytes(kept)


@given(value)
def test_json_is_no_list_of_definitions(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    directory = tmp_path_factory.mktemp("catalogue")
    files(directory)
    (directory / "mail.json").write_text(json.dumps({"format": 1, "server": "mail", "tools": data}))
    with pytest.raises(SetupError, match=r"mail\."):
        load(directory)


@given(definition)
def test_only_declared_facts_hold_as_they_are_written(one: dict[str, Any]) -> None:
    said = propose(one).statement
    for fact in ("effects", "output"):
        assert said.says(fact) is Confidence.ASSUMED
    assert effective("mail", one, said).control >= set(said.control)
