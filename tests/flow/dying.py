"""A process that carries out one action on real disk and kills itself: `python -m tests.flow.dying DIR STEP WHEN`.

The credentials alive and the actions performed are files, so that they outlive the process as they would outside.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall.adapter.ledger import keys
from forestall.adapter.ledger.log import FileLedger
from forestall.adapter.store.state import open_state
from forestall.core.ask import Ask, Issue, Perform, Record, Revoke
from forestall.core.flow import govern
from forestall.core.model import Mandate, Result, Secret
from forestall.core.task import open_task
from forestall.port import Written
from forestall.run import run
from forestall.testing.world import AGENT, GRANT, NOW, SECRET, World, action
from tests.flow.scenarios import CREDENTIALED


class Disk:
    """The outside as files: `ledger/`, `credentials/NAME`, `performed`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = FileLedger.open(root / "ledger", keys=keys.load_or_create(root / "keys", root / "ledger"))
        self.state = open_state(root / "state.sqlite", self.ledger)
        (root / "credentials").mkdir(exist_ok=True)
        self.steps = 0

    def handlers(self) -> dict[type, Callable[[Any], Any]]:
        answers = World(ruling=CREDENTIALED).handlers()
        return {**answers, Record: self.record, Issue: self.issue, Perform: self.perform, Revoke: self.revoke}

    def record(self, ask: Record) -> None:
        position = self.ledger.append(ask.entry)
        body = next(iter(self.ledger.read(position.stream, position.index))).body
        self.state.apply(Written(position, body))

    def issue(self, ask: Issue) -> Secret:
        (self.root / "credentials" / ask.lease.name).touch()
        return SECRET

    def perform(self, _ask: Perform) -> Result:
        with (self.root / "performed").open("a") as file:
            file.write("once\n")
        return Result("ok")

    def revoke(self, ask: Revoke) -> None:
        (self.root / "credentials" / ask.lease.name).unlink(missing_ok=True)

    def close(self) -> None:
        self.state.close()
        self.ledger.close()


def dying(handlers: dict[type, Callable[[Any], Any]], step: int, when: str) -> dict[type, Callable[[Any], Any]]:
    count = 0

    def handle(ask: Ask) -> Any:
        nonlocal count
        count += 1
        if count - 1 == step and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = handlers[type(ask)](ask)
        if count - 1 == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return dict.fromkeys(handlers, handle)


def main(root: str, step: str, when: str) -> None:
    disk = Disk(Path(root))
    handlers = disk.handlers()
    mandate = Mandate("default", GRANT.purpose, GRANT.tools, GRANT.effects, lifetime_ms=60_000)
    run(open_task(mandate, GRANT.task, AGENT, NOW, salt=b"s" * 16), handlers)
    run(govern(action()), dying(handlers, int(step), when))
    disk.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
