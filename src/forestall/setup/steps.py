"""What `forestall init` does, in its order: ask, list, review, write. What it says is in `forestall.setup.tell`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forestall import catalogue, config
from forestall.core.errors import ForestallError, PolicyInvalid, SetupError, Unavailable
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.setup.client import Configuration, Server, expand, expand_address
from forestall.setup.files import make_directory
from forestall.setup.listing import Limits, WantsCredential, list_remote, list_tools
from forestall.setup.process import Command
from forestall.setup.review import Review, Wishes, review
from forestall.setup.starter import write_schema, write_starter, write_tests

LOGIN = (
    "its client may log in there by itself (OAuth), which would be lost; lend the gateway a credential for it "
    "(docs/credentials/placing.md), or name a header in the entry so that its tools can be listed"
)

NOWHERE = Command(())
"""What starts a server that somebody else runs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one server: one of the three."""

    server: Server
    review: Review | None = None
    failure: ForestallError | None = None
    declined: bool = False
    """It was not asked, because nobody consented, or because it cannot be."""

    @property
    def left(self) -> str:
        """Why `--apply` leaves its entry as it is; empty where it does not."""
        if self.server.guarded_as is None and not self.server.left and isinstance(self.failure, WantsCredential):
            return LOGIN
        return self.server.left

    @property
    def name(self) -> str:
        """What Forestall calls the server: the name that its gateway has."""
        return self.server.guarded_as or self.server.name


@dataclass(frozen=True, slots=True)
class Written:
    """What there is after `write_policy`."""

    files: tuple[Path, ...] = ()
    tools: int = 0
    duplicates: tuple[str, ...] = ()
    problem: str = ""
    """Why the schema or the tests could not be written."""
    reloaded: str = ""
    """What a running decision point said to the change; empty where none runs."""
    exit_code: int = field(default=0)


def listable(configuration: Configuration) -> tuple[Server, ...]:
    """The servers that listing starts a command for, or connects to."""
    return tuple(server for server in configuration.servers if server.listable)


def take_in(
    home: Home,
    configuration: Configuration,
    consented: Callable[[Server], bool],
    wishes: Wishes,
    limits: Limits | None = None,
) -> list[Outcome]:
    """List each consented server's tools and write what is new of them. One that fails does not stop the others."""
    make_directory(home.catalogue)
    listed = listable(configuration)
    return [
        _take_in(home, configuration, server, wishes, limits)
        if server in listed and consented(server)
        else Outcome(server, declined=True)
        for server in configuration.servers
    ]


def _take_in(
    home: Home, configuration: Configuration, server: Server, wishes: Wishes, limits: Limits | None
) -> Outcome:
    try:
        name = server.guarded_as or server.name
        if server.url is not None:
            listing = list_remote(expand_address(server, configuration.path), limits)
            return Outcome(server, review(home.catalogue, name, NOWHERE, listing, wishes))
        command = expand(server, configuration.path)
        listing = list_tools(command, limits)
        return Outcome(server, review(home.catalogue, name, command, listing, wishes))
    except (Unavailable, SetupError) as error:
        return Outcome(server, failure=error)


def write_policy(home: Home) -> Written:
    """The starter policy where there is none, the schema of all tools, and tests; then tell the decision point."""
    files = write_starter(home)
    try:
        known = catalogue.load(home.catalogue)
        made = (write_schema(home, known.all()), write_tests(home, known.all()))
    except (SetupError, PolicyInvalid) as error:
        return Written(files, problem=str(error), exit_code=error.exit_code)
    files = (*files, *(path for path in made if path))
    return Written(files, len(known.all()), tuple(sorted(known.duplicates())), reloaded=_reload(home))


def _reload(home: Home) -> str:
    try:
        path = config.socket_path(home, config.load(home))
        if not path.exists():
            return ""
        with Connection(path) as connection:
            connection.ask("reload")
    except ForestallError as error:
        return f"The running decision point did not take it in: {error}"
    return "The running decision point has taken it in."


def changed(outcomes: Iterable[Outcome]) -> frozenset[str]:
    """The tools whose definition is not the reviewed one, as SERVER/TOOL."""
    return frozenset(f"{one.name}/{tool}" for one in outcomes if one.review for tool in one.review.changed)


def exit_code(outcomes: Iterable[Outcome], written: Written) -> int:
    """78 where something on disk is wrong, else 69 where a server failed, else 0."""
    return max([written.exit_code, *(outcome.failure.exit_code for outcome in outcomes if outcome.failure)], default=0)


def guardable(configuration: Configuration, outcomes: Iterable[Outcome]) -> Sequence[str]:
    """Those that lose nothing by it, as far as is known."""
    left = {outcome.server.name for outcome in outcomes if outcome.left}
    return [server.name for server in configuration.servers if server.guardable and server.name not in left]
