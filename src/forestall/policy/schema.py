"""The Cedar schema: the one vocabulary that policies are written in (docs/policy.md), typed for every tool.

principal `Workload`, resource `Server`, action `Action::"server/tool"` in the groups of its effects. `context.args`,
`context.paths` and `context.references` are a tool's own; the rest of the context is the same for all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from forestall.core.effects import Confidence, Effect, groups
from forestall.core.equip import EQUIP
from forestall.core.label import Confidentiality, Integrity
from forestall.core.model import Assurance, Risk, Tool
from forestall.core.task import EXTEND, OPEN
from forestall.core.wanted import DELEGATE
from forestall.policy.arguments import Arguments, compile_arguments
from forestall.policy.shape import BOOL, LONG, STRING, Among, Fields, Nullable, Shape, Text, Type, record, set_of

METHOD_SERVER = "mcp"
"""Stands for the protocol itself: its tools are the methods that no table knows."""

METHOD_TOOL = Tool(
    METHOD_SERVER,
    "unknown",
    pin="",
    input_schema=MappingProxyType(
        {
            "properties": {"method": {"type": "string"}, "direction": {"enum": ["client", "server"]}},
            "required": ["method"],
        }
    ),
)
"""`direction`: who sent it."""

OWN: Mapping[str, Tool] = MappingProxyType({tool.id: tool for tool in (METHOD_TOOL, OPEN, DELEGATE, EXTEND, EQUIP)})
"""In every schema, whatever the catalogue holds."""

GROUPS = tuple(effect.value for effect in Effect)

_LABEL = record({"integrity": STRING, "confidentiality": STRING})

_EXECUTABLE = record({"path": STRING, "digest": STRING, "interpreter": BOOL, "same_uid": BOOL})

COMMON: Mapping[str, Type] = MappingProxyType(
    {
        "task": record({"id": STRING, "purpose": STRING, "mandate": STRING, "depth": LONG}),
        "labels": _LABEL,
        "effects": set_of(STRING),
        "confidence": STRING,
        "assurance": STRING,
        "asserted_name": STRING,
        "executable": {**_EXECUTABLE, "required": False},
        "own_files": BOOL,
        "unbound": BOOL,
        "output": _LABEL,
        "reversible": BOOL,
        "risk": {**STRING, "required": False},
        "posture": record({}),
        "approval": {**record({"granted": BOOL}), "required": False},
    }
)

WORDS: Mapping[tuple[str, ...], frozenset[str]] = MappingProxyType(
    {
        ("labels", "integrity"): frozenset(Integrity),
        ("labels", "confidentiality"): frozenset(Confidentiality),
        ("output", "integrity"): frozenset(Integrity),
        ("output", "confidentiality"): frozenset(Confidentiality),
        ("effects",): frozenset(Effect),
        ("confidence",): frozenset(Confidence),
        ("assurance",): frozenset(Assurance),
        ("risk",): frozenset(Risk),
    }
)
"""Attributes of the context that hold one of a few words (or, `effects`, a set of them)."""

PATH = record({"real": STRING, "inside": STRING}, frozenset({"inside"}))
PATHS = record({"inside": set_of(STRING), "all_inside": BOOL, "folder": STRING}, frozenset({"folder"}))
"""`folder`: the deepest that holds them all, empty for the working directory itself; absent unless all are inside."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A tool, and what policy can say of its arguments."""

    tool: Tool
    arguments: Arguments
    paths: Mapping[str, Type]
    """Control arguments that may name paths: a string is a PATH, an array of strings is PATHS."""
    context: Mapping[str, Type] = field(repr=False)
    """The attributes of its context."""
    words: Mapping[tuple[str, ...], frozenset[str]] = field(repr=False)
    """WORDS, and the arguments that are strings out of an `enum`."""


def compile_tool(tool: Tool, posture: Collection[str] = ()) -> Compiled:
    """`posture`: the parts of a posture that some source tells of."""
    arguments = compile_arguments(tool)
    texts, lists = arguments.texts() & tool.control, arguments.text_lists() & tool.control
    paths = {**dict.fromkeys(sorted(texts), PATH), **dict.fromkeys(sorted(lists), PATHS)}
    told = record(dict.fromkeys(sorted(posture), STRING), frozenset(posture))
    own = {"args": arguments.type, "paths": record(paths, frozenset(paths))}
    refs = {name: set_of(STRING) if paths[name] is PATHS else STRING for name in sorted(tool.references & paths.keys())}
    context = {**COMMON, "posture": told, **own, "references": record(refs, frozenset(refs))}
    words = {**WORDS, **dict(_enums(("args",), arguments.fields))}
    return Compiled(tool, arguments, paths, context, words)


def schema(tools: Iterable[Compiled]) -> dict[str, Any]:
    """The schema of these tools, in Cedar's JSON form."""
    return document({compiled.tool.id: (groups(compiled.tool.effects), compiled.context) for compiled in tools})


def document(actions: Mapping[str, tuple[frozenset[Effect], Mapping[str, Type]]]) -> dict[str, Any]:
    """Actions by id, with their groups and the attributes of their context."""
    tools = {name: _action(member_of, context) for name, (member_of, context) in actions.items()}
    workload = {"shape": record({"assurance": STRING})}
    return {
        "": {
            "entityTypes": {"Workload": workload, "Server": {}},
            "actions": {**{group: {} for group in GROUPS}, **tools},
        }
    }


def _action(member_of: frozenset[Effect], context: Mapping[str, Type]) -> dict[str, Any]:
    return {
        "memberOf": [{"id": effect.value} for effect in sorted(member_of)],
        "appliesTo": {
            "principalTypes": ["Workload"],
            "resourceTypes": ["Server"],
            "context": {"type": "Record", "attributes": dict(context)},
        },
    }


def _enums(at: tuple[str, ...], fields: Fields) -> Iterable[tuple[tuple[str, ...], frozenset[str]]]:
    for name, shape in fields.members.items():
        inner: Shape = shape.shape if isinstance(shape, Nullable) else shape
        if isinstance(inner, Fields):
            yield from _enums((*at, name), inner)
        elif isinstance(inner, Among) and isinstance(inner.shape, Text):
            yield (*at, name), frozenset(_word(value) for value in inner.values)


def _word(canonical: bytes) -> str:
    import json

    return str(json.loads(canonical))
