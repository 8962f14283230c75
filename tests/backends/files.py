"""A backend whose credentials are files of a directory: `live/NAME` is one that works, and holds its token.

Who looks into the directory knows what lives, whatever any process says. What is in `faults`, one line each, happens to
the next calls: `down` refuses, `lost` does what was asked and then refuses, `lie` says that it revoked and does not,
`slow` waits until `faults` changes, `die` kills whoever asked, before the deed; `die-after`, after it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.adapter.credential.context import Context
from forestall.core.ask import CannotDo
from forestall.core.model import Action, Grant, Lease, Permit, Scope, Secret
from forestall.core.reason import Reason
from forestall.port import Traits
from forestall.table import Table

POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class FilesBroker:
    folder: Path
    context: Context
    traits: Traits
    handles: bool
    """Does it end only what it is shown the handle of?"""
    bound: bool = False
    """Does each request want a proof, which says whose and of what it is?"""

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Any]:
        if action.arguments.get("beyond"):
            raise CannotDo(Reason.OUT_OF_SCOPE, "more than the class allows")
        return {"tool": permit.tool if self.context.scope is Scope.ACTION else sorted(grant.tools)}

    def issue(self, lease: Lease) -> Secret:
        with self._asked("issue"):
            token = self.context.random(16).hex()
            made = {
                "token": token,
                "handle": f"handle-{token}",
                "until": lease.expires_at,
                "rights": dict(lease.rights),
            }
            _write(self._of(lease.name), made)
        prove = (lambda *request: f"{token[-8:]} {request}") if self.bound else None
        return Secret({"token": token}, made["handle"] if self.handles else "", lease.expires_at, prove)

    def renew(self, lease: Lease, expires_at: int) -> int:
        with self._asked("renew"):
            _write(self._of(lease.name), {**json.loads(self._of(lease.name).read_text()), "until": expires_at})
        return expires_at

    def revoke(self, lease: Lease) -> None:
        with self._asked("revoke") as lies:
            if lies:
                return
            with suppress(FileNotFoundError):
                self._demand_handle(lease)
                self._of(lease.name).unlink()

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:
        with self._asked("list"):
            return sorted(
                path.name
                for path in self.live.iterdir()
                if path.name.startswith(self.context.prefix) and path.name not in known
            )

    def close(self) -> None:
        (self.folder / "closed").touch()

    @property
    def live(self) -> Path:
        return self.folder / "live"

    def _demand_handle(self, lease: Lease) -> None:
        made = json.loads(self._of(lease.name).read_text())
        shown = lease.secret.handle if lease.secret is not None else ""
        if self.handles and self.context.now() < made["until"] and shown != made["handle"]:
            raise CannotDo(Reason.UNAVAILABLE, "without its handle it cannot be ended")

    def _of(self, name: str) -> Path:
        return self.live / name

    def _asked(self, what: str) -> _Asked:
        return _Asked(self.folder, what)


@dataclass(slots=True)
class _Asked:
    """One call of the backend: noted, and met by what `faults` has for it."""

    folder: Path
    what: str
    fault: str = ""

    def __enter__(self) -> bool:
        with (self.folder / "asked").open("a") as notes:
            notes.write(f"{self.what}\n")
        self.fault = self._fault()
        if self.fault == "slow":
            self._wait()
        if self.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "down":
            raise CannotDo(Reason.UNAVAILABLE, "the directory does not answer")
        return self.fault == "lie"

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.fault == "die-after":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind is None and self.fault == "lost":
            raise CannotDo(Reason.UNAVAILABLE, "the answer was lost")

    def _fault(self) -> str:
        for line in (self.folder / "faults").read_text().splitlines():
            what, _, fault = line.partition(" ")
            if what == self.what:
                return fault
        return ""

    def _wait(self) -> None:
        while self._fault() == "slow":
            time.sleep(POLL_S)


def _write(path: Path, made: Mapping[str, Any]) -> None:
    """It is there whole, or not at all."""
    new = path.parent.parent / f"new-{path.name}"
    new.write_text(json.dumps(made))
    new.rename(path)


def open_broker(table: Table, context: Context) -> FilesBroker:
    table.require_known("path", "unrevocable", "shortest_s", "unnamed", "renewable", "bound", needed=("path",))
    folder = context.folder / table.text("path")
    (folder / "live").mkdir(parents=True, exist_ok=True)
    (folder / "faults").touch()
    traits = Traits(
        revocable=not table.flag("unrevocable"),
        by_name=not table.flag("unnamed"),
        renewable=table.flag("renewable"),
        shortest_ms=table.whole("shortest_s", 0, 3600, 0) * 1000,
    )
    return FilesBroker(folder, context, traits, table.flag("unnamed"), table.flag("bound"))
