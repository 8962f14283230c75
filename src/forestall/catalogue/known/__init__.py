"""Servers that Forestall's own reviewers have looked at: what their tools do, by the shape of each definition.

Applied only where the person's own configuration starts the package by its name, and only to a tool whose definition
has a shape that was reviewed. Anything else is a proposal like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from types import MappingProxyType

from forestall.catalogue.change import shape_digest
from forestall.catalogue.page import Page
from forestall.catalogue.statement import Definition, Proposal, Statement
from forestall.core.effects import Confidence, Effect
from forestall.core.label import Confidentiality, Integrity, Label

_DECLARED = MappingProxyType(dict.fromkeys(("effects", "arguments", "output"), Confidence.DECLARED))
_RUN_A_PACKAGE = {"uvx": 0, "npx": 0, "bunx": 0, "pipx": 1, "pnpm": 1, "yarn": 1}
"""Launchers of packages by name, and how many words of a subcommand come first."""

_VERSION = re.compile(r"(?<=.)(@|[=<>~!]=?|\[).*")
_KEYS = ("effects", "control", "content", "output", "why", "shapes")


@dataclass(frozen=True, slots=True)
class Known:
    """One server's review."""

    about: str
    packages: tuple[str, ...]
    tools: Mapping[str, tuple[frozenset[str], Proposal]]
    """By name: the digests of the shapes that were reviewed, and what was found."""

    def find(self, definition: Definition) -> Proposal | None:
        """The review of this tool, if it still has the shape that was reviewed."""
        shapes, proposal = self.tools.get(definition["name"], (frozenset(), None))
        return proposal if shape_digest(definition) in shapes else None


def find_known(command: Sequence[str]) -> Known | None:
    """The review of the package that this command starts, if there is one."""
    names = started_packages(command)
    return next((known for known in _all() if names & set(known.packages)), None)


def started_packages(command: Sequence[str]) -> frozenset[str]:
    """The package that the command names, as far as its form leaves no doubt; a relative path names none.

    It is the word of the person's own configuration, not proof of what runs.
    """
    if not command or not _is_installed(command[0]):
        return frozenset()
    executable, arguments = PurePath(command[0]).name, command[1:]
    if executable in _RUN_A_PACKAGE:
        words = [word for word in arguments if not word.startswith("-")][_RUN_A_PACKAGE[executable] :]
        return frozenset(_VERSION.sub("", word) for word in words[:1])
    if re.fullmatch(r"python(3(\.\d+)?)?", executable):
        return frozenset(arguments[1:2] if tuple(arguments[:1]) == ("-m",) else ())
    if executable == "node":
        return frozenset(_in_node_modules(word) for word in arguments[:1] if re.match("/.*/node_modules/", word))
    return frozenset({executable})


def _is_installed(path: str) -> bool:
    """Is it found on the search path or from the root, and not in whatever directory the client happens to open?"""
    return "/" not in path or path.startswith("/")


def _in_node_modules(path: str) -> str:
    parts = path.rpartition("/node_modules/")[2].split("/")
    return "/".join(parts[: 2 if parts[0].startswith("@") else 1])


@cache
def _all() -> tuple[Known, ...]:
    return tuple(_read(file) for file in sorted(Path(__file__).parent.glob("*.toml")))


def _read(file: Path) -> Known:
    page = Page(file, file.read_text())
    data = page.data()
    page.only(data, ("about", "packages", "tools"))
    tools = {
        name: _tool(page.under("tools", name), table) for name, table in page.table(data["tools"], "tools").items()
    }
    return Known(data["about"], page.texts(data, "packages"), MappingProxyType(tools))


def _tool(at: Page, value: object) -> tuple[frozenset[str], Proposal]:
    table = at.table(value)
    at.only(table, _KEYS)
    output = at.under("output")
    label = output.table(table.get("output"))
    statement = Statement(
        effects=frozenset(at.words(Effect, table, "effects")),
        control=at.texts(table, "control"),
        content=at.texts(table, "content"),
        output=Label(
            output.word(Integrity, label, "integrity"), output.word(Confidentiality, label, "confidentiality")
        ),
        origin=_DECLARED,
    )
    return frozenset(at.texts(table, "shapes")), Proposal(statement, MappingProxyType({"effects": table["why"]}))
