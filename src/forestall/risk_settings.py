"""`[[risk]]` in the settings: who tells how far a task is to be trusted just now (docs/settings.md).

Every error is a `SetupError` of one sentence that names the file, the line where there is one, and what to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from forestall.core.errors import SetupError
from forestall.proof.fault import InvalidProof
from forestall.proof.url import require_location
from forestall.source import Source

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class RiskSettings:
    """One source."""

    name: str = ""
    kind: str = ""
    """`file` or `http`."""
    path: str = ""
    """Of a file, TOML or JSON; relative to the home."""
    url: str = ""
    """Of `http`: https, or http on this machine."""
    bound_s: int = field(default=300, metadata={"least": 1, "most": 31 * 86_400})
    """Seconds after which what it told is too old, and so is missing."""
    posture: tuple[str, ...] = ()
    """What it tells of a posture: each is an attribute of `context.posture`."""
    ca_file: str = ""
    """PEM of the authorities that the address's certificate may come from; empty for the machine's."""
    token_file: str = ""
    """A bearer token to show there, read again each time."""


def risk_settings(source: Source) -> tuple[RiskSettings, ...]:
    """Every `[[risk]]` of the settings."""
    tables = source.table.get("risk", [])
    if not isinstance(tables, list):
        raise SetupError(f"{source.at('risk')}: a source of risk is written under [[risk]], in two brackets.")
    found = tuple(_source(source, table) for table in tables)
    for name in _twice(one.name for one in found):
        raise SetupError(f"{source.at('risk')}: two sources of risk are called `{name}`; rename one.")
    for part in _twice(part for one in found for part in one.posture):
        raise SetupError(f"{source.at('posture', 'risk')}: `{part}` is told twice; leave it to one source.")
    return found


def _source(source: Source, table: object) -> RiskSettings:
    one = Source(source.file, source.text_, {"risk": table}).section("risk", RiskSettings)
    for key, sentence in _objections(one):
        raise SetupError(f"{source.at(key, 'risk')}: {sentence}")
    return one


def _objections(one: RiskSettings) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(one.name):
        yield "name", "a source of risk has a `name` in small letters, digits and `_`."
    if one.kind not in ("file", "http"):
        yield "kind", "the `kind` of a source of risk is `file` or `http`."
    if bool(one.path) != (one.kind == "file") or bool(one.url) != (one.kind == "http"):
        yield "kind", f"`{one.name}` has a `path` if it is a file, and a `url` if it is not."
    if one.kind == "file" and (one.ca_file or one.token_file):
        yield "kind", f"`{one.name}` is a file, which has no certificate and takes no token."
    if one.url and not _is_location(one.url):
        yield "url", "`url` is an https address, or an http address of this machine."
    if not all(map(_NAME.fullmatch, one.posture)):
        yield "posture", "a part of a posture is named in small letters, digits and `_`."


def _is_location(url: str) -> bool:
    try:
        require_location(url, loopback=True)
    except InvalidProof:
        return False
    return True


def _twice(names: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
