"""The shapes that arguments take: what is accepted, the Cedar type of it, and the Cedar value of each.

JSON -> Cedar: string -> String; integer -> Long; boolean -> Bool; number -> {text, decimal}; object -> Record; array
-> {items: Set, count: Long}; array of objects -> {items: a Set a member, count}; a union, a map, or whatever has no
fixed form -> {json, digest}; what the catalogue calls opaque -> {digest}. A null where the schema admits one is
absent.

A value that does not fit raises `Misfit`, which names the argument and never its value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from forestall.core.canonical import MAX_SAFE_INTEGER, canonical

Type = Mapping[str, Any]
"""A type in Cedar's JSON schema form."""

MAX_DEPTH = 32
"""Levels of nesting in an argument. Cedar's parser takes 60 nested records and fails at 100."""

ACTIVE = frozenset({"__entity", "__extn", "__expr"})
"""Members that Cedar's JSON gives a meaning of its own: a string could become an entity. Refused wherever they
occur."""

STRING: Type = {"type": "String"}
LONG: Type = {"type": "Long"}
BOOL: Type = {"type": "Boolean"}
DECIMAL: Type = {"type": "Extension", "name": "decimal"}

_DECIMAL_SCALE = 10_000
_DECIMAL_LIMIT = 2**63 - 1


MAX_NAME = 120
"""Characters of an argument's name that are shown."""


class Misfit(Exception):
    def __init__(self, at: str, what: str) -> None:
        super().__init__(f"The argument `{_shown(at)}` {what}.")


def _shown(at: str) -> str:
    """A name that an agent may have chosen, fit for a log and a terminal."""
    short = at if len(at) <= MAX_NAME else at[:MAX_NAME] + "..."
    return short if short.isprintable() else ascii(short)[1:-1]


class _Absent:
    __slots__ = ()


ABSENT = _Absent()


def record(attributes: Mapping[str, Type], optional: frozenset[str] = frozenset()) -> Type:
    members = {name: {**kind, "required": False} if name in optional else kind for name, kind in attributes.items()}
    return {"type": "Record", "attributes": members}


def set_of(element: Type) -> Type:
    return {"type": "Set", "element": element}


FREE = record({"json": STRING, "digest": STRING})
DIGEST = record({"digest": STRING})
NUMBER = record({"text": STRING, "decimal": DECIMAL})


class Shape(Protocol):
    @property
    def type(self) -> Type: ...

    def cedar(self, value: Any, at: str) -> Any:
        """The Cedar value of `value`, which stands at `at`; ABSENT for a null that stands for nothing. Raises
        Misfit.
        """
        ...


@dataclass(frozen=True, slots=True)
class Text:
    @property
    def type(self) -> Type:
        return STRING

    def cedar(self, value: Any, at: str) -> Any:
        if type(value) is not str:
            raise Misfit(at, "is not a string")
        if not value.isascii() and not _is_unicode(value):
            raise Misfit(at, "holds half of a surrogate pair")
        return value


@dataclass(frozen=True, slots=True)
class Flag:
    @property
    def type(self) -> Type:
        return BOOL

    def cedar(self, value: Any, at: str) -> Any:
        if type(value) is not bool:
            raise Misfit(at, "is neither true nor false")
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    @property
    def type(self) -> Type:
        return LONG

    def cedar(self, value: Any, at: str) -> Any:
        if type(value) is float and value.is_integer():
            value = int(value)  # 5.0 is an integer to JSON Schema
        if type(value) is not int:
            raise Misfit(at, "is not an integer")
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise Misfit(at, "is beyond 2^53-1")
        return value


@dataclass(frozen=True, slots=True)
class Number:
    @property
    def type(self) -> Type:
        return NUMBER

    def cedar(self, value: Any, at: str) -> Any:
        if type(value) is not int and type(value) is not float:
            raise Misfit(at, "is not a number")
        text = canonical(value).decode()
        return {"text": text, "decimal": _decimal(text, at)}


@dataclass(frozen=True, slots=True)
class Digest:
    """Policy sees only that it is there, and whether it is the same."""

    @property
    def type(self) -> Type:
        return DIGEST

    def cedar(self, value: Any, at: str) -> Any:
        require_inert(value, at)
        return {"digest": _digest(canonical(value))}


@dataclass(frozen=True, slots=True)
class Free:
    """JSON without a fixed form: its canonical text, and a digest of it. It fits one of `branches`, where there are
    any.
    """

    branches: tuple[Shape, ...] = ()

    @property
    def type(self) -> Type:
        return FREE

    def cedar(self, value: Any, at: str) -> Any:
        require_inert(value, at)
        if self.branches and not any(_fits(branch, value, at) for branch in self.branches):
            raise Misfit(at, "fits none of the forms it may take")
        text = canonical(value)
        return {"json": text.decode(), "digest": _digest(text)}


@dataclass(frozen=True, slots=True)
class Among:
    """A shape that admits these values alone, by their canonical form (JSON's 1 and 1.0 are one value, true is
    another).
    """

    shape: Shape
    values: frozenset[bytes]

    @property
    def type(self) -> Type:
        return self.shape.type

    def cedar(self, value: Any, at: str) -> Any:
        if canonical(value) not in self.values:
            raise Misfit(at, "is not one of the values it may have")
        return self.shape.cedar(value, at)


@dataclass(frozen=True, slots=True)
class Either:
    """Several shapes of one Cedar type."""

    branches: tuple[Shape, ...]

    @property
    def type(self) -> Type:
        return self.branches[0].type

    def cedar(self, value: Any, at: str) -> Any:
        for branch in self.branches:
            if _fits(branch, value, at):
                return branch.cedar(value, at)
        raise Misfit(at, "fits none of the forms it may take")


@dataclass(frozen=True, slots=True)
class Nullable:
    shape: Shape

    @property
    def type(self) -> Type:
        return self.shape.type

    def cedar(self, value: Any, at: str) -> Any:
        return ABSENT if value is None else self.shape.cedar(value, at)


@dataclass(frozen=True, slots=True)
class Listing:
    """An array. Cedar's sets have neither order, size nor repetition, so the count stands beside."""

    element: Shape

    @property
    def type(self) -> Type:
        return record({"items": set_of(_element_type(self.element)), "count": LONG})

    def cedar(self, value: Any, at: str) -> Any:
        items = [_element(self.element, item, f"{at}[{index}]") for index, item in enumerate(_array(value, at))]
        return {"items": [item for item in items if item is not ABSENT], "count": len(items)}


@dataclass(frozen=True, slots=True)
class Table:
    """An array of objects: a set of values for each member, and how many objects there are."""

    row: Fields

    @property
    def type(self) -> Type:
        columns = {name: set_of(_element_type(shape)) for name, shape in self.row.members.items()}
        return record({"items": record(columns), "count": LONG})

    def cedar(self, value: Any, at: str) -> Any:
        columns: dict[str, list[Any]] = {name: [] for name in self.row.members}
        rows = _array(value, at)
        for index, row in enumerate(rows):
            where = f"{at}[{index}]"
            for name, member in self.row.present(row, where):
                item = _element(self.row.members[name], member, f"{where}.{name}")
                if item is not ABSENT:
                    columns[name].append(item)
        return {"items": columns, "count": len(rows)}


@dataclass(frozen=True, slots=True)
class Fields:
    """An object whose members are declared. Others are refused, or passed over where the owner said so."""

    members: Mapping[str, Shape]
    required: frozenset[str] = frozenset()
    accept_undeclared: bool = False
    optional: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        nullable = {name for name, shape in self.members.items() if isinstance(shape, Nullable)}
        object.__setattr__(self, "optional", (frozenset(self.members) - self.required) | nullable)

    @property
    def type(self) -> Type:
        return record({name: shape.type for name, shape in self.members.items()}, self.optional)

    def cedar(self, value: Any, at: str) -> Any:
        result = {}
        for name, member in self.present(value, at):
            mapped = self.members[name].cedar(member, f"{at}.{name}" if at else name)
            if mapped is not ABSENT:
                result[name] = mapped
        return result

    def present(self, value: Any, at: str) -> Sequence[tuple[str, Any]]:
        """The declared members that `value` has. Raises Misfit for a missing or an undeclared one."""
        if not isinstance(value, Mapping):
            raise Misfit(at, "is not an object")
        for name in self.required:
            if name not in value:
                raise Misfit(f"{at}.{name}" if at else name, "is missing")
        found = [(name, member) for name, member in value.items() if name in self.members]
        if len(found) != len(value):
            self._require_accepted(value, at)
        return found

    def _require_accepted(self, value: Mapping[str, Any], at: str) -> None:
        for name in value:
            where = f"{at}.{name}" if at else str(name)
            if name in ACTIVE:
                raise Misfit(where, "has a name that has a meaning of its own to Cedar")
            if name not in self.members and not self.accept_undeclared:
                raise Misfit(where, "is not declared by the tool's input schema")
            require_inert(value[name], where)


def require_inert(value: Any, at: str, depth: int = MAX_DEPTH) -> None:
    """Raise Misfit where a value nests too deep or has a member that Cedar would act on."""
    if not isinstance(value, Mapping | list | tuple):
        return
    if depth <= 0:
        raise Misfit(at, f"nests deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        if not ACTIVE.isdisjoint(value):
            raise Misfit(at, "has a member whose name has a meaning of its own to Cedar")
        for member in value.values():
            require_inert(member, at, depth - 1)
    else:
        for member in value:
            require_inert(member, at, depth - 1)


def _array(value: Any, at: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise Misfit(at, "is not an array")
    return value


def _scalar(shape: Shape) -> bool:
    return shape.type in (STRING, LONG, BOOL, NUMBER)


def _element_type(shape: Shape) -> Type:
    """Inside a set: strings, integers and booleans as they are, numbers as decimals, all else as canonical JSON
    text.
    """
    if not _scalar(shape):
        return STRING
    return DECIMAL if shape.type == NUMBER else shape.type


def _element(shape: Shape, value: Any, at: str) -> Any:
    mapped = shape.cedar(value, at)
    if mapped is ABSENT:
        return mapped
    if not _scalar(shape):
        return canonical(value).decode()
    return mapped["decimal"] if shape.type == NUMBER else mapped


def _fits(shape: Shape, value: Any, at: str) -> bool:
    try:
        shape.cedar(value, at)
    except Misfit:
        return False
    return True


def _decimal(text: str, at: str) -> str:
    """Cedar's decimal: 64 bits, one to four digits after the point."""
    scaled = Decimal(text) * _DECIMAL_SCALE
    if abs(scaled) > _DECIMAL_LIMIT or scaled != int(scaled):
        raise Misfit(at, "is a number that policy cannot compare exactly (four decimal places at most)")
    sign = "-" if scaled < 0 else ""
    whole, fraction = divmod(abs(int(scaled)), _DECIMAL_SCALE)
    return f"{sign}{whole}.{fraction:04d}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digest(text: bytes) -> str:
    return "sha256:" + hashlib.sha256(text).hexdigest()
