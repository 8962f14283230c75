"""A decision point without its sockets: its real parts in a home of their own, and flows that are driven by hand."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forestall import wire
from forestall.adapter.store.index import Index
from forestall.clock import Clock
from forestall.core.ask import (
    CannotDo,
    Confirm,
    Evaluate,
    FindGrant,
    FindTool,
    Flow,
    Gather,
    Perform,
    Record,
    Reserve,
    Verify,
)
from forestall.core.entry import Stream
from forestall.core.errors import ForestallError
from forestall.core.model import Assurance, Permit, Subject
from forestall.core.reason import Reason
from forestall.core.sweep import sweep
from forestall.home import Home
from forestall.rules import Rules, load_rules
from forestall.run import Drive, run_async
from tests.controls.room import EFFECTS, SERVER, definition, statement
from tests.property.whole.disk import Disk

START = 1_800_000_000_000
"""Milliseconds since the epoch."""

AGENTS = {
    name: Subject(name, Assurance.LOCAL, instance=f"i-{name}", trust_domain=domain, key=f"jkt:{name}")
    for name, domain in {"a": "home", "b": "home", "c": "home", "d": "home", "e": "away"}.items()
}
POLICY = """
@id("calls") permit (principal, action in [{tools}], resource);
@id("send") @approvers("owner") permit (principal, action == Action::"files/send", resource)
    when {{ context has approval && context.approval.granted }};
@id("hand-on") permit (principal, action == Action::"forestall/delegate", resource);
@id("longer") permit (principal, action == Action::"forestall/extend", resource);
"""
POLICIES = {
    "all": POLICY.format(tools='Action::"files/look", Action::"files/read", Action::"files/write"'),
    "reads": POLICY.format(tools='Action::"files/look", Action::"files/read"'),
    "broken": '@id("calls") permit (principal, action == Action::"files/lokk", resource);',
}
"""`files/delete` is permitted by none, and `files/send` by nobody's approval."""

MANDATE = """\
purpose = "tidy up"
tools = ["files/*"]
effects = ["read", "write", "external", "destructive"]
lifetime_minutes = 1
depth = 3
[budget]
write = 3
fan_out = 4
rows = { total = 90, call = 6 }
[resources."files/write"]
path = "out/*"
"""
SLOW = (Verify, FindTool, FindGrant, Gather, Evaluate, Reserve)
"""What may be answered late: with what was true when it was asked."""

_RULES: dict[str, Rules] = {}
"""By the text of the policy: to compile one takes longer than all else here."""


@dataclass(eq=False)
class Running:
    """A flow on its way, and what it waits for."""

    what: dict[str, Any]
    drive: Drive[Any]
    waiting: asyncio.Future[Any] | None = None
    outcome: Any = None


class Point:
    def __init__(self, acts: Callable[[Permit, Any], None], confirmed: Callable[[Permit], None]) -> None:
        """`acts`: an enforcement point does what it was permitted; `confirmed`: it was told that it may."""
        self._acts, self._confirmed = acts, confirmed
        self._patch = pytest.MonkeyPatch()
        self.loop = asyncio.new_event_loop()
        self.disk = Disk(self._patch, self.loop)
        self.wall, self.steady = START, 0
        self._folder = tempfile.TemporaryDirectory()
        self.home = Home(Path(self._folder.name) / "home")
        self._work = Path(self._folder.name) / "work"
        self._furnish()
        self._patch.setattr(wire, "Clock", lambda: Clock(lambda: self.wall * 10**6, lambda: self.steady * 10**6))
        self._patch.setattr(wire, "load_rules", self._rules)
        self.parts = self._build()
        self._before: bytes | None = None

    def _furnish(self) -> None:
        for folder in (self.home.mandates, self.home.catalogue, self._work):
            folder.mkdir(parents=True)
        (self.home.mandates / "default.toml").write_text(MANDATE)
        tools = "\n\n".join(map(statement, EFFECTS))
        (self.home.catalogue / f"{SERVER}.toml").write_text(f'format = 1\nserver = "{SERVER}"\n\n{tools}\n')
        reviewed = {"format": 1, "server": SERVER, "tools": list(map(definition, EFFECTS))}
        (self.home.catalogue / f"{SERVER}.json").write_text(json.dumps(reviewed))
        self.write_policy("all")

    def write_policy(self, name: str) -> None:
        (self.home.policy / "owner.cedar").write_text(POLICIES[name])

    def _rules(self, home: Home) -> Rules:
        text = (home.policy / "owner.cedar").read_text()
        if text not in _RULES:
            _RULES[text] = load_rules(home)
        return _RULES[text]

    def _build(self) -> wire.Parts:
        return wire.build(self.home, rules_of=self._rules)

    @property
    def now(self) -> int:
        return self.parts.now()

    # -- flows

    def begin(self, flow: Flow[Any], what: dict[str, Any], slow: frozenset[type] = frozenset()) -> Running:
        """`slow`: of `SLOW`."""
        one = Running(what, Drive(flow, self._handlers(slow)))
        self.go(one, one.drive.go)
        return one

    def go(self, one: Running, step: Callable[[], Any]) -> None:
        """Carry it on to where it waits next, or to its end."""
        self.loop.run_until_complete(self._go(one, step))

    def on(self, one: Running) -> None:
        """What it waits for is there."""
        done = one.waiting
        assert done is not None
        assert done.done()
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self.go(one, (lambda: one.drive.go(done.result())) if error is None else (lambda: one.drive.fail(error)))

    async def _go(self, one: Running, step: Callable[[], Any]) -> None:
        try:
            one.waiting = step()
            if one.waiting is None:
                one.outcome = one.drive.outcome()
        except (CannotDo, asyncio.CancelledError) as error:
            one.waiting, one.outcome = None, error
        if one.waiting is not None and isinstance(one.drive.ask, Record):
            await self.disk.taken(one.waiting)

    def order(self, command: Any) -> asyncio.Future[Any]:
        """Answered at once, or when the disk goes on."""

        async def give() -> asyncio.Future[Any]:
            answer: Any = wire.order(self.parts, command)
            await self.disk.taken(answer)
            return answer  # type: ignore[no-any-return]

        return self.loop.run_until_complete(give())

    def the_disk_goes_on(self, waiting: list[asyncio.Future[Any]]) -> None:
        self.disk.go_on()
        if waiting:
            self.loop.run_until_complete(asyncio.wait(waiting))

    def _handlers(self, slow: frozenset[type]) -> dict[type, Callable[[Any], Any]]:
        real = wire.handlers(self.parts, directory=str(self._work))
        table = {
            **real,
            Verify: _verify,
            Confirm: lambda ask: self._confirm(real[Confirm], ask),
            Perform: self._perform,
        }
        return {kind: self._late(handler) if kind in slow else handler for kind, handler in table.items()}

    def _late(self, handler: Callable[[Any], Any]) -> Callable[[Any], asyncio.Future[Any]]:
        def answer(ask: Any) -> asyncio.Future[Any]:
            later = self.loop.create_future()
            later.set_result(handler(ask))
            return later

        return answer

    def _confirm(self, handler: Callable[[Any], Any], ask: Confirm) -> Any:
        answer = handler(ask)
        if answer is None:
            self._confirmed(ask.permit)
        return answer

    def _perform(self, ask: Perform) -> asyncio.Future[Any]:
        self._acts(ask.permit, ask.action)
        return self.loop.create_future()

    def has_recorded(self, permit: str) -> bool:
        return any(one.body["id"] == permit for one in self.parts.ledger.read(Stream.PERMITS))

    # -- its life

    def restart(self, index: str) -> None:
        """`index`: kept, gone, or old, as it was at the stop before. Whatever was under way is forgotten."""
        self.disk.full = self.disk.breaks = self.disk.broken = False
        self._close_parts()
        path, kept = self.home.state, self.home.state.read_bytes()
        if index != "kept":
            Index.discard(path)
        if index == "old" and self._before is not None:
            path.write_bytes(self._before)
        self._before = kept
        self.parts = self._build()
        self.loop.run_until_complete(
            run_async(sweep(self.parts.state.unsettled(), self.now), self._handlers(frozenset()))
        )

    def keep_house(self) -> None:
        if self.parts.state.behind:
            self.parts.state.catch_up(self.parts.ledger)
        self.parts.state.flush()

    def _close_parts(self) -> None:
        with suppress(ForestallError):  # a ledger whose disk failed says so
            self.parts.close()

    def close(self) -> None:
        self.disk.go_on()
        self.disk.full = self.disk.breaks = False
        self._close_parts()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self._patch.undo()
        self._folder.cleanup()


def _verify(ask: Verify) -> Subject:
    found = AGENTS.get(str(ask.proof))
    if found is None:
        raise CannotDo(Reason.INVALID_PROOF)
    return found
