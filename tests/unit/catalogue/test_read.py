from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forestall.catalogue import FileCatalogue, load
from forestall.catalogue.read import MAX_BYTES, read_server
from forestall.catalogue.statement import effective, require_server_name
from forestall.core.effects import UNKNOWN, Confidence, Effect
from forestall.core.errors import SetupError
from forestall.core.label import WORST, Confidentiality, Integrity, Label
from forestall.core.pin import definition_digest
from forestall.port import Catalogue
from tests.unit.catalogue.sample import LOOK, SEND, files, table

ASSUMED = 'from = { effects = "assumed", arguments = "assumed", output = "assumed" }'


def test_a_declared_tool_is_what_the_file_says(tmp_path: Path) -> None:
    files(
        tmp_path,
        table(
            **{
                "from": 'from = { effects = "declared", arguments = "declared", output = "declared",'
                ' record_of = "declared", reversible = "declared" }',
                "record_of": 'record_of = ["/id"]',
                "reversible": "reversible = true",
                "opaque": 'opaque = ["body"]',
                "accept_undeclared": "accept_undeclared = true",
            }
        ),
    )
    known: Catalogue = load(tmp_path)
    tool = known.find("mail/send")
    assert tool is not None
    assert tool.effects == {Effect.EXTERNAL}
    assert tool.confidence is Confidence.DECLARED
    assert (tool.control, tool.content) == ({"to"}, {"body"})
    assert tool.output == Label(Integrity.TRUSTED, Confidentiality.INTERNAL)
    assert tool.record_of == ("/id",)
    assert tool.reversible
    assert tool.opaque == {"body"}
    assert tool.accept_undeclared
    assert tool.pin == definition_digest("mail", SEND)
    assert tool.input_schema == SEND["inputSchema"]
    assert known.all() == (tool,)
    assert known.find("mail/look") is None  # defined, but nobody reviewed it
    assert known.find("send") is None


def test_a_reference_is_an_argument_that_is_decided_about(tmp_path: Path) -> None:
    files(tmp_path, table(references='references = ["to"]'))
    tool = load(tmp_path).find("mail/send")
    assert tool is not None
    assert tool.references == {"to"} <= tool.control


def test_a_hidden_argument_is_known_to_nobody_who_decides(tmp_path: Path) -> None:
    files(tmp_path, table(content="content = []", hidden='hidden = ["body"]'))
    tool = load(tmp_path).find("mail/send")
    assert tool is not None
    assert (tool.hidden, tool.control, tool.content) == ({"body"}, {"to"}, frozenset())
    assert "body" not in tool.input_schema["properties"]
    assert "body" not in tool.input_schema.get("required", [])
    assert tool.pin == definition_digest("mail", SEND), "the pin is over what the server says"


def test_what_is_only_assumed_makes_nothing_milder(tmp_path: Path) -> None:
    files(tmp_path, table(effects='effects = ["read"]', **{"from": ASSUMED}))
    tool = load(tmp_path).find("mail/send")
    assert tool is not None
    assert tool.effects == {Effect.READ} | UNKNOWN
    assert tool.confidence is tool.output_confidence is Confidence.ASSUMED
    assert (tool.control, tool.content) == ({"to", "body"}, frozenset())
    assert tool.output == WORST
    assert tool.durable


@pytest.mark.parametrize("origin", ["assumed", "derived"])
def test_only_a_person_makes_a_tool_reversible_or_a_system_of_record(tmp_path: Path, origin: str) -> None:
    facts = ", ".join(f'{fact} = "{origin}"' for fact in ("effects", "arguments", "output", "record_of", "reversible"))
    lines = {"from": f"from = {{ {facts} }}", "record_of": 'record_of = ["/id"]', "reversible": "reversible = true"}
    files(tmp_path, table(**lines))
    tool = load(tmp_path).find("mail/send")
    assert tool is not None
    assert (tool.record_of, tool.reversible) == ((), False)
    assert tool.output == WORST
    assert tool.effects >= UNKNOWN


def test_an_effect_that_is_assumed_still_makes_it_graver(tmp_path: Path) -> None:
    files(tmp_path, table(effects='effects = ["privilege"]', **{"from": ASSUMED}))
    tool = load(tmp_path).find("mail/send")
    assert tool is not None
    assert tool.effects == {Effect.PRIVILEGE} | UNKNOWN


def test_an_argument_in_neither_list_chooses_what_happens(tmp_path: Path) -> None:
    files(tmp_path, table(control="", content='content = ["body"]'))
    tool = load(tmp_path).find("mail/send")
    assert tool is not None
    assert tool.control == {"to"}


def test_names_that_another_server_has_too_are_duplicates_until_one_is_chosen(tmp_path: Path) -> None:
    other = {**SEND, "name": "Send"}
    pin = definition_digest("chat", other)
    files(tmp_path)
    both = table(pin=f'pin = "{pin}"').replace("[tools.send]", "[tools.Send]")
    files(tmp_path, both, server="chat", definitions=[other])
    assert load(tmp_path).duplicates() == {"mail/send", "chat/Send"}
    files(tmp_path, table(chosen="accept_duplicate = true"))
    assert load(tmp_path).duplicates() == {"chat/Send"}


def test_the_same_name_in_another_servers_place_is_another_pin() -> None:
    assert definition_digest("mail", SEND) != definition_digest("chat", SEND)
    assert definition_digest("mail", {**SEND, "icons": []}) == definition_digest("mail", SEND)
    assert definition_digest("mail", {**SEND, "description": "x"}) != definition_digest("mail", SEND)


def test_the_reviewed_definition_is_kept_as_it_was_sent(tmp_path: Path) -> None:
    files(tmp_path, definitions=[{**SEND, "_meta": {"x": 1}}, LOOK])
    known = load(tmp_path)
    assert known.definition("mail/send") == {**SEND, "_meta": {"x": 1}}
    assert known.definition("mail/look") is None


def test_no_directory_knows_no_tool(tmp_path: Path) -> None:
    assert load(tmp_path / "none") == FileCatalogue({}, {}, frozenset())


WRONG: dict[str, tuple[str, int, str]] = {
    "unknown effect": (table(effects='effects = ["reed"]'), 5, "read, write, external"),
    "no effect": (table(effects="effects = []"), 5, "names no effect"),
    "effects are no list": (table(effects='effects = "read"'), 5, "list of strings"),
    "no effects at all": (
        table(effects="", **{"from": 'from = { arguments = "declared", output = "declared" }'}),
        4,
        "no effect",
    ),
    "twice": (table(effects='effects = ["read", "read"]'), 5, "twice"),
    "misspelt key": (table(controll='controll = ["to"]'), 11, "did you mean 'control'"),
    "no such argument": (table(control='control = ["too"]'), 6, "did you mean 'to'"),
    "no such content": (table(content='content = ["text"]'), 7, "no argument 'text'"),
    "no such opaque": (table(opaque='opaque = ["x"]'), 11, "no argument 'x'"),
    "no such reference": (table(references='references = ["x"]'), 11, "no argument 'x'"),
    "reference that is carried": (table(references='references = ["body"]'), 11, "is not control"),
    "opaque reference": (table(opaque='opaque = ["to"]', references='references = ["to"]'), 12, "is opaque"),
    "no such hidden": (table(hidden='hidden = ["x"]'), 11, "no argument 'x'"),
    "hidden and decided about": (table(hidden='hidden = ["to"]'), 11, "never decided about"),
    "in both lists": (table(content='content = ["to"]'), 7, "both"),
    "unknown label": (
        table(output='output = { integrity = "high", confidentiality = "public" }'),
        8,
        "trusted, untrusted",
    ),
    "half a label": (table(output='output = { integrity = "trusted" }'), 8, "`confidentiality` is missing"),
    "unknown in label": (
        table(output='output = { integrity = "trusted", confidentiality = "public", x = 1 }'),
        8,
        "unknown key 'x'",
    ),
    "label is no table": (table(output='output = "public"'), 8, "must be a table"),
    "unknown origin": (
        table(**{"from": ASSUMED.replace('"assumed"', '"guessed"', 1)}),
        9,
        "assumed, derived, declared",
    ),
    "fact without origin": (
        table(**{"from": 'from = { effects = "declared", output = "declared" }'}),
        9,
        "`arguments`",
    ),
    "origin without fact": (
        table(reversible="", **{"from": ASSUMED.replace("}", ', reversible = "declared" }')}),
        9,
        "`reversible`",
    ),
    "no origin": (table(**{"from": ""}), 4, "does not say where"),
    "pin of something else": (table(pin=f'pin = "sha256:{"0" * 64}"'), 10, "not the digest"),
    "no pin": (table(pin=""), 4, "64 hex digits"),
    "short pin": (table(pin='pin = "sha256:00"'), 10, "64 hex digits"),
    "pin of another server": (table(server="chat"), 10, "not the digest"),
    "flag is no boolean": (table(flag='accept_duplicate = "yes"'), 11, "true or false"),
    "pointer": (
        table(record='record_of = ["id"]', **{"from": ASSUMED.replace("}", ', record_of = "declared" }')}),
        11,
        "JSON pointer",
    ),
    "not defined": ("\n[tools.gone]\n", 4, "no definition of 'gone'"),
    "tool is no table": ("\n[tools]\nsend = 1\n", 5, "must be a table"),
    "tools is no table": ('tools = "all"\n', 3, "must be a table"),
    "unknown at the top": ('note = "x"\n', 3, "unknown key 'note'"),
    "not TOML": ("\n[tools.send\n", 4, "This is not TOML"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, name: str) -> None:
    text, line, sentence = WRONG[name]
    path = files(tmp_path, text)
    with pytest.raises(SetupError) as error:
        load(tmp_path)
    assert str(error.value).startswith(f"{path}:{line}:")
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ('format = 2\nserver = "mail"\n', "`format` must be 1"),
        ('server = "mail"\n', "`format` must be 1"),
        ('format = 1\nserver = "male"\n', "as the file is named"),
        ("format = 1\n", "as the file is named"),
        ('format = 1\nserver = "mail"\nabout = 3\n', "must be a string"),
    ],
)
def test_a_wrong_head_is_refused(tmp_path: Path, head: str, sentence: str) -> None:
    files(tmp_path).write_text(head)
    with pytest.raises(SetupError, match=sentence):
        load(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"format": 1, "server": "mail"}',
        b'{"format": 1, "server": "mail", "tools": {}}',
        b'{"format": 1, "server": "mail", "tools": [1]}',
        b'{"format": 1, "server": "mail", "tools": [{}]}',
        b'{"format": 1, "server": "mail", "tools": [{"name": ""}]}',
        b'{"format": 1, "server": "mail", "tools": [{"name": "a\\u202eb"}]}',
        b'{"format": 1, "server": "mail", "tools": [], "more": 1}',
        b'{"format": 1, "server": "chat", "tools": []}',
        b'{"format": 2, "server": "mail", "tools": []}',
        b'{"format": 1, "format": 1, "server": "mail", "tools": []}',
        b'{"format": 1, "server": "mail", "tools": [' + b"[" * 1000 + b"]" * 1000 + b"]}",
    ],
)
def test_definitions_that_cannot_be_trusted_are_refused(tmp_path: Path, data: bytes) -> None:
    files(tmp_path)
    (tmp_path / "mail.json").write_bytes(data)
    with pytest.raises(SetupError, match=r"mail\.json"):
        load(tmp_path)


def test_a_tool_defined_twice_is_refused(tmp_path: Path) -> None:
    files(tmp_path, definitions=[SEND, SEND])
    with pytest.raises(SetupError, match="defined twice"):
        load(tmp_path)


def test_missing_definitions_are_refused(tmp_path: Path) -> None:
    files(tmp_path)
    (tmp_path / "mail.json").unlink()
    with pytest.raises(SetupError, match=r"mail\.json is missing. Restore it"):
        load(tmp_path)


def test_a_definition_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = files(tmp_path)
    data = json.loads((tmp_path / "mail.json").read_text())
    data["tools"][0]["description"] = "Sends a message to everyone."
    (tmp_path / "mail.json").write_text(json.dumps(data))
    with pytest.raises(SetupError, match="not the digest"):
        read_server(path)


@pytest.mark.parametrize("name", ["mcp", "forestall", "MCP", ".hidden", "-x", "a b", "a/b", "é", "x" * 65])
def test_a_server_cannot_have_every_name(name: str) -> None:
    with pytest.raises(SetupError):
        require_server_name(name)


@pytest.mark.parametrize("name", ["a", "git", "my.server-2_x", "0", "x" * 64])
def test_ordinary_names_are_names(name: str) -> None:
    assert require_server_name(name) == name


def test_a_reserved_file_is_refused(tmp_path: Path) -> None:
    files(tmp_path, server="mail")
    (tmp_path / "mcp.toml").write_text('format = 1\nserver = "mcp"\n')
    with pytest.raises(SetupError, match=r"mcp\.toml"):
        load(tmp_path)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mail.toml").write_bytes(b"\xff")
    with pytest.raises(SetupError, match="UTF-8"):
        load(tmp_path)
    (tmp_path / "mail.toml").unlink()
    (tmp_path / "mail.toml").mkdir()
    with pytest.raises(SetupError, match="cannot be read"):
        load(tmp_path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "mail.toml").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(SetupError, match="larger than"):
        load(tmp_path)


def test_a_schema_that_refers_elsewhere_takes_any_argument_name(tmp_path: Path) -> None:
    elsewhere = {**SEND, "inputSchema": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}}
    pin = definition_digest("mail", elsewhere)
    files(tmp_path, table(pin=f'pin = "{pin}"'), definitions=[elsewhere])
    tool = load(tmp_path).find("mail/send")
    assert tool is not None
    assert tool.control == {"to"}


def test_a_schema_that_is_no_object_declares_nothing(tmp_path: Path) -> None:
    said = read_server(files(tmp_path)).statements["send"]
    tool = effective("mail", {**SEND, "inputSchema": True}, replace(said, control=(), content=()))
    assert tool.input_schema == {}
    assert tool.control == frozenset()
