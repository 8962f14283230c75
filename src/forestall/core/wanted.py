"""What a task below another asks for: a closed form, read from the very arguments that are decided and recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.effects import Effect
from forestall.core.errors import InvalidInput
from forestall.core.grant_json import counted_from_json, resource_from_json
from forestall.core.label import Confidentiality
from forestall.core.model import Counted, Json, Resource
from forestall.core.own import own_tool
from forestall.core.quantity import Quantity

MAX_ENTRIES = 256
"""Tools, resources or parts of one value: as many as the signed form of a grant holds."""

MAX_TEXT = 1024
"""Characters of each."""

_TEXTS: Mapping[str, Json] = MappingProxyType({"type": "array", "items": {"type": "string"}})
_AMOUNTS: Mapping[str, Json] = MappingProxyType({"type": "object"})
_RESOURCE: Mapping[str, Json] = MappingProxyType(
    {
        "type": "object",
        "properties": {"tool": {"type": "string"}, "argument": {"type": "string"}, "value": _TEXTS},
        "required": ["tool", "argument", "value"],
        "additionalProperties": False,
    }
)

DELEGATE = own_tool(
    "delegate",
    {
        "to": {"type": "string"},
        "tools": _TEXTS,
        "effects": {"type": "array", "items": {"enum": [effect.value for effect in Effect]}},
        "resources": {"type": "array", "items": _RESOURCE},
        "confidentiality": {"enum": [level.value for level in Confidentiality]},
        "expires_at": {"type": "integer"},
        "budget": _AMOUNTS,
        "per_call": _AMOUNTS,
        "max_depth": {"type": "integer"},
    },
    ("to",),
)
"""What policy is asked about when a task is handed on. What is not said is as in the task above."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The authority that a delegated task asks for. None: as the task above has it."""

    to: str
    """The id of the agent that is to hold it."""
    tools: tuple[str, ...] | None = None
    effects: frozenset[Effect] | None = None
    resources: tuple[Resource, ...] = ()
    """Bounds besides those of the task above."""
    ceiling: Confidentiality | None = None
    expires_at: int | None = None
    budget: Mapping[Counted, int] | None = None
    """Of what is not named: as much as the task above may use."""
    per_call: Mapping[Quantity, int] | None = None
    """A budget that is less than one call may use permits no call."""
    max_depth: int | None = None


def parse_wanted(arguments: Mapping[str, Json]) -> Wanted:
    """Raises InvalidInput: an unknown member, one of the wrong type or too large, or nobody to hold the task."""
    unknown = set(arguments) - set(DELEGATE.input_schema["properties"])
    if unknown or "to" not in arguments:
        raise InvalidInput("A delegation says `to`, and nothing but what the schema of `forestall/delegate` has.")

    def member(name: str, read: Callable[[str, Json], _T]) -> _T | None:
        return read(name, arguments[name]) if name in arguments else None

    return Wanted(
        to=_text("to", arguments["to"]),
        tools=member("tools", _texts),
        effects=member("effects", _effects),
        resources=member("resources", _resources) or (),
        ceiling=member("confidentiality", _level),
        expires_at=member("expires_at", _whole),
        budget=member("budget", _amounts),
        per_call=member("per_call", _quantities),
        max_depth=member("max_depth", _whole),
    )


def _text(name: str, value: Json) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise InvalidInput(f"`{name}` is a text, of {MAX_TEXT} characters at the most.")
    return value


def _list(name: str, value: Json) -> list[Json]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ENTRIES:
        raise InvalidInput(f"`{name}` is a list that is not empty, of {MAX_ENTRIES} members at the most.")
    return value


def _texts(name: str, value: Json) -> tuple[str, ...]:
    return tuple(_text(name, one) for one in _list(name, value))


def _effects(name: str, value: Json) -> frozenset[Effect]:
    return frozenset(_word(name, Effect, one) for one in _list(name, value))


def _level(name: str, value: Json) -> Confidentiality:
    return _word(name, Confidentiality, value)


def _word(name: str, kind: Callable[[str], _T], value: Json) -> _T:
    try:
        return kind(_text(name, value))
    except ValueError:
        raise InvalidInput(f"`{name}` has a word that means nothing here.") from None


def _whole(name: str, value: Json) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SAFE_INTEGER:
        raise InvalidInput(f"`{name}` is a whole number.")
    return value


def _resources(name: str, value: Json) -> tuple[Resource, ...]:
    return tuple(_resource(name, one) for one in _list(name, value))


def _resource(name: str, value: Json) -> Resource:
    if not isinstance(value, dict) or set(value) != {"tool", "argument", "value"}:
        raise InvalidInput(f"`{name}` is a list of objects, each with `tool`, `argument` and `value`.")
    for member in ("tool", "argument"):
        _text(member, value[member])
    if not all(isinstance(part, str) and len(part) <= MAX_TEXT for part in _list("value", value["value"])):
        raise InvalidInput("`value` is a list of texts: the parts of it that are fixed.")
    return resource_from_json(value)


def _amounts(name: str, value: Json) -> dict[Counted, int]:
    if not isinstance(value, dict) or not value:
        raise InvalidInput(f"`{name}` is an object that says how much of what.")
    return {_word(name, counted_from_json, key): _whole(key, amount) for key, amount in value.items()}


def _quantities(name: str, value: Json) -> dict[Quantity, int]:
    amounts = _amounts(name, value)
    if not all(isinstance(counted, Quantity) for counted in amounts):
        raise InvalidInput(f"`{name}` is of quantities alone: a call is one call.")
    return {counted: amount for counted, amount in amounts.items() if isinstance(counted, Quantity)}
