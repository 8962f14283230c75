"""From a type hint to JSON and back.

A codec writes a value as fresh, plain JSON for the decision, and rebuilds from that JSON what the function is given.
It takes the value itself or its JSON form alike, since a model sends JSON. What is not of the hinted type is refused
and not converted.
"""

from __future__ import annotations

import base64
import collections.abc
import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, TypeVar
from uuid import UUID

from forestall.core.canonical import MAX_DEPTH, canonical
from forestall.core.errors import InvalidInput, SetupError
from forestall.core.model import NOTHING

MAX_VALUES = 250_000
"""Values in one free-form argument. Bounds a list that holds itself; no tool's JSON comes near it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of a type are carried. `schema` is JSON Schema 2020-12 for what `encode` returns.

    `encode` raises for a value that it cannot write; `decode` is given only what `encode` returned.
    """

    schema: Mapping[str, Any]
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]

    def or_null(self) -> Codec:
        return _union((self, _NULL))


def codec_of(hint: Any, where: str, custom: Mapping[type, Codec] = NOTHING) -> Codec:
    """The codec for a type hint. `where` names the parameter, for the error.

    Raises:
        SetupError: JSON has no form for such values, and `custom` gives none.
    """
    if isinstance(hint, type) and hint in custom:
        return _guarded(custom[hint])
    if (simple := _simple(hint)) is not None:
        return simple
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _described(codec_of(parts[0], where, custom), parts[1:])
    if isinstance(hint, typing.NewType):
        return codec_of(hint.__supertype__, where, custom)
    if origin is typing.Literal:
        return _enumeration(parts, {value: value for value in parts})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _enumeration([member.value for member in hint], {member.value: member for member in hint})
    if typing.is_typeddict(hint):
        return _typed_dict(hint, where, custom)
    if origin in (typing.Union, types.UnionType):
        return _union([codec_of(part, where, custom) for part in parts])
    if (container := _container(origin or hint, parts, where, custom)) is not None:
        return container
    named = getattr(hint, "__name__", None) or str(hint)
    raise SetupError(
        f"{where} is a {named}, which JSON cannot carry: give `codecs={{{named}: Codec(...)}}`, "
        "or hold it in the function's closure or in `self`."
    )


def _simple(hint: Any) -> Codec | None:
    try:
        return _SIMPLE.get(hint)
    except TypeError:  # a hint that holds something unhashable
        return None


def _container(kind: Any, parts: tuple[Any, ...], where: str, custom: Mapping[type, Codec]) -> Codec | None:
    if kind in (list, collections.abc.Sequence, collections.abc.Iterable):
        return _array(codec_of(parts[0] if parts else Any, where, custom), list)
    if kind is tuple and (len(parts) != 2 or parts[1] is not ...) and parts:
        return _fixed([codec_of(part, where, custom) for part in parts])
    if kind is tuple:
        return _array(codec_of(parts[0] if parts else Any, where, custom), tuple)
    if kind in (dict, collections.abc.Mapping) and (not parts or parts[0] is str):
        return _object(codec_of(parts[1] if parts else Any, where, custom))
    return None


def _refuse(value: Any, wanted: str) -> InvalidInput:
    return InvalidInput(f"it must be {wanted}, not {type(value).__name__}.")


def _same(value: T) -> T:
    return value


def _string(value: Any) -> str:
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise _refuse(value, "a string")


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__index__(value)
    raise _refuse(value, "an integer")


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__index__(value)
    raise _refuse(value, "a number")


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise _refuse(value, "true or false")


def _null(value: Any) -> None:
    if value is not None:
        raise _refuse(value, "null")


def _copy(value: Any) -> Any:
    """Any JSON value, as fresh plain objects, read once."""
    return _copied(value, MAX_DEPTH, [MAX_VALUES])


def _copied(value: Any, depth: int, left: list[int]) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    left[0] -= 1
    if depth <= 0 or left[0] < 0:
        raise InvalidInput("it nests too deep, or holds itself.")
    if isinstance(value, dict):
        left[0] -= len(value)
        return {_string(name): _copied(member, depth - 1, left) for name, member in list(value.items())}
    if isinstance(value, list | tuple):
        left[0] -= len(value)
        return [_copied(member, depth - 1, left) for member in list(value)]
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return _number(value)
    raise InvalidInput(f"a {type(value).__name__} has no JSON form; give the tool a codec for it.")


def _array(item: Codec, kind: type) -> Codec:
    def encode(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise _refuse(value, "an array")
        return [item.encode(member) for member in list(value)]

    return Codec({"type": "array", "items": item.schema}, encode, lambda value: kind(map(item.decode, value)))


def _fixed(items: Sequence[Codec]) -> Codec:
    def encode(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise _refuse(value, f"an array of {len(items)}")
        return [item.encode(member) for item, member in zip(items, value, strict=True)]

    schema = {"type": "array", "prefixItems": [item.schema for item in items], "items": False, "minItems": len(items)}
    return Codec(
        schema, encode, lambda value: tuple(item.decode(member) for item, member in zip(items, value, strict=True))
    )


def _object(member: Codec) -> Codec:
    def encode(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _refuse(value, "an object")
        return {_string(name): member.encode(held) for name, held in list(value.items())}

    schema = {"type": "object", "additionalProperties": member.schema or True}
    return Codec(schema, encode, lambda value: {name: member.decode(held) for name, held in value.items()})


def _typed_dict(hint: Any, where: str, custom: Mapping[type, Codec]) -> Codec:
    hints = typing.get_type_hints(hint, include_extras=True)
    marks = {name: typing.get_origin(part) for name, part in hints.items()}
    bare = {name: typing.get_args(part)[0] if marks[name] in _MARKS else part for name, part in hints.items()}
    members = {name: codec_of(part, where, custom) for name, part in bare.items()}
    required = frozenset(name for name in hints if _MARKS.get(marks[name], name in hint.__required_keys__))

    def encode(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _refuse(value, "an object")
        held = dict(value)
        if wrong := (held.keys() - members.keys()) | (required - held.keys()):
            raise InvalidInput(f"it has too many or too few members: {', '.join(sorted(map(str, wrong)))}.")
        return {name: members[name].encode(member) for name, member in held.items()}

    schema = {
        "type": "object",
        "properties": {name: member.schema for name, member in members.items()},
        "required": sorted(required),
        "additionalProperties": False,
    }
    return Codec(schema, encode, lambda value: {name: members[name].decode(held) for name, held in value.items()})


def _enumeration(values: Sequence[Any], meanings: Mapping[Any, Any]) -> Codec:
    """A closed set of JSON scalars. 1, 1.0 and True are equal to Python and different here."""
    known = {(type(value), value): value for value in values}
    back = {(type(value), value): meaning for value, meaning in meanings.items()}

    def encode(value: Any) -> Any:
        plain = value.value if isinstance(value, enum.Enum) else value
        try:
            return known[type(plain), plain]
        except (KeyError, TypeError):
            raise InvalidInput(f"it must be one of {', '.join(map(repr, values))}.") from None

    return Codec({"enum": [_copy(value) for value in values]}, encode, lambda value: back[type(value), value])


def _union(options: Sequence[Codec]) -> Codec:
    """The first option that takes the value; on the way back, the first that takes its JSON."""

    def encode(value: Any) -> Any:
        return _first(options, value)[1]

    def decode(value: Any) -> Any:
        return _first(options, value)[0].decode(value)

    return Codec({"anyOf": [option.schema for option in options]}, encode, decode)


def _first(options: Sequence[Codec], value: Any) -> tuple[Codec, Any]:
    for option in options:
        try:
            return option, option.encode(value)
        except InvalidInput as error:
            refusal = error
    raise refusal if len(options) == 1 else InvalidInput(f"a {type(value).__name__} is none of what it may be.")


def _text(kind: type[Any], parse: Callable[[str], Any], write: Callable[[Any], str], **schema: str) -> Codec:
    """A type that JSON carries as a string. Its text is normalised, so that equal values are one digest."""

    def encode(value: Any) -> str:
        if type(value) is str:
            try:
                value = parse(value)
            except (ValueError, ArithmeticError):
                raise InvalidInput(f"it is not the text of a {kind.__name__}.") from None
        if not isinstance(value, kind) or (kind is date and isinstance(value, datetime)):
            raise _refuse(value, f"a {kind.__name__}")
        return _string(write(value))

    return Codec({"type": "string", **schema}, encode, parse)


def _described(codec: Codec, notes: tuple[Any, ...]) -> Codec:
    text = next((note for note in notes if isinstance(note, str)), None)
    return codec if text is None else replace(codec, schema={**codec.schema, "description": text})


def _guarded(codec: Codec) -> Codec:
    """Somebody else's codec: whatever it raises is a refusal, and what it writes is checked and copied."""

    def encode(value: Any) -> Any:
        try:
            written = codec.encode(value)
        except Exception as error:  # noqa: BLE001 - not our code; its message may hold the value
            raise InvalidInput(f"it could not be encoded ({type(error).__name__}).") from None
        canonical(copied := _copy(written))
        return copied

    return Codec(_copy(dict(codec.schema)), encode, lambda value: codec.decode(_copy(value)))


_MARKS: Mapping[Any, bool] = {typing.Required: True, typing.NotRequired: False}
"""Python does not see these itself where annotations are kept as text (PEP 563)."""

_FREE = Codec({}, _copy, _copy)
_NULL = Codec({"type": "null"}, _null, _same)

_SIMPLE: dict[Any, Codec] = {
    Any: _FREE,
    object: _FREE,
    str: Codec({"type": "string"}, _string, _same),
    int: Codec({"type": "integer"}, _integer, _same),
    float: Codec({"type": "number"}, _number, float),
    bool: Codec({"type": "boolean"}, _boolean, _same),
    None: _NULL,
    type(None): _NULL,
    Path: _text(PurePath, Path, str),
    PurePath: _text(PurePath, PurePath, str),
    datetime: _text(datetime, datetime.fromisoformat, datetime.isoformat, format="date-time"),
    date: _text(date, date.fromisoformat, date.isoformat, format="date"),
    UUID: _text(UUID, UUID, str, format="uuid"),
    Decimal: _text(Decimal, Decimal, str),
    bytes: _text(
        bytes,
        lambda text: base64.b64decode(text, validate=True),
        lambda data: base64.b64encode(data).decode(),
        contentEncoding="base64",
    ),
}
