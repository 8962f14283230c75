"""What a catalogue file says of one tool, and what then holds.

A fact that nobody declared cannot make anything milder: that is decided here, when a statement becomes a `Tool`, and
not left to whoever wrote the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from forestall.core.effects import UNKNOWN, Confidence, Effect
from forestall.core.errors import SetupError
from forestall.core.hide import without
from forestall.core.label import WORST, Label
from forestall.core.model import Tool
from forestall.core.own import SERVER

Definition = Mapping[str, Any]
"""A tool as its server describes it: the parsed JSON, every member kept."""

FACTS = ("effects", "arguments", "output", "record_of", "reversible")
"""What a statement gives an origin for. `arguments` stands for `control` and `content`, which split one set."""

_SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RESERVED = frozenset({"mcp", SERVER})
MAX_TOOL_NAME = 128
"""Characters; what the MCP specification recommends at most (2025-11-25, tools, tool names)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What is written, before what nobody declared is made harmless."""

    effects: frozenset[Effect]
    control: tuple[str, ...]
    content: tuple[str, ...]
    output: Label
    origin: Mapping[str, Confidence]
    """For each fact that is written, where it comes from."""
    pin: str = ""
    record_of: tuple[str, ...] = ()
    reversible: bool = False
    opaque: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    accept_undeclared: bool = False
    accept_duplicate: bool = False

    @property
    def proposed(self) -> tuple[str, ...]:
        """The facts that wait for a person."""
        return tuple(fact for fact in FACTS if self.origin.get(fact) is Confidence.ASSUMED)

    def says(self, fact: str) -> Confidence:
        return self.origin.get(fact, Confidence.ASSUMED)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A statement and, for each fact, the reason a reviewer is given."""

    statement: Statement
    reasons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def effective(server: str, definition: Definition, said: Statement) -> Tool:
    """What holds of a tool: declared facts as they are written, everything else at its worst."""
    hidden = frozenset(said.hidden)
    names = argument_names(definition) - hidden
    arguments_known = said.says("arguments") is not Confidence.ASSUMED
    declared = {fact for fact in FACTS if said.says(fact) is Confidence.DECLARED}
    content = frozenset(said.content) if arguments_known else frozenset()
    return Tool(
        server=server,
        name=definition["name"],
        pin=said.pin,
        effects=said.effects if "effects" in declared else said.effects | UNKNOWN,
        confidence=said.says("effects"),
        control=(names | frozenset(said.control)) - content,
        content=content,
        output=said.output if "output" in declared else said.output.join(WORST),
        output_confidence=said.says("output"),
        record_of=said.record_of if "record_of" in declared else (),
        reversible=said.reversible and "reversible" in declared,
        opaque=frozenset(said.opaque),
        accept_undeclared=said.accept_undeclared,
        accept_duplicate=said.accept_duplicate,
        hidden=hidden,
        references=frozenset(said.references),
        input_schema=without(input_schema(definition), hidden),
    )


def input_schema(definition: Definition) -> Mapping[str, Any]:
    """The schema of the arguments; one that is no object declares nothing."""
    schema = definition.get("inputSchema")
    return schema if isinstance(schema, dict) else {}


def argument_names(definition: Definition) -> frozenset[str]:
    """The arguments that the input schema names at its top."""
    properties = input_schema(definition).get("properties")
    return frozenset(properties) if isinstance(properties, dict) else frozenset()


def names_all_arguments(definition: Definition) -> bool:
    """Does the schema say all its arguments at its top, not in a part that it refers to?"""
    return not {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties"} & set(
        input_schema(definition)
    )


def require_server_name(name: str) -> str:
    """The name, if it can name a server and its files.

    Raises:
        SetupError: it has other characters, is too long, or is one that Forestall needs for itself.
    """
    if name.casefold() in _RESERVED:
        raise SetupError(f"A server cannot be named {name!r}: Forestall needs that name. Rename the server.")
    if not _SERVER.fullmatch(name):
        raise SetupError(
            f"A server cannot be {name!r}: use up to 64 of letters, digits, '_', '.', '-'; first a letter or digit."
        )
    return name


def require_tool_name(name: object) -> str:
    """The name, if it can be shown to a person without misleading them.

    Raises:
        SetupError: it is not a string, is empty or too long, or has a character that does not print.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_TOOL_NAME or not name.isprintable():
        raise SetupError(
            f"A tool is named {name!r:.60}: a name is 1 to {MAX_TOOL_NAME} printing characters. It cannot be used."
        )
    return name
