"""What a Python value says, as JSON has it: for looking into it, never for showing it. Best effort.

Texts, bytes, numbers, collections, attributes of objects, and of an exception its text, its causes and its notes. What
is said only when somebody asks for it, such as the lines of an open file or the items of an iterator, is not asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any
from uuid import UUID

MAX_OBJECTS = 10_000
"""Objects whose attributes are looked at: one that belongs to a framework may hold all of it."""

_SILENT = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)


def spoken(value: object) -> list[Any]:
    """Lists, mappings and texts alone; each collection and each object once, however often it is held."""
    return _Listener().hear(value)


class _Listener:
    def __init__(self) -> None:
        self._known: dict[int, object] = {}
        """By identity; they are held, so that none makes room for another of the same identity."""
        self._objects = 0
        self._waiting: list[tuple[list[Any], object]] = []

    def hear(self, value: object) -> list[Any]:
        heard: list[Any] = []
        self._waiting.append((heard, value))
        while self._waiting:
            into, one = self._waiting.pop()
            text = _text(one)
            if text is not None:
                into.append(text)
            elif one is not None and id(one) not in self._known:
                self._known[id(one)] = one
                self._open(into, one)
        return heard

    def _open(self, into: list[Any], one: object) -> None:
        if isinstance(one, Mapping):
            self._named(into, _tried(one.items))
        elif isinstance(one, list | tuple | deque | AbstractSet):
            self._each(into, _tried(lambda: one))
        elif isinstance(one, BaseException):
            said = _tried(lambda: [str(one)])
            self._each(into, [*said, one.args, one.__cause__, one.__context__, getattr(one, "exceptions", None)])
        if not isinstance(one, _SILENT) and self._objects < MAX_OBJECTS and (inner := _attributes(one)):
            self._objects += 1
            self._named(into, inner)

    def _each(self, into: list[Any], parts: Sequence[Any]) -> None:
        inside: list[Any] = []
        into.append(inside)
        self._waiting.extend((inside, part) for part in reversed(parts))

    def _named(self, into: list[Any], parts: Sequence[tuple[object, object]]) -> None:
        """What has one name stands together, as in a mapping of JSON; a key that is no text may say something too."""
        inside: dict[str, list[Any]] = {}
        into.append(inside)
        for key, value in reversed(parts):
            name = _text(key)
            self._waiting.append((inside.setdefault(name or "", []), value))
            if name is None:
                self._waiting.append((inside.setdefault("", []), key))


def _text(one: object) -> str | None:
    if isinstance(one, str):
        return str.__str__(one)
    if isinstance(one, int):
        return hex(one) if one.bit_length() > 4096 else int.__repr__(one)  # a longer one has no decimal text
    if isinstance(one, bytes | bytearray | memoryview):
        return bytes(one).decode(errors="replace")
    return str(one) if isinstance(one, float | PurePath | UUID) else None


def _attributes(one: object) -> Sequence[tuple[str, object]]:
    """Without asking the object itself, whose answer may be anything."""
    names = [field.name for field in fields(one)] if is_dataclass(one) and not isinstance(one, type) else []
    try:
        own = list(object.__getattribute__(one, "__dict__").items())
    except AttributeError:
        own = []
    slots = [(name, value) for name in names for value in _slot(one, name)]
    return [*own, *slots] if own or slots else ()


def _slot(one: object, name: str) -> Sequence[object]:
    return _tried(lambda: [object.__getattribute__(one, name)])


def _tried(ask: Callable[[], Iterable[Any]]) -> Sequence[Any]:
    """A program's own collection may raise anything; then it says nothing."""
    try:
        return list(ask())
    except Exception:  # noqa: BLE001
        return ()
