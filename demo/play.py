"""One run of the story in one world, and what came of it."""

from __future__ import annotations

import asyncio
import shutil

from demo import child, guard
from demo.agent import Agent, Step
from demo.attack import ATTACK
from demo.desk import Desk
from demo.handing import HANDED_ON, HIJACKED, STOPPED
from demo.hands import connect
from demo.harm import HAPPENED, leaked, snapshot
from demo.scene import Play, Scene, Told, reached, take_all
from demo.shop.play import SHOP, SHOP_LAST, play_shop
from demo.task import AFTER, BEFORE, READ_ON
from demo.world import World

SCENES = (
    Scene("", BEFORE),
    Scene("a sub-agent, with an identity and a task of its own", HANDED_ON),
    Scene("the sub-agent is taken over by what it read", HIJACKED, poison="comments"),
    Scene("the task goes on", READ_ON),
    Scene("taken over: the file it read gives the orders now", ATTACK, poison="feedback"),
    Scene("the task goes on", AFTER),
)

LAST = Scene("the operator ends the task: forestall kill", STOPPED)


def scenes_of(world: World) -> tuple[Scene, ...]:
    """Those that can be played in it, in the order of the table."""
    return (*SCENES, LAST, *((*SHOP, SHOP_LAST) if world.shop else ()))


def steps_of(world: World) -> tuple[Step, ...]:
    return tuple(step for scene in scenes_of(world) for step in scene.steps)


async def play(world: World, told: Told, *, guarded: bool) -> Play:
    """Raises RuntimeError where the agent's task is not opened."""
    result = Play()
    told("starting the servers")
    desk = Desk(world, "reporter", await asyncio.to_thread(guard.serve, world) if guarded else "")
    if (opened := desk.open()).failed:
        raise RuntimeError(opened.text)
    before = snapshot(world)
    async with child.start(world, desk.url) as sub_agent, connect(world, desk.wrap) as hands:
        agent = Agent(world, hands, desk, sub_agent)
        for scene in reached(SCENES, agent):
            await take_all(scene.steps, agent, result, told, HAPPENED)
        await _stop(desk, result)
        await take_all(LAST.steps, agent, result, told, HAPPENED)
    result.changed = before.changes(snapshot(world))
    if world.shop:
        await play_shop(world, result, told, desk.url)
    result.leaked = leaked([took.answer.text for took in result.took], world)
    return result


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
