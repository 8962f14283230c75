"""What is guarded on this machine and what is not: the facts behind `forestall status`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forestall import catalogue, config
from forestall.core.errors import ForestallError, SetupError
from forestall.core.model import Assurance, Tool
from forestall.home import VARIABLE, Home
from forestall.pep.blocking import Connection
from forestall.policy.bundle import OWN_PREFIX
from forestall.policy.check import check
from forestall.policy.problem import Severity
from forestall.setup.backup import configurations
from forestall.setup.client import Configuration, Server, read

USUAL = (".mcp.json", ".vscode/mcp.json", ".cursor/mcp.json")
"""Configurations below the working directory that are looked at when none is named."""

_OWN_TOOLS = {
    ".mcp.json": ("Claude Code", ("Bash", "Edit", "Write", "NotebookEdit", "WebFetch")),
    ".claude.json": ("Claude Code", ("Bash", "Edit", "Write", "NotebookEdit", "WebFetch")),
    ".vscode/mcp.json": ("VS Code", ("terminal", "file edits", "tasks", "web pages")),
    ".cursor/mcp.json": ("Cursor", ("terminal", "file edits", "file deletion", "web search")),
}
_OTHER_TOOLS = ("the client", ("shell", "file edits", "web access"))


@dataclass(frozen=True, slots=True)
class Policy:
    """What is on disk."""

    digest: str
    files: tuple[str, ...]
    count: int
    errors: int


@dataclass(frozen=True, slots=True)
class Point:
    """The decision point: what it says of itself, if it runs."""

    running: bool
    policy_digest: str = ""
    assurance: str = Assurance.LOCAL.value
    status: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Tools that open connections saw changed, as far as the decision point says it."""
        connections = self.status.get("connections")
        found = (
            [one.get("quarantined") for one in connections if isinstance(one, dict)]
            if isinstance(connections, list)
            else []
        )
        return tuple(sorted({str(tool) for tools in found if isinstance(tools, list) for tool in tools}))


@dataclass(frozen=True, slots=True)
class State:
    home: Home
    point: Point
    policy: Policy | None
    tools: tuple[Tool, ...]
    """Of the catalogue."""
    in_code: tuple[Tool, ...]
    """That programs declared."""
    duplicates: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    problems: tuple[str, ...]

    @property
    def unguarded(self) -> tuple[Server, ...]:
        """Servers whose calls nobody decides."""
        return tuple(server for one in self.configurations for server in one.servers if server.guarded_as is None)

    def tools_of(self, server: str) -> tuple[Tool, ...]:
        return tuple(tool for tool in self.tools if tool.server == server)


def look(home: Home, files: Iterable[Path]) -> State:
    """Everything, as it is now. What is wrong with one part is a problem, and does not hide the others.

    Raises:
        SetupError: a file that was named cannot be read.
    """
    problems: list[str] = []
    found = tuple(read(file) for file in files)
    known = everything = catalogue.FileCatalogue()
    try:
        known = catalogue.load(home.catalogue)
        everything = catalogue.load_all(home.catalogue, home.declared)
    except SetupError as error:
        problems.append(str(error))
    policy = _policy(home, everything.all()) if home.policy.is_dir() else None
    if policy is None:
        problems.append(f"{home.policy}: there is no policy, so nothing is permitted; run `forestall init`.")
    elif policy.errors:
        problems.append(f"{home.policy}: {policy.errors} errors, so nothing is permitted; run `forestall check`.")
    problems += [problem for one in found for server in one.servers if (problem := gateway_problem(home, one, server))]
    duplicates = tuple(sorted(known.duplicates()))
    in_code = tuple(tool for tool in everything.all() if tool.id not in known.tools)
    return State(home, _point(home), policy, tuple(known.all()), in_code, duplicates, found, tuple(problems))


def usual_files(home: Home, directory: Path) -> tuple[Path, ...]:
    """The configurations of this directory, and those that `init --apply` has rewritten."""
    here = [directory / name for name in USUAL if (directory / name).is_file()]
    rewritten = [path for path in configurations(home) if path.is_file()]
    return tuple(dict.fromkeys(path.resolve() for path in (*here, *rewritten)))


def own_tools(path: Path) -> tuple[str, tuple[str, ...]]:
    """The client whose configuration this is, and tools of its own that never pass through MCP."""
    ends = (path.name, f"{path.parent.name}/{path.name}")
    return next((_OWN_TOOLS[end] for end in ends if end in _OWN_TOOLS), _OTHER_TOOLS)


def gateway_problem(home: Home, configuration: Configuration, server: Server) -> str:
    """Why a gateway does not do what this home's status says; empty where nothing is wrong."""
    if server.guarded_as is None:
        return ""
    where = f"{configuration.path}:{server.line}: {server.name!r}"
    if shutil.which(server.gateway[0]) is None:
        return f"{where} starts {server.gateway[0]!r}, which is not there; run `forestall init --undo`, then --apply."
    if (other := _home_of(server)).root.resolve() != home.root.resolve():
        return f"{where} is guarded by another home; see `forestall status --home {other.root}`."
    return ""


def _home_of(server: Server) -> Home:
    words = server.gateway
    given = words[words.index("--home") + 1] if "--home" in words[:-1] else server.environment.get(VARIABLE)
    joined = next((word.partition("=")[2] for word in words if word.startswith("--home=")), None)
    return Home.find(joined or given)


def _policy(home: Home, tools: Iterable[Tool]) -> Policy:
    report = check(home.policy, list(tools))
    own = [policy for policy in report.bundle.policies if not policy.id.startswith(OWN_PREFIX)]
    files = tuple(dict.fromkeys(policy.file for policy in own))
    errors = sum(problem.severity is Severity.ERROR for problem in report.problems)
    return Policy(report.engine.digest if report.engine else "", files, len(own), errors)


def _point(home: Home) -> Point:
    try:
        path = config.socket_path(home, config.load(home))
        if not path.exists():
            return Point(running=False)
        with Connection(path) as connection:
            welcome, status = connection.welcome, connection.ask("status")
    except ForestallError as error:
        return Point(running=False, problem=str(error))
    said = {**welcome, **status}
    digest, assurance, notice = (str(said.get(name, "")) for name in ("policy_digest", "assurance", "notice"))
    return Point(running=True, policy_digest=digest, assurance=assurance, status=status, problem=notice)
