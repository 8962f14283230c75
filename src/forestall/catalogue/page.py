"""A place in a TOML file: what is read there, and how to say that it is wrong, with file and line."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from forestall.catalogue.lines import find_line
from forestall.core.errors import SetupError
from forestall.core.toml import parse_toml

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Page:
    """A place in a file: what is read there, and how to say that it is wrong."""

    file: Path
    text: str
    path: tuple[str, ...] = ()

    def under(self, *path: str) -> Page:
        return Page(self.file, self.text, (*self.path, *path))

    def fail(self, sentence: str, *path: str) -> NoReturn:
        raise SetupError(
            f"{self.file}:{find_line(self.text, *self.path, *path)}: {self._where()}{sentence.replace('?.', '?')}"
        )

    def _where(self) -> str:
        return f"tool {self.path[1]!r}: " if len(self.path) > 1 else ""

    def data(self) -> dict[str, Any]:
        return parse_toml(self.text, self.file)

    def only(self, table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                self.fail(f"unknown key {key!r}{meant(key, known)}.", key)

    def table(self, value: object, *path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail("must be a table.", *path)
        return value

    def text_or_nothing(self, table: Mapping[str, Any], key: str) -> None:
        if not isinstance(table.get(key, ""), str):
            self.fail(f"`{key}` must be a string.", key)

    def texts(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(f"`{key}` must be a list of strings.", key)
        if len(set(value)) != len(value):
            self.fail(f"`{key}` names something twice.", key)
        return tuple(value)

    def boolean(self, table: Mapping[str, Any], key: str) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            self.fail(f"`{key}` must be true or false.", key)
        return value

    def word(self, kind: type[E], table: Mapping[str, Any], key: str) -> E:
        return self._word(kind, table.get(key), key)

    def words(self, kind: type[E], table: Mapping[str, Any], key: str) -> list[E]:
        return [self._word(kind, item, key) for item in self.texts(table, key)]

    def _word(self, kind: type[E], value: object, key: str) -> E:
        known = [item.value for item in kind]
        if not isinstance(value, str) or value not in known:
            said = "is missing" if value is None else f"cannot be {value!r:.60}"
            self.fail(f"`{key}` {said}; it is one of {', '.join(known)}.", key)
        return kind(value)


def meant(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
