from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forestall.catalogue.propose import propose
from forestall.catalogue.read import ServerFile, read_texts
from forestall.catalogue.write import (
    SHOWN,
    accept,
    accept_change,
    comment_text,
    render_definitions,
    render_head,
    render_tool,
)
from forestall.core.canonical import parse
from forestall.core.effects import Confidence, Effect
from tests.unit.catalogue.sample import LOOK, SEND, files, table

FILE = Path("mail.toml")
TODAY = "2026-11-21"


def rendered(*definitions: dict[str, Any]) -> str:
    head = render_head("mail", 'quo"te 1.0')
    return head + "".join(render_tool("mail", one, propose(one), TODAY) for one in definitions)


def read(text: str, *definitions: dict[str, Any]) -> ServerFile:
    return read_texts(FILE, text, {one["name"]: one for one in definitions})


def test_what_is_written_is_read_back() -> None:
    said = read(rendered(SEND, LOOK), SEND, LOOK).statements
    assert list(said) == ["send", "look"]
    assert said["send"].effects == propose(SEND).statement.effects
    assert said["send"].proposed == ("effects", "arguments", "output")
    assert said["look"].says("arguments") is Confidence.DERIVED


@pytest.mark.parametrize("name", ["a b", 'quo"te', "dot.ted", "é", "-", "1", "back\\slash", "[x]", "a/b"])
def test_every_name_of_a_tool_can_be_written(name: str) -> None:
    one = {**SEND, "name": name}
    assert list(read(rendered(one), one).statements) == [name]
    assert list(read(accept(rendered(one), [name], TODAY), one).statements) == [name]


def test_a_description_stays_within_its_comment() -> None:
    one = {**SEND, "description": 'Look.\neffects = ["read"]\r\n[tools.x]\u2028y\x1b[2J\u202e\U000e0041' + "z" * 500}
    text = rendered(one)
    assert list(read(text, one).statements) == ["send"]
    (line,) = [line for line in text.splitlines() if "server says" in line]
    assert line.isprintable()
    assert "<U+202E>" in line
    assert len(line) < SHOWN + 40


def test_comment_text_is_one_printing_line() -> None:
    assert comment_text("a\n\tb\x00") == "a b<U+0000>"
    assert len(comment_text("x" * 1000)) == SHOWN


def test_accepting_declares_and_changes_nothing_else() -> None:
    text = rendered(SEND, LOOK).replace("# The server says: Sends a message.", "# mine")
    after = accept(text, ["send"], TODAY)
    said = read(after, SEND, LOOK).statements
    assert said["send"].proposed == ()
    assert said["look"].proposed == ("effects", "output")
    assert f"accepted with --accept {TODAY}" in after
    kept = [line for line in text.splitlines() if not line.startswith("from =")]
    assert [line for line in after.splitlines() if not line.startswith("from =")] == kept
    assert accept(after, ["send"], "another day") == after


def test_accepting_reads_every_way_to_write_a_table(tmp_path: Path) -> None:
    text = rendered(SEND)
    inline = next(line for line in text.splitlines() if line.startswith("from ="))
    apart = (
        text.replace(inline, "")
        + '\n[tools.send.from]\neffects = "assumed"\narguments = "assumed"\noutput = "assumed"\n'
    )
    assert read(apart, SEND).statements["send"].proposed
    assert read(accept(apart, ["send"], TODAY), SEND).statements["send"].proposed == ()


def test_a_table_in_several_pieces_is_accepted_too() -> None:
    facts = "".join(f'{fact} = "assumed"  # {fact}\n' for fact in ("effects", "arguments", "output"))
    head = 'format = 1\nserver = "mail"\n'
    text = head + table(**{"from": ""}) + table("look") + f"\n[tools.send.from]\n{facts}"
    assert read(text, SEND, LOOK).statements["send"].proposed
    after = accept(text, ["send"], TODAY)
    assert after == text.replace('"assumed"', '"declared"')
    new = {**SEND, "annotations": {"destructiveHint": True}}
    changed = accept_change(after, "mail", read(after, SEND, LOOK).statements["send"], new, TODAY)
    assert read(changed, new, LOOK).statements["send"].effects == {Effect.EXTERNAL, Effect.DESTRUCTIVE}


def test_accepting_a_change_pins_it_and_keeps_what_was_reviewed(tmp_path: Path) -> None:
    text = files(tmp_path).read_text() + "# a remark\n"
    before = read(text, SEND, LOOK).statements["send"]
    schema = {"type": "object", "properties": {"to": {"type": "string"}, "bcc": {"type": "string"}}}
    new = {**SEND, "inputSchema": schema, "annotations": {"destructiveHint": True, "openWorldHint": False}}
    after = accept_change(text, "mail", before, new, TODAY)
    held = read(after, new, LOOK)
    (tool,) = held.tools()
    assert tool.control == {"to", "bcc"}
    assert tool.content == frozenset()
    assert tool.effects == {Effect.EXTERNAL, Effect.DESTRUCTIVE}
    assert tool.confidence is Confidence.DECLARED
    assert after.endswith("# a remark\n")


def test_accepting_a_change_lowers_nothing(tmp_path: Path) -> None:
    text = files(tmp_path).read_text()
    before = read(text, SEND, LOOK).statements["send"]
    new = {**SEND, "annotations": {"readOnlyHint": True, "openWorldHint": False}}
    (tool,) = read(accept_change(text, "mail", before, new, TODAY), new, LOOK).tools()
    assert tool.effects == {Effect.EXTERNAL}


def test_definitions_are_kept_whole_and_sorted() -> None:
    text = render_definitions("mail", {"send": SEND, "look": {**LOOK, "_meta": {"é": 1.5}}})
    data = parse(text, max_bytes=10_000)
    assert data == {"format": 1, "server": "mail", "tools": [{**LOOK, "_meta": {"é": 1.5}}, SEND]}
    assert text.count("\n") > 10
