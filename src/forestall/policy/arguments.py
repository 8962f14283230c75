"""A tool's JSON Schema, compiled once: arguments in, typed Cedar record out, and whatever does not fit denied.

Enforced: type, required, enum, const, what is declared. `$ref` is inlined where it is local and ends; a union whose
branches have one Cedar type keeps that type. Other keywords only narrow what the tool accepts and are the tool's to
check. A schema that makes no sense, refers elsewhere, recurses or explodes costs its own argument the type (it
becomes {json, digest}), never another tool its policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from forestall.core.canonical import canonical
from forestall.core.errors import InvalidInput
from forestall.core.model import Tool
from forestall.policy.shape import (
    ACTIVE,
    MAX_DEPTH,
    STRING,
    Among,
    Digest,
    Either,
    Fields,
    Flag,
    Free,
    Listing,
    Nullable,
    Number,
    Shape,
    Table,
    Text,
    Type,
    Whole,
)

MAX_NODES = 2_000
"""Schemas within one tool's schema, `$ref` inlined. Ten times the largest seen; a few nested references can make
billions."""

_NAMES: Mapping[str, type[Text | Flag | Whole | Number]] = {
    "string": Text,
    "boolean": Flag,
    "integer": Whole,
    "number": Number,
}


@dataclass(frozen=True, slots=True)
class Arguments:
    """One tool's arguments."""

    fields: Fields
    notes: tuple[str, ...]
    """Arguments whose schema was not understood and that policy sees as JSON text."""

    @property
    def type(self) -> Type:
        return self.fields.type

    def cedar(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises Misfit, or InvalidInput for what has no canonical form."""
        result: Mapping[str, Any] = self.fields.cedar(arguments, "")
        return result

    def texts(self) -> frozenset[str]:
        """The arguments that are strings."""
        return frozenset(name for name, shape in self.fields.members.items() if shape.type == STRING)

    def text_lists(self) -> frozenset[str]:
        """The arguments that are arrays of strings."""
        listings = {name: _inner(shape) for name, shape in self.fields.members.items()}
        return frozenset(
            name for name, shape in listings.items() if isinstance(shape, Listing) and shape.element.type == STRING
        )


def compile_arguments(tool: Tool) -> Arguments:
    """What the tool takes. Never raises for what a schema says: the worst schema declares no argument at all."""
    compiler = _Compiler(tool.input_schema)
    try:
        schema = compiler.resolve(tool.input_schema, ()).schema
    except _NotUnderstood:
        schema = {}
    fields = compiler.fields(schema, (), 0)
    members = {name: _opaque(shape) if name in tool.opaque else shape for name, shape in fields.members.items()}
    return Arguments(
        Fields(members, fields.required, tool.accept_undeclared),
        tuple(name for name in members if name in compiler.notes),
    )


def _opaque(shape: Shape) -> Shape:
    return Nullable(Digest()) if isinstance(shape, Nullable) else Digest()


def _inner(shape: Shape) -> Shape:
    return shape.shape if isinstance(shape, Nullable) else shape


@dataclass(frozen=True, slots=True)
class _Resolved:
    schema: Any
    trail: tuple[str, ...]
    """The references that were followed to get here: one that comes again recurses."""


class _NotUnderstood(Exception):
    pass


@dataclass(slots=True)
class _Compiler:
    root: Mapping[str, Any]
    nodes: int = 0
    notes: set[str] = field(default_factory=set)

    def fields(self, schema: Any, trail: tuple[str, ...], depth: int) -> Fields:
        declared = schema.get("properties") if isinstance(schema, Mapping) else None
        declared = declared if isinstance(declared, Mapping) else {}
        required = schema.get("required") if isinstance(schema, Mapping) else None
        members: dict[str, Shape] = {}
        for name, inner in declared.items():
            if name in ACTIVE or inner is False:
                continue  # not declared, and so refused
            try:
                members[name] = self.shape(inner, trail, depth + 1)
            except (_NotUnderstood, InvalidInput, RecursionError):
                if depth == 0:
                    self.notes.add(name)
                members[name] = Free()
        return Fields(members, _names(required))

    def shape(self, schema: Any, trail: tuple[str, ...], depth: int) -> Shape:
        self.nodes += 1
        if depth >= MAX_DEPTH or self.nodes > MAX_NODES:
            raise _NotUnderstood
        if schema is True or schema == {}:
            return Nullable(Free())
        resolved = self.resolve(schema, trail)
        if not isinstance(resolved.schema, Mapping):
            raise _NotUnderstood
        return self._allowed(resolved.schema, self._typed(resolved.schema, resolved.trail, depth))

    def resolve(self, schema: Any, trail: tuple[str, ...]) -> _Resolved:
        """Follow `$ref`, and an `allOf` of one, keeping the keywords beside them."""
        while isinstance(schema, Mapping):
            every = schema.get("allOf")
            if "$ref" in schema:
                pointer = schema["$ref"]
                if pointer in trail:
                    raise _NotUnderstood
                trail = (*trail, pointer)
                target = self._target(pointer)
            elif isinstance(every, list) and len(every) == 1:
                target = every[0]
            else:
                break
            beside = {name: value for name, value in schema.items() if name not in ("$ref", "allOf")}
            schema = {**target, **beside} if isinstance(target, Mapping) and beside else target
        return _Resolved(schema, trail)

    def _target(self, pointer: Any) -> Any:
        """RFC 6901, within this schema."""
        if not isinstance(pointer, str) or not pointer.startswith("#/"):
            raise _NotUnderstood
        here: Any = self.root
        for part in pointer[2:].split("/"):
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(here, Mapping) and name in here:
                here = here[name]
            elif isinstance(here, list) and name.isdecimal() and int(name) < len(here):
                here = here[int(name)]
            else:
                raise _NotUnderstood
        return here

    def _typed(self, schema: Mapping[str, Any], trail: tuple[str, ...], depth: int) -> Shape:
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema and "properties" not in schema:
                return self._union(schema[keyword], trail, depth)
        if "allOf" in schema and "properties" not in schema:
            raise _NotUnderstood
        names = schema.get("type", _implied(schema))
        if isinstance(names, list):
            return self._union([{**schema, "type": name} for name in names], trail, depth)
        if names is None:
            return Nullable(Free())
        if not isinstance(names, str):
            raise _NotUnderstood
        if names in _NAMES:
            return _NAMES[names]()
        if names == "array":
            return self._array(schema, trail, depth)
        if names == "object":
            return self._object(schema, trail, depth)
        raise _NotUnderstood

    def _union(self, branches: Any, trail: tuple[str, ...], depth: int) -> Shape:
        if not isinstance(branches, list) or not branches:
            raise _NotUnderstood
        rest = [branch for branch in branches if not _is_null(branch)]
        shapes = [self.shape(branch, trail, depth + 1) for branch in rest]
        nullable = len(rest) < len(branches) or any(isinstance(shape, Nullable) for shape in shapes)
        shapes = [_inner(shape) for shape in shapes]
        if not shapes:
            raise _NotUnderstood
        if len(shapes) == 1:
            united = shapes[0]
        elif all(shape.type == shapes[0].type for shape in shapes):
            united = Either(tuple(shapes))
        else:
            united = Free(tuple(shapes))
        return Nullable(united) if nullable else united

    def _array(self, schema: Mapping[str, Any], trail: tuple[str, ...], depth: int) -> Shape:
        element = self.shape(schema.get("items", True), trail, depth + 1)
        if "prefixItems" in schema:
            return Free((Listing(Nullable(Free())),))
        return Table(element) if isinstance(element, Fields) else Listing(element)

    def _object(self, schema: Mapping[str, Any], trail: tuple[str, ...], depth: int) -> Shape:
        open_ended = schema.get("additionalProperties", False) is not False or "patternProperties" in schema
        if open_ended or not isinstance(schema.get("properties"), Mapping):
            return Free((Fields({}, accept_undeclared=True),))
        return self.fields(schema, trail, depth)

    def _allowed(self, schema: Mapping[str, Any], shape: Shape) -> Shape:
        """Apply `enum` and `const`."""
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if values is None:
            return shape
        if not isinstance(values, list):
            raise _NotUnderstood
        among = Among(_inner(shape), frozenset(canonical(value) for value in values if value is not None))
        return Nullable(among) if isinstance(shape, Nullable) and None in values else among


def _implied(schema: Mapping[str, Any]) -> Any:
    """The type that a schema without one must mean."""
    if "properties" in schema:
        return "object"
    if "items" in schema:
        return "array"
    values: Sequence[Any] = [schema["const"]] if "const" in schema else schema.get("enum", ())
    if values and isinstance(values, list):
        kinds = {_kind(value) for value in values if value is not None}
        names = sorted(kinds) + (["null"] if None in values else [])
        return names[0] if len(names) == 1 else names
    return None


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number" if isinstance(value, float) else "integer"
    return "array" if isinstance(value, list) else "object"


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _names(required: Any) -> frozenset[str]:
    """What `required` lists. A name that is not declared stays required, and so nothing fits."""
    return frozenset(_strings(required)) if isinstance(required, list) else frozenset()


def _strings(values: Iterable[Any]) -> Iterable[str]:
    return (value for value in values if isinstance(value, str))
