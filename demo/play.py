"""One run of the story in one world, and what came of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from demo import child, guard
from demo.agent import Agent, Step, take
from demo.attack import ATTACK
from demo.desk import Desk
from demo.handing import HANDED_ON, HIJACKED, STOPPED
from demo.hands import Answer, connect
from demo.harm import HAPPENED, leaked, snapshot
from demo.task import AFTER, BEFORE, READ_ON
from demo.world import POISON, World


@dataclass(frozen=True, slots=True)
class Scene:
    title: str
    steps: tuple[Step, ...]
    poison: str = ""
    """The step that it comes about by: an agent that could not read what it read there is not taken over."""


SCENES = (
    Scene("", BEFORE),
    Scene("a sub-agent, with an identity and a task of its own", HANDED_ON),
    Scene("the sub-agent is taken over by what it read", HIJACKED, poison="comments"),
    Scene("the task goes on", READ_ON),
    Scene("taken over: the file it read gives the orders now", ATTACK, poison="feedback"),
    Scene("the task goes on", AFTER),
)

LAST = Scene("the operator ends the task: forestall kill", STOPPED)

STEPS = tuple(step for scene in (*SCENES, LAST) for step in scene.steps)


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
    """Secrets that an agent or the collector was given."""
    ran: list[str] = field(default_factory=list)
    """The demo's servers that ran before the operator ended the task."""
    run_on: list[str] = field(default_factory=list)
    """Those that ran still when it was ended."""

    def find(self, name: str) -> Took | None:
        return next((took for took in self.took if took.step.name == name), None)


async def play(world: World, told: Callable[[str], None], *, guarded: bool) -> Play:
    """Raises RuntimeError where the agent's task is not opened."""
    result = Play()
    told("starting the servers")
    desk = Desk(world, "reporter", await asyncio.to_thread(guard.serve, world) if guarded else "")
    if (opened := desk.open()).failed:
        raise RuntimeError(opened.text)
    before = snapshot(world)
    async with child.start(world, desk.url) as sub_agent, connect(world, desk.wrap) as hands:
        agent = Agent(world, hands, desk, sub_agent)
        await _take(_script(agent), agent, result, told)
        await _stop(desk, result)
        await _take(LAST.steps, agent, result, told)
    result.changed = before.changes(snapshot(world))
    result.leaked = leaked([took.answer.text for took in result.took], world)
    return result


async def _take(steps: Iterable[Step], agent: Agent, result: Play, told: Callable[[str], None]) -> None:
    for step in steps:
        told(step.title)
        answer = await take(agent, step)
        result.took.append(Took(step, answer, HAPPENED[step.name](agent.world, answer)))


def _script(agent: Agent) -> Iterator[Step]:
    for scene in SCENES:
        if not scene.poison or POISON in agent.memory.get(scene.poison, ""):
            yield from scene.steps


async def _stop(desk: Desk, result: Play) -> None:
    """Without Forestall there is no task to end."""
    result.ran = guard.running(desk.world)
    if desk.url:
        await asyncio.to_thread(guard.kill, desk.world, desk.task)
    result.run_on = guard.running(desk.world)


def require_tools() -> str | None:
    """A sentence about what is missing on this machine, or None."""
    if shutil.which("git") is None:
        return "The demo needs git; install it and try again."
    return None
