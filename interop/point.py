"""A decision point as its owner runs it: `forestall serve` in a process of its own, over HTTPS and its socket."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import forestall_verify
from forestall.adapter.ledger.reader import LogReader
from forestall.core.entry import Stream
from forestall.core.errors import ForestallError
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.setup.listing import Listing, list_tools
from forestall.setup.process import Command
from forestall.setup.review import Wishes, review
from interop.authority import Authority
from interop.daemon import Daemon
from interop.session import SHOP, WAIT_S

STEP_S = 0.02
"""Seconds between two looks at another process."""

SETTINGS = """\
[http]
listen = "127.0.0.1:0"
tls_certificate = "{certificate}"
tls_key = "{key}"
"""

POLICY = """\
@id("reads") permit (principal, action in Action::"read", resource);
@id("writes") permit (principal, action in Action::"write", resource);
@id("open") permit (principal, action == Action::"forestall/open", resource)
when { context.assurance == "svid" || context.assurance == "oidc" };
@id("hand-on") permit (principal, action == Action::"forestall/delegate", resource);
@id("longer") permit (principal, action == Action::"forestall/extend", resource);
"""

WORK = """\
purpose = "Work on one order."
tools = ["shop/*"]
effects = ["read", "write"]
lifetime_minutes = 30
depth = 2
[parameters.order]
pattern = "[0-9]{4}"
[resources."shop/*"]
order = "{order}"
[budget]
read = 100
fan_out = 5
"""


class Point:
    """A context: inside it the decision point runs; after it, it is gone, and its ledger was verified."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        identity: str,
        *,
        python: Sequence[str] = (sys.executable,),
        env: Mapping[str, str] | None = None,
        policy: str = POLICY,
    ) -> None:
        """`folder`: empty and short, for a socket is made in it. `identity`: what is in `identity.toml`. `python`: the
        interpreter that it runs in.
        """
        self.home, self.ca = Home(folder), authority.ca
        for each in (self.home.root, self.home.policy, self.home.mandates, self.home.catalogue):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate, key = authority.server(folder.name)
        self.home.config.write_text(SETTINGS.format(certificate=certificate, key=key))
        (self.home.root / "identity.toml").write_text(identity)
        (self.home.policy / "own.cedar").write_text(policy)
        (self.home.mandates / "work.toml").write_text(WORK)
        wishes = Wishes(accept=True, today="2026-01-01")
        review(self.home.catalogue, "shop", Command(SHOP), _listing(), wishes)
        self._words = [*python, "-m", "forestall.cli", "serve", "--home", str(self.home.root)]
        self._env = dict(env or {})
        self.url = ""

    def __enter__(self) -> Self:
        self.daemon = Daemon("forestall", self._words, self._env)
        try:
            self.url = eventually(self._status, lambda said: bool(said.get("http")), self._log)["http"]
        except BaseException:
            self.daemon.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.daemon.stop()
        if error is not None:
            print(self.daemon.log)
        assert forestall_verify.main([str(self.home.ledger)]) == 0

    def order(self, *words: str) -> dict[str, Any]:
        """What `forestall` says to its owner, as a program of its own."""
        line = [sys.executable, "-m", "forestall.cli", words[0], "--home", str(self.home.root), *words[1:], "--json"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def status(self) -> dict[str, Any]:
        said = self._status()
        assert said, self.daemon.log
        return said

    def entries(self, kind: str, stream: Stream = Stream.PERMITS) -> list[Mapping[str, Any]]:
        """What the ledger has, oldest first."""
        return [each.body for each in LogReader(self.home.ledger).read(stream) if each.body["kind"] == kind]

    def denial(self, decision: str) -> Mapping[str, Any]:
        """What the operator finds by what somebody was told; the one that it repeats, where it is only counted."""
        denials = self.entries("denied", Stream.DENIALS)
        return next((each for each in denials if each["id"] == decision), denials[-1])

    def _status(self) -> dict[str, Any]:
        try:
            with Connection(self.home.socket, WAIT_S) as connection:
                return dict(connection.ask("status"))
        except ForestallError:
            return {}

    def _log(self) -> str:
        return self.daemon.log


@cache
def _listing() -> Listing:
    return list_tools(Command(SHOP))


def eventually(
    asked: Callable[[], dict[str, Any]], fits: Callable[[dict[str, Any]], bool], log: Callable[[], str] = str
) -> dict[str, Any]:
    """The first answer that fits.

    Raises:
        AssertionError: none did in time. Holds the last, and the log.
    """
    limit = time.monotonic() + WAIT_S
    while not fits(said := asked()):
        assert time.monotonic() < limit, f"{said}\n{log()}"
        time.sleep(STEP_S)
    return said
