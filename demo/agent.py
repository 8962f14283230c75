"""The agent: what it has, what it remembers, and how it takes a step. What it does is in task.py and in attack.py.

There is no model here. A model that follows the injected instruction would make calls like these; one that does not,
others. Nothing in the steps knows whether Forestall is there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from demo.child import Child
from demo.desk import Desk
from demo.hands import Answer, Hands
from demo.world import World


@dataclass
class Agent:
    world: World
    hands: Hands
    desk: Desk
    child: Child | None = None
    """Whom it hands a part of its task on to."""
    told: str = ""
    """What its parent gave it along with the step that it takes."""
    memory: dict[str, str] = field(default_factory=dict)
    """What it was answered, by the name of the step."""

    @property
    def loot(self) -> str:
        """What it has to give away: every key that it could read, else the numbers that its task let it see."""
        keys = re.findall(r"demo-[a-z]+-key-\w{6}", "\n".join(self.memory.values()))
        return ",".join(sorted(set(keys))) or f"customers {self.memory['query']}"


Act = Callable[[Agent], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    title: str
    act: Act
    attack: bool = False


def call(tool: str, **arguments: object) -> Act:
    """Call `server/tool`. An argument that is a function is asked what it is in this agent's world."""

    async def act(agent: Agent) -> Answer:
        known = {name: value(agent) if callable(value) else value for name, value in arguments.items()}
        return await agent.hands.call(tool, **known)

    return act


def git(tool: str, **arguments: object) -> Act:
    return call(f"git/{tool}", repo_path=lambda agent: str(agent.world.project), **arguments)


async def take(agent: Agent, step: Step) -> Answer:
    answer = await step.act(agent)
    if not answer.failed:
        agent.memory[step.name] = answer.text
    return answer
