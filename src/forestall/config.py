"""Settings and mandates, from TOML (docs/adr/0002-home.md). Every key has a default; an unknown key is an error.

Every error is a `SetupError` of one sentence that names the file, and the line where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from forestall.core.effects import Effect
from forestall.core.errors import SetupError, cure
from forestall.core.model import Mandate
from forestall.core.toml import parse_toml
from forestall.home import Home

MAX_SOCKET_PATH = 107
"""Bytes that `sun_path` holds, its final zero aside (unix(7))."""

MAX_FILE = 1024 * 1024
"""Bytes. No settings or mandate written by a person come near it."""

DEFAULT_MANDATE = "default"

_MANDATE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_S = TypeVar("_S")


def _limit(default: int, least: int, most: int) -> int:
    """An integer setting with its bounds, inclusive."""
    value: int = field(default=default, metadata={"least": least, "most": most})
    return value


@dataclass(frozen=True, slots=True)
class Serve:
    """`[serve]`: the decision point."""

    socket: str = ""
    """Where it listens; empty is `run/socket` in the home. Short: a socket's path holds 107 bytes."""
    idle_exit_s: int = _limit(900, 1, 86_400)
    """Seconds without a connection after which a decision point that was started on demand ends."""
    max_connections: int = _limit(128, 1, 4096)
    """Open connections. One for each guarded server and each running command; a client starts a dozen."""
    max_asks: int = _limit(64, 1, 4096)
    """Calls of one connection that are decided or running at the same time."""
    handshake_timeout_ms: int = _limit(5_000, 10, 60_000)
    """Milliseconds that a new connection has for its `hello`."""
    decision_timeout_ms: int = _limit(5_000, 10, 60_000)
    """Milliseconds that a decision may take; then it is a denial."""
    outcome_timeout_s: int = _limit(3_600, 1, 86_400)
    """Seconds that a permitted call may run before its outcome is settled as ambiguous."""
    allowed_uids: tuple[int, ...] = ()
    """Users besides the decision point's own who may connect."""


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """`[ledger]`: the log."""

    origin: str = ""
    """Names the log in its checkpoints (C2SP); taken when the keys are made, never after. Empty: one that is unique."""
    denials_per_minute: int = _limit(600, 1, 1_000_000)
    """Denials that are written out one by one; the rest of a minute are counted in one entry."""


@dataclass(frozen=True, slots=True)
class Protect:
    """`[protect]`: what no tool may reach, whatever policy says."""

    paths: tuple[str, ...] = ()
    """Files and directories, besides Forestall's own and the known clients' configuration."""


@dataclass(frozen=True, slots=True)
class Config:
    serve: Serve = field(default_factory=Serve)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    protect: Protect = field(default_factory=Protect)


def load(home: Home) -> Config:
    """The settings in `forestall.toml`, or the defaults where there is no such file."""
    source = _Source.read(home.config, missing_ok=True)
    known = {section.name: section for section in fields(Config)}
    source.require_known(source.table, known, "section")
    return Config(
        serve=source.section("serve", Serve),
        ledger=source.section("ledger", LedgerSettings),
        protect=source.section("protect", Protect),
    )


def socket_path(home: Home, config: Config) -> Path:
    """Where the decision point listens.

    Raises:
        SetupError: the path is longer than a socket's may be.
    """
    path = Path(config.serve.socket).expanduser() if config.serve.socket else home.socket
    path = home.root / path
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        raise SetupError(
            f"{path} is longer than the {MAX_SOCKET_PATH} bytes that a socket's path may have; "
            f'put `socket = "/a/shorter/path"` under [serve] in {home.config}.'
        )
    return path


def load_mandates(home: Home) -> dict[str, Mandate]:
    """Every mandate in `policy/mandates/*.toml`, by name; the name is the file's."""
    if not home.mandates.is_dir():
        return {}
    return {file.stem: _mandate(file) for file in sorted(home.mandates.glob("*.toml"))}


def _mandate(file: Path) -> Mandate:
    if not _MANDATE_NAME.fullmatch(file.stem):
        raise SetupError(f"{file}: a mandate's file is named in small letters, digits, `-` and `_`; rename it.")
    source = _Source.read(file)
    known = ("purpose", "tools", "effects", "lifetime_minutes", "budget")
    source.require_known(source.table, known, "key")
    for name in known[:4]:
        if name not in source.table:
            raise SetupError(f"{file}: `{name}` is missing; a mandate says {', '.join(known[:4])}.")
    minutes = source.integer("lifetime_minutes", 1, 60 * 24 * 366)
    return Mandate(
        name=file.stem,
        purpose=source.text("purpose"),
        tools=source.texts("tools"),
        effects=frozenset(source.effect(name, "effects") for name in source.texts("effects")),
        lifetime_ms=minutes * 60_000,
        budget=source.budget(),
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """One TOML file: what it holds, and where in it things stand."""

    file: Path
    text_: str
    table: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path, *, missing_ok: bool = False) -> _Source:
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
                raise SetupError(f"{self.at(name, section)}: unknown {what} `{name}`{where}; {hint}")

    def section(self, name: str, kind: Callable[..., _S]) -> _S:
        table = self.table.get(name, {})
        if not isinstance(table, dict):
            raise SetupError(f"{self.at(name)}: `{name}` is a section; write [{name}] on a line of its own.")
        inside = _Source(self.file, self.text_, table)
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

    def effect(self, name: str, key: str, section: str = "") -> Effect:
        try:
            return Effect(name)
        except ValueError:
            near = get_close_matches(name, list(Effect), 1) or list(Effect)
            hint = f"did you mean `{near[0]}`?" if len(near) == 1 else f"known are {', '.join(near)}."
            raise SetupError(f"{self.at(key, section)}: unknown effect `{name}`; {hint}") from None

    def budget(self) -> dict[Effect, int]:
        table = self.table.get("budget", {})
        if not isinstance(table, dict):
            raise SetupError(f"{self.at('budget')}: `budget` is a section: effects, and how many calls of each.")
        inside = _Source(self.file, self.text_, table)
        return {self.effect(key, key, "budget"): inside.integer(key, 0, 2**31, "budget") for key in table}
