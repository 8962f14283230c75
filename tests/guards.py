"""A guard on a simulated world: real flow, real state, and a ledger that is a list."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from forestall.adapter.store.state import LogState
from forestall.core.ask import (
    Evaluate,
    FindGrant,
    FindTool,
    Gather,
    Perform,
    Record,
    Release,
    Reserve,
)
from forestall.core.effects import Effect
from forestall.core.entry import Entry, Kind, Stream
from forestall.core.model import Mandate, Ruling, Tool
from forestall.core.task import OPEN
from forestall.pep.guard import Guard
from forestall.pep.point import DecisionPoint
from forestall.port import Position, Written
from forestall.testing.world import AGENT, NOW, PERMITTED, World, facts

EVERYTHING = Mandate("default", "anything", ("*",), frozenset(Effect), 60_000)


@dataclass
class Program:
    """A program with a guard. `world` says what policy rules and what fails; `rule` may rule by the question."""

    world: World = field(default_factory=World)
    mandate: Mandate = EVERYTHING
    rule: Callable[[Any], Ruling] | None = None
    opening: Ruling = PERMITTED
    """What policy says of a task that is to be opened."""
    now: int = NOW
    closed: int = 0
    before: Callable[[Any], None] = lambda _ask: None
    """Sees every ask before it is answered, and may raise."""

    def __post_init__(self) -> None:
        self.tools: dict[str, Tool] = {}
        self.declared: list[list[str]] = []
        self.leaks: list[tuple[str, str]] = []
        self.state = LogState()
        self._lock = Lock()
        self._random = itertools.count(1)
        handlers = {**dict.fromkeys(self.world.handlers(), self.answer)}
        del handlers[Perform]
        self.point = DecisionPoint(
            handlers=handlers,
            handlers_async=dict.fromkeys(handlers, self.answer_async),
            subject=AGENT,
            proof="proof",
            now=lambda: self.now,
            random=lambda size: next(self._random).to_bytes(size, "big"),
            mandate={self.mandate.name: self.mandate}.get,
            declare=self.declare,
            leaked=lambda task, where: self.leaks.append((task, where)),
            close=self.close,
        )
        self.guard = Guard(self.point)

    def declare(self, tools: Sequence[Tool]) -> None:
        self.tools = {tool.id: tool for tool in tools}
        self.declared.append([tool.name for tool in tools])

    def close(self) -> None:
        self.closed += 1

    async def answer_async(self, ask: Any) -> Any:
        return self.answer(ask)

    def answer(self, ask: Any) -> Any:
        self.before(ask)
        with self._lock:
            return self._answer(ask)

    def _answer(self, ask: Any) -> Any:
        match ask:
            case FindTool():
                return self.tools.get(ask.tool)
            case FindGrant():
                return self.state.find_grant(ask.task)
            case Gather():
                return facts(ask.tool, self.state.labels(ask.action.task))
            case Reserve():
                return self.state.reserve(ask.grant, ask.effects)
            case Release():
                return self.state.release(ask.grant, ask.effects)
            case Evaluate() if ask.question.tool is OPEN:
                return self.opening
            case Evaluate() if self.rule is not None:
                return self.rule(ask.question)
            case Record():
                self.world.handle(ask)
                index = sum(entry.stream is ask.entry.stream for entry in self.world.entries) - 1
                return self.state.apply(Written(Position(ask.entry.stream, index), _body(ask.entry)))
        return self.world.handle(ask)

    # -- what the ledger says

    def kinds(self) -> list[str]:
        """Kind by kind, tasks aside."""
        kinds = [entry.kind.value for entry in self.world.entries]
        return [kind for kind in kinds if kind not in ("opened", "closed")]

    def entries(self, kind: Kind) -> list[Entry]:
        return [entry for entry in self.world.entries if entry.kind is kind]

    def fates(self) -> list[str]:
        return [entry.body["fate"] for entry in self.entries(Kind.SETTLED)]

    def reasons(self) -> list[str]:
        return [entry.body["reason"] for entry in self.world.entries if entry.stream is Stream.DENIALS]


def _body(entry: Entry) -> Mapping[str, Any]:
    return {**entry.body, "kind": entry.kind.value, "id": entry.id, "at": entry.at}
