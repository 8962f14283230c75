"""One TOML file that people write: what it holds, where in it things stand, and what is wrong with it.

Every error is a `SetupError` of one sentence that names the file, and the line where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from forestall.core.errors import SetupError, cure
from forestall.core.toml import parse_toml

MAX_FILE = 1024 * 1024
"""Bytes. No settings or mandate written by a person come near it."""

_S = TypeVar("_S")
_W = TypeVar("_W", bound=str)


@dataclass(frozen=True, slots=True)
class Source:
    """One TOML file: what it holds, and where in it things stand."""

    file: Path
    text_: str
    table: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path, *, missing_ok: bool = False) -> Source:
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            if missing_ok:
                return cls(file, "", {})
            raise SetupError(f"{file} is missing; write it, or run `forestall init`.") from None
        except OSError as error:
            raise SetupError(f"{file} cannot be read: {cure(error)}.") from None
        if len(data) > MAX_FILE:
            raise SetupError(f"{file} is {len(data)} bytes; the limit is {MAX_FILE}.")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise SetupError(f"{file} is not UTF-8; save it as UTF-8.") from None
        return cls(file, text, parse_toml(text, file))

    def at(self, key: str, section: str = "") -> str:
        """`file:line` of a key, as far as it can be found."""
        header = ""
        for number, line in enumerate(self.text_.splitlines(), 1):
            opened = re.match(r"\s*\[+\s*([^\]]*?)\s*\]+", line)
            header = opened[1] if opened else header
            if (opened and header == key and not section) or (
                header == section and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line)
            ):
                return f"{self.file}:{number}"
        return str(self.file)

    def require_known(self, table: Iterable[str], known: Iterable[str], what: str, section: str = "") -> None:
        names = list(known)
        for name in table:
            if name not in names:
                near = get_close_matches(name, names, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(sorted(names))}."
                where = f" in [{section}]" if section else ""
                raise SetupError(f"{self.at(name, section)}: unknown {what} `{as_typed(name)}`{where}; {hint}")

    def section(self, name: str, kind: Callable[..., _S]) -> _S:
        table = self.table.get(name, {})
        if not isinstance(table, dict):
            raise SetupError(f"{self.at(name)}: `{name}` is a section; write [{name}] on a line of its own.")
        inside = Source(self.file, self.text_, table)
        known = {setting.name: setting for setting in fields(kind)}  # type: ignore[arg-type]  # a dataclass, by use
        self.require_known(table, known, "key", name)
        values = {key: inside.value(key, known[key], name) for key in table}
        return kind(**values)

    def value(self, key: str, setting: Any, section: str) -> Any:
        if "least" in setting.metadata:
            return self.integer(key, setting.metadata["least"], setting.metadata["most"], section)
        if key == "allowed_uids":
            return self._list(key, int, "numbers", section)
        return self.texts(key, section) if setting.default == () else self.text(key, section)

    def integer(self, key: str, least: int, most: int, section: str = "") -> int:
        value = self.table[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise SetupError(f"{self.at(key, section)}: `{key}` is a whole number from {least} to {most}.")
        return value

    def text(self, key: str, section: str = "") -> str:
        value = self.table[key]
        if not isinstance(value, str) or "\0" in value:
            raise SetupError(f"{self.at(key, section)}: `{key}` is a text.")
        return value

    def texts(self, key: str, section: str = "") -> tuple[str, ...]:
        return self._list(key, str, "texts", section)

    def _list(self, key: str, kind: type, what: str, section: str) -> tuple[Any, ...]:
        value = self.table[key]
        if not isinstance(value, list) or not all(type(item) is kind for item in value):
            raise SetupError(f"{self.at(key, section)}: `{key}` is a list of {what}.")
        return tuple(value)

    def inside(self, key: str, what: str, section: str = "") -> Source:
        """The table under `key`, empty where there is none. `what`: the end of the sentence that says what it is."""
        table = self.table.get(key, {})
        if not isinstance(table, dict):
            raise SetupError(f"{self.at(key, section)}: `{key}` is a section: {what}")
        return Source(self.file, self.text_, table)

    def word(self, name: str, known: Iterable[_W], what: str, key: str, section: str = "") -> _W:
        """The one of `known` that is called `name`. Where it stands: under `key`."""
        words = {str(word): word for word in known}
        if name in words:
            return words[name]
        near = get_close_matches(name, list(words), 1) or list(words)
        hint = f"did you mean `{near[0]}`?" if len(near) == 1 else f"known are {', '.join(near)}."
        raise SetupError(f"{self.at(key, section)}: unknown {what} `{as_typed(name)}`; {hint}")


def as_typed(name: str) -> str:
    """A name from a file, on one line and with nothing that moves a terminal."""
    return name if name.isprintable() else ascii(name)[1:-1]
