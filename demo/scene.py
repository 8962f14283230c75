"""The parts of a play: scenes, the steps that were taken, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from demo.agent import Agent, Step, take
from demo.hands import Answer
from demo.harm import Happened
from demo.shop.lent import Story
from demo.world import POISON


@dataclass(frozen=True, slots=True)
class Scene:
    title: str
    steps: tuple[Step, ...]
    poison: str = ""
    """The step that it comes about by: an agent that could not read what it read there is not taken over."""


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
    lent: list[str] = field(default_factory=list)
    """Names of the credentials that lived while the support agent worked, as `forestall leases` shows them."""
    shown: str = ""
    """The same, as it shows it to people."""
    left: list[str] = field(default_factory=list)
    """Those that lived still when it had done its task, by Forestall's word or the database's."""
    stories: list[Story] = field(default_factory=list)
    """What the ledger tells of each."""

    def find(self, name: str) -> Took | None:
        return next((took for took in self.took if took.step.name == name), None)


Told = Callable[[str], None]
"""Hears what is being done."""


async def take_all(
    steps: Iterable[Step], agent: Agent, result: Play, told: Told, happened: Mapping[str, Happened]
) -> None:
    for step in steps:
        told(step.title)
        answer = await take(agent, step)
        result.took.append(Took(step, answer, happened[step.name](agent.world, answer)))


def reached(scenes: Iterable[Scene], agent: Agent) -> Iterator[Scene]:
    """To be asked for one after the other: which ones there are depends on what the agent has read by then."""
    for scene in scenes:
        if not scene.poison or POISON in agent.memory.get(scene.poison, ""):
            yield scene
