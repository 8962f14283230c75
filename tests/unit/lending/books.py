"""A home with a backend, and a log that everything about its credentials goes into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.escrow import Escrow
from forestall.adapter.store.state import LogState
from forestall.core.ask import CannotDo
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.effects import Effect
from forestall.core.entry import Entry, leased, opened, ordered
from forestall.core.model import Lease, Permit, Risk
from forestall.core.reason import Reason
from forestall.credentials import load_credentials
from forestall.credentials.words import Words
from forestall.home import Home
from forestall.lending import Lending
from forestall.port import Written
from forestall.testing.ledger import MemoryLedger
from forestall.testing.world import AGENT, GRANT, NOW, TOOL, action

OWNER = "0badcafe"
WAIT_S = 30.0
SOON_S = 0.2

PERMIT = Permit(
    id="1" * 32,
    task=GRANT.task,
    tool=TOOL.id,
    pin=TOOL.pin,
    digest="sha256:0",
    effects=frozenset({Effect.WRITE}),
    output=TOOL.output,
    policies=("one",),
    policy_digest="sha256:1",
    expires_at=NOW + 10_000,
    credential="desk",
)


class Books:
    def __init__(self, home: Home, more: str = "", timeout_s: float = WAIT_S) -> None:
        home.credentials.write_text(f'[credentials.desk]\nbackend = "files"\npath = "desk"\n{more}')
        self.now, self.risk, self.draw = NOW, Risk.LOW, 0
        self.state, self.ledger = LogState(), MemoryLedger()
        context = Context(
            OWNER, lambda: self.now, lambda size: bytes(range(self.draw, self.draw + size)), timeout_s, home.root
        )
        self.lending = Lending(
            self.state,
            Escrow(home.root / "run" / "leases", home.keys),
            Words(home.root / "run" / "classes"),
            owner=OWNER,
            now=lambda: self.now,
            risk=lambda _grant, _at: self.risk,
            timeout_s=timeout_s,
            classes=load_credentials(home, context),
        )
        self.write(opened(GRANT, AGENT, NOW))

    def wait_for_backends(self, seconds: float) -> None:
        """From now on. Where one is to answer, it has all the time that a busy machine needs."""
        self.lending._holdings.patience_s = seconds

    def write(self, entry: Entry) -> None:
        position = self.ledger.append(entry)
        self.state.apply(Written(position, next(iter(self.ledger.read(position.stream, position.index))).body))
        if entry.kind == "revoked":
            self.lending.ending.written(entry.id)
        if entry.kind == "ordered":
            self.lending.ending.condemn_suspended()

    def order(self, given: Order, id: str) -> None:  # noqa: A002 - as in Entry
        self.write(ordered(Command(given, Target(Reach.TASK, GRANT.task), "why", "uid/0"), id, self.now))

    def planned(self, permit: Permit = PERMIT, **arguments: Any) -> Lease:
        lease = self.lending.making.plan(permit, action(arguments or None))
        if lease.secret is None:
            self.write(leased(lease, self.now))
        return lease

    def issued(self, permit: Permit = PERMIT) -> Lease:
        lease = self.planned(permit)
        return replace(lease, secret=self.lending.making.issue(lease))


def reason_of(ask: Callable[[], object]) -> Reason:
    with pytest.raises(CannotDo) as caught:
        ask()
    return caught.value.reason
