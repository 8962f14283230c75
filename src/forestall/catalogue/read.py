"""From files to values. Whatever is not understood is refused, with file and line: a catalogue is never half read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from forestall.catalogue.page import Page, meant
from forestall.catalogue.statement import (
    FACTS,
    Definition,
    Statement,
    argument_names,
    effective,
    names_all_arguments,
    require_server_name,
    require_tool_name,
)
from forestall.core.canonical import parse
from forestall.core.effects import Confidence, Effect
from forestall.core.errors import InvalidInput, SetupError, cure
from forestall.core.label import WORST, Confidentiality, Integrity, Label
from forestall.core.model import Tool
from forestall.core.pin import definition_digest

FORMAT = 1
"""Version of the two files' layout."""

MAX_BYTES = 16 * 1024 * 1024
"""Of one file: as much as a frame holds, so that any list a gateway can pass on can be kept."""

MAX_DEPTH = 128
"""Levels of nesting of a definition; as in a frame."""

RESTORE = "Restore it from a copy, or remove it and the TOML file of the same name, and run `forestall init`."
"""What to do about a file of definitions, which nobody writes by hand."""

_TOP = ("format", "server", "about", "tools")
_TOOL = (
    "effects",
    "control",
    "content",
    "output",
    "record_of",
    "reversible",
    "opaque",
    "hidden",
    "references",
    "accept_undeclared",
    "accept_duplicate",
    "from",
    "pin",
)
_PIN = re.compile(r"sha256:[0-9a-f]{64}")
_POINTER = re.compile(r"(/([^/~]|~[01])*)*")  # RFC 6901 section 3


@dataclass(frozen=True, slots=True)
class ServerFile:
    """One server's two files, read and found to fit each other."""

    server: str
    statements: Mapping[str, Statement]
    """By bare tool name, in the order of the file."""
    definitions: Mapping[str, Definition]
    """What was reviewed, by bare tool name; may hold more than the statements."""

    def tools(self) -> list[Tool]:
        return [effective(self.server, self.definitions[name], said) for name, said in self.statements.items()]


@dataclass(frozen=True, slots=True)
class FileCatalogue:
    """Every reviewed tool of this machine. A value: read it again to see a change."""

    tools: Mapping[str, Tool] = field(default_factory=dict)
    definitions: Mapping[str, Definition] = field(default_factory=dict, repr=False)
    shadowed: frozenset[str] = frozenset()

    def find(self, tool: str) -> Tool | None:
        return self.tools.get(tool)

    def all(self) -> Sequence[Tool]:
        return tuple(self.tools.values())

    def duplicates(self) -> frozenset[str]:
        return self.shadowed

    def definition(self, tool: str) -> Definition | None:
        """The definition that was reviewed, as its server sent it."""
        return self.definitions.get(tool)


def load(directory: Path) -> FileCatalogue:
    """Read every server's files; a directory that does not exist knows no tool.

    Raises:
        SetupError: anything in it is missing, malformed, unknown, or does not fit the rest.
    """
    servers = [read_server(file) for file in sorted(directory.glob("*.toml"))]
    tools = [tool for server in servers for tool in server.tools()]
    definitions = {
        f"{server.server}/{name}": server.definitions[name] for server in servers for name in server.statements
    }
    return FileCatalogue(
        MappingProxyType({tool.id: tool for tool in tools}), MappingProxyType(definitions), _duplicates(tools)
    )


def _duplicates(tools: Collection[Tool]) -> frozenset[str]:
    """Names equal but for case count as one: a model or a person would take one for the other."""
    by_name: dict[str, list[Tool]] = defaultdict(list)
    for tool in tools:
        by_name[tool.name.casefold()].append(tool)
    groups = (group for group in by_name.values() if len({tool.server for tool in group}) > 1)
    return frozenset(tool.id for group in groups for tool in group if not tool.accept_duplicate)


def read_server(file: Path) -> ServerFile:
    """NAME.toml and the NAME.json beside it.

    Raises:
        SetupError: see `load`.
    """
    server = require_named(file)
    text = read_text(file)
    return read_texts(file, text, read_definitions(file.with_name(f"{server}.json"), server))


def read_texts(file: Path, text: str, definitions: Mapping[str, Definition]) -> ServerFile:
    """What a file of this name would say if it held this text, beside these definitions.

    Raises:
        SetupError: see `load`.
    """
    page, server = Page(file, text), require_named(file)
    data = page.data()
    page.only(data, _TOP)
    if data.get("format") != FORMAT:
        page.fail(f"`format` must be {FORMAT}; this version reads no other.", "format")
    if data.get("server") != server:
        page.fail(f"`server` must be {server!r}, as the file is named.", "server")
    page.text_or_nothing(data, "about")
    tables = page.table(data.get("tools", {}), "tools")
    statements = {name: _statement(page, server, name, table, definitions) for name, table in tables.items()}
    return ServerFile(server, MappingProxyType(statements), MappingProxyType(dict(definitions)))


def require_named(file: Path) -> str:
    try:
        return require_server_name(file.name.removesuffix(".toml"))
    except SetupError as error:
        raise SetupError(f"{file}: {error}") from None


def read_text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise SetupError(f"{file}: larger than {MAX_BYTES} bytes; this is no catalogue file.")
        return file.read_bytes().decode()
    except OSError as error:
        raise SetupError(f"{file}: cannot be read: {cure(error)}.") from None
    except UnicodeDecodeError:
        raise SetupError(f"{file}: not UTF-8; save it as UTF-8.") from None


def read_definitions(file: Path, server: str) -> dict[str, Definition]:
    """The definitions that were reviewed, by tool name."""
    if not file.exists():
        raise SetupError(f"{file} is missing. {RESTORE}")
    try:
        data = parse(read_text(file), max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)
    except InvalidInput as error:
        raise SetupError(f"{file}: {error} {RESTORE}") from None
    if not isinstance(data, dict) or set(data) != {"format", "server", "tools"} or data["format"] != FORMAT:
        raise SetupError(f"{file}: must be an object of `format` = {FORMAT}, `server` and `tools`, no more, no less.")
    if data["server"] != server:
        raise SetupError(f"{file}: `server` must be {server!r}, as the file is named.")
    try:
        return by_name(data["tools"])
    except SetupError as error:
        raise SetupError(f"{file}: {error}") from None


def by_name(definitions: object) -> dict[str, Definition]:
    """A list of definitions by name.

    Raises:
        SetupError: it is not a list of objects with names that differ.
    """
    if not isinstance(definitions, list) or not all(isinstance(item, dict) for item in definitions):
        raise SetupError("`tools` must be a list of tool definitions.")
    found: dict[str, Definition] = {}
    for item in definitions:
        name = require_tool_name(item.get("name"))
        if name in found:
            raise SetupError(f"The tool {name!r} is defined twice.")
        found[name] = item
    return found


def _statement(page: Page, server: str, name: str, table: object, definitions: Mapping[str, Definition]) -> Statement:
    at = page.under("tools", name)
    values = at.table(table)
    at.only(values, _TOOL)
    if name not in definitions:
        at.fail(f"there is no definition of {name!r} in {server}.json; restore it, or remove this table.")
    said = Statement(
        effects=frozenset(at.words(Effect, values, "effects")),
        control=at.texts(values, "control"),
        content=at.texts(values, "content"),
        output=_output(at, values),
        origin=_origin(at, values),
        pin=_pin(at, server, values, definitions[name]),
        record_of=at.texts(values, "record_of"),
        reversible=at.boolean(values, "reversible"),
        opaque=at.texts(values, "opaque"),
        hidden=at.texts(values, "hidden"),
        references=at.texts(values, "references"),
        accept_undeclared=at.boolean(values, "accept_undeclared"),
        accept_duplicate=at.boolean(values, "accept_duplicate"),
    )
    _require_fit(at, said, definitions[name])
    return said


def _output(at: Page, values: Mapping[str, Any]) -> Label:
    if "output" not in values:
        return WORST
    inner = at.under("output")
    label = inner.table(values["output"])
    inner.only(label, ("integrity", "confidentiality"))
    return Label(inner.word(Integrity, label, "integrity"), inner.word(Confidentiality, label, "confidentiality"))


def _origin(at: Page, values: Mapping[str, Any]) -> Mapping[str, Confidence]:
    """Every fact that is written says where it comes from, and no other does."""
    inner = at.under("from")
    table = inner.table(values.get("from", {}))
    inner.only(table, FACTS)
    written = {"arguments" if key in ("control", "content") else key for key in values} & set(FACTS)
    for fact in FACTS:
        if fact in written and fact not in table:
            at.fail(
                f'`from` does not say where `{fact}` comes from; write {fact} = "declared" if you reviewed it.', "from"
            )
        if fact in table and fact not in written:
            inner.fail(f"`from` speaks of `{fact}`, which is not written.", fact)
    return MappingProxyType({fact: inner.word(Confidence, table, fact) for fact in table})


def _pin(at: Page, server: str, values: Mapping[str, Any], definition: Definition) -> str:
    pin = values.get("pin")
    if not isinstance(pin, str) or not _PIN.fullmatch(pin):
        at.fail('`pin` must be "sha256:" and 64 hex digits; `forestall init` writes it.', "pin")
    if pin != definition_digest(server, definition):
        at.fail(
            f"`pin` is not the digest of the definition in {server}.json, so it is not known what was reviewed;"
            " restore both files from a copy, or remove this table and run `forestall init`.",
            "pin",
        )
    return pin


def _require_fit(at: Page, said: Statement, definition: Definition) -> None:
    if not said.effects:
        at.fail('`effects` names no effect; a tool that only looks has ["read"].', "effects")
    if both := set(said.control) & set(said.content):
        at.fail(f"{min(both)!r} is in both `control` and `content`; `control` is the safe choice.", "content")
    known = argument_names(definition)
    _require_hidden(at, said, definition)
    for key, names in (("control", said.control), ("content", said.content), ("opaque", said.opaque)):
        if (stray := sorted(set(names) - known)) and names_all_arguments(definition):
            at.fail(f"the tool has no argument {stray[0]!r}{meant(stray[0], known)}.", key)
    _require_references(at, said, definition)
    for pointer in said.record_of:
        if not _POINTER.fullmatch(pointer):
            at.fail(f"{pointer!r} in `record_of` is no JSON pointer; it starts with '/'.", "record_of")


def _require_references(at: Page, said: Statement, definition: Definition) -> None:
    """A reference is a control argument that the schema names: a text, or an array of texts."""
    tool = effective("", definition, said)
    for name in said.references:
        if name not in argument_names(definition):
            at.fail(f"the tool has no argument {name!r}{meant(name, argument_names(definition))}.", "references")
        if name not in tool.control:
            at.fail(f"{name!r} is not control: what a call uses the content of, it chooses.", "references")
        if name in said.opaque:
            at.fail(f"{name!r} is opaque, and a path that is not looked at binds nothing.", "references")


def _require_hidden(at: Page, said: Statement, definition: Definition) -> None:
    """An argument that a credential fills in stands at the top of the schema, and nowhere else in the statement."""
    known = argument_names(definition)
    if stray := sorted(set(said.hidden) - known):
        at.fail(f"the tool has no argument {stray[0]!r}{meant(stray[0], known)}.", "hidden")
    if said.hidden and not names_all_arguments(definition):
        at.fail("an argument can be hidden only where the schema says all its arguments at its top.", "hidden")
    if both := set(said.hidden) & {*said.control, *said.content, *said.opaque}:
        at.fail(f"{min(both)!r} is hidden, and never decided about; take it out of the other lists.", "hidden")
