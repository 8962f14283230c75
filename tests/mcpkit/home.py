"""A home with a real catalogue of real servers, and a real decision point that is gone when the test is."""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from forestall.cli.serve import _command as tell_serve
from forestall.core.errors import ForestallError
from forestall.home import Home
from forestall.rules import DEFAULT_MANDATE
from forestall.setup.listing import Listing, list_tools
from forestall.setup.process import Command
from forestall.setup.review import Wishes, review
from tests.evidence import require_verified
from tests.points import WAIT_S

PERMIT_ALL = '@id("all") permit (principal, action, resource);\n'


@contextmanager
def home_of(
    servers: Mapping[str, Sequence[str]],
    policy: str = PERMIT_ALL,
    edit: Callable[[str], str] = lambda text: text,
    settings: str = "",
) -> Iterator[Home]:
    """Every tool of `servers` (name to command) is in the catalogue, as proposed and accepted, then as `edit` says."""
    home = Home(Path(tempfile.mkdtemp(prefix="fh-")))
    try:
        home.catalogue.mkdir()
        for name, command in servers.items():
            facts(home, name, list_tools(Command(tuple(command))), edit)
        home.policy.mkdir()
        (home.policy / "own.cedar").write_text(policy)
        home.mandates.mkdir()
        (home.mandates / "default.toml").write_text(DEFAULT_MANDATE)
        if settings:
            home.config.write_text(settings)
        yield home
    finally:
        stop(home)
        require_verified(home.root)
        shutil.rmtree(home.root)


def facts(home: Home, name: str, listing: Listing, edit: Callable[[str], str]) -> None:
    review(home.catalogue, name, Command(("server",)), listing, Wishes(accept=True, today="2026-01-01"))
    file = home.catalogue / f"{name}.toml"
    file.write_text(edit(file.read_text()))


def stop(home: Home) -> None:
    with suppress(ForestallError):
        tell_serve(home, "stop")
    with suppress(OSError, ValueError):
        _kill(serving(home))


def _kill(process: int) -> None:
    """And wait for its end: until then it may be in the middle of making a file."""
    os.kill(process, signal.SIGKILL)
    handle = os.pidfd_open(process)
    try:
        assert select.select([handle], [], [], WAIT_S)[0], "it was killed"
    finally:
        os.close(handle)


def serving(home: Home) -> int:
    """The process that holds the lock.

    Raises:
        ValueError: none does.
    """
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if b"serve" in words and str(home.root).encode() in words:
                return int(directory.name)
    raise ValueError("nobody serves")
