"""One table of a TOML file that the owner writes: its values by kind, and where in the file each stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, TypeVar

from forestall.core.errors import SetupError
from forestall.proof.fault import InvalidProof
from forestall.source import as_typed

_T = TypeVar("_T")

_HEADER = re.compile(r"\s*\[\[?\s*([^\]]*?)\s*\]\]?")


@dataclass(frozen=True, slots=True)
class Table:
    file: Path
    name: str
    """As a header has it, dots and all; empty for the whole file."""
    values: Mapping[str, Any]
    lines: Sequence[str]
    first: int
    """The index of its header's line, or of the file's first line."""
    last: int
    """The index behind its last line."""

    @classmethod
    def of_file(cls, values: Mapping[str, Any], text: str, file: Path) -> Self:
        lines = text.splitlines()
        return cls(file, "", values, lines, 0, len(lines))

    def error(self, key: str, sentence: str) -> SetupError:
        """To raise: `sentence` about `key`, with its place."""
        return SetupError(f"{self.at(key)}: {sentence}")

    def at(self, key: str) -> str:
        """Where the key, or its header, stands; where the table begins, if it is not found: `FILE:LINE`."""
        return f"{self.file}:{self._line(key) + 1}"

    def has(self, key: str) -> bool:
        return key in self.values

    def require_known(self, *known: str, needed: tuple[str, ...] = ()) -> None:
        """No other keys, and those that are needed. Raises SetupError, as everything here."""
        for key in self.values:
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(sorted(known))}."
                what = "key" if self.name else "section"
                where = f" in {self._shown}" if self.name else ""
                raise self.error(key, f"unknown {what} `{as_typed(key)}`{where}; {hint}")
        for key in needed:
            if key not in self.values:
                raise self.error(key, f"{self._shown} has no `{key}`; it says {', '.join(needed)}.")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or "\0" in value or (not value and key in self.values):
            raise self.error(key, f"`{key}` is a text that is not empty.")
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self.values.get(key, list(default))
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise self.error(key, f"`{key}` is a list of texts.")
        return tuple(value)

    def choice(self, key: str, known: tuple[str, ...], default: str | None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or value not in known:
            raise self.error(key, f"`{key}` is one of {', '.join(known)}.")
        return value

    def whole(self, key: str, least: int, most: int, default: int) -> int:
        value = self.values.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.error(key, f"`{key}` is a whole number from {least} to {most}.")
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, f"`{key}` is true or false.")
        return value

    def path(self, key: str) -> Path | None:
        """Relative to the file's directory; None where it is not there."""
        return self.file.parent / Path(self.text(key)).expanduser() if key in self.values else None

    def location(self, key: str, require: Callable[[str], str]) -> str | None:
        """An address that `require` lets through; None where it is not there."""
        return self.attempt(key, lambda: require(self.text(key))) if key in self.values else None

    def attempt(self, key: str, make: Callable[[], _T]) -> _T:
        """What `make` gives; what it refuses is an error about `key`."""
        try:
            return make()
        except (ValueError, InvalidProof) as error:
            raise self.error(key, f"this cannot be: {error}.") from None

    def tables(self, key: str) -> tuple[Table, ...]:
        """Each `[[key]]`."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self.error(key, f"`{key}` is a list of tables; write [[{self._inner(key)}]] on a line of its own.")
        return tuple(self._inside(key, each, at) for at, each in enumerate(value))

    def table(self, key: str) -> Table:
        """The one `[key]`, in whichever of TOML's ways it is written."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.error(key, f"`{key}` is a table; write [{self._inner(key)}] on a line of its own.")
        return self._inside(key, value, 0)

    @property
    def _shown(self) -> str:
        return f"[{self.name}]"

    def _inner(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _inside(self, key: str, values: Mapping[str, Any], index: int) -> Table:
        name = self._inner(key)
        starts = [at for at, header in self._headers() if header == name]
        if index >= len(starts):  # written inline
            return Table(self.file, name, values, self.lines, self._line(key), self.last)
        first = starts[index]
        ends = [at for at, header in self._headers() if at > first and not header.startswith(f"{name}.")]
        return Table(self.file, name, values, self.lines, first, ends[0] if ends else self.last)

    def _headers(self) -> list[tuple[int, str]]:
        within = range(self.first, self.last)
        return [(at, found[1]) for at in within if (found := _HEADER.match(self.lines[at])) is not None]

    def _line(self, key: str) -> int:
        """The index of the line where the key, or its header, stands; of the table's first, where it is not found."""
        header = self.name
        for at in range(self.first, self.last):
            found = _HEADER.match(self.lines[at])
            header = found[1] if found else header
            opened = found is not None and found[1] == self._inner(key)
            written = header == self.name and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", self.lines[at])
            if opened or written:
                return at
        return self.first
