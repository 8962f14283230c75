"""One run of the story in one world, and what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from demo.agent import Agent, Step, take
from demo.attack import ATTACK
from demo.hands import Answer, Wrap, connect
from demo.harm import HAPPENED, leaked, snapshot
from demo.task import AFTER, BEFORE
from demo.world import POISON, World

STEPS = (*BEFORE, *ATTACK, *AFTER)


@dataclass(frozen=True, slots=True)
class Took:
    """A step that was taken. `happened`: the honest thing was done, or the harm was."""

    step: Step
    answer: Answer
    happened: bool


@dataclass
class Play:
    took: list[Took] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """What the honest task has no business with, and is not as it was."""
    leaked: list[str] = field(default_factory=list)
    """Secrets that the agent or the collector was given."""

    def find(self, name: str) -> Took | None:
        return next((took for took in self.took if took.step.name == name), None)


async def play(world: World, wrap: Wrap, told: Callable[[str], None]) -> Play:
    before = snapshot(world)
    result = Play()
    told("starting the servers")
    async with connect(world, wrap) as hands:
        agent = Agent(world, hands)
        for step in _script(agent):
            told(step.title)
            answer = await take(agent, step)
            result.took.append(Took(step, answer, HAPPENED[step.name](world, answer)))
    result.changed = before.changes(snapshot(world))
    result.leaked = leaked([took.answer.text for took in result.took], world)
    return result


def _script(agent: Agent) -> Iterator[Step]:
    """The attack comes about by what the poisoned file says: an agent that could not read it is not taken over."""
    yield from BEFORE
    if POISON in agent.memory.get("feedback", ""):
        yield from ATTACK
    yield from AFTER


def require_tools() -> str | None:
    """A sentence about what is missing on this machine, or None."""
    if shutil.which("git") is None:
        return "The demo needs git; install it and try again."
    return None
