"""The support agent's part of a play: at a database, with a credential that somebody has to have given its server."""

from __future__ import annotations

import asyncio

from demo.agent import Agent
from demo.desk import Desk
from demo.hands import NOTHING, connect_some
from demo.scene import Play, Scene, Told, reached, take_all
from demo.shop import lent
from demo.shop.database import URL
from demo.shop.harm import HAPPENED, snapshot
from demo.shop.script import AFTERWARDS, ANSWERED, ASKED, CUSTOMER, TAKEN
from demo.world import World

SHOP = (
    Scene("support at a PostgreSQL, where it may run any SQL", ASKED),
    Scene("taken over by the note: the database itself refuses", TAKEN, poison="order"),
    Scene("the task goes on, and is done", ANSWERED),
)

SHOP_LAST = Scene("after the task", AFTERWARDS)

AT_DATABASE = frozenset(step.name for step in (*TAKEN, *AFTERWARDS))
"""The attacks that only PostgreSQL is there to refuse."""


async def play_shop(world: World, result: Play, told: Told, url: str) -> None:
    """Adds what came of it to `result`. `url`: of the token service; empty without Forestall.

    Raises RuntimeError where the task is not opened.
    """
    told("starting the shop's server")
    desk = Desk(world, "support", url)
    if (opened := desk.open("support", customer=CUSTOMER)).failed:
        raise RuntimeError(opened.text)
    before = snapshot(world)
    async with connect_some(world, desk.wrap, ["shop"], NOTHING if url else _standing(world)) as hands:
        agent = Agent(world, hands, desk)
        for scene in reached(SHOP, agent):
            await take_all(scene.steps, agent, result, told, HAPPENED)
            if url and scene is SHOP[0]:
                await asyncio.to_thread(_see_living, world, result)
        if url:
            await asyncio.to_thread(_see_gone, world, result)
        await take_all(SHOP_LAST.steps, agent, result, told, HAPPENED)
    later = snapshot(world)
    result.changed += [name for name in before if before[name] != later[name]]


def _see_living(world: World, result: Play) -> None:
    result.lent, result.shown = lent.alive(world), lent.shown(world)


def _see_gone(world: World, result: Play) -> None:
    """Forestall's word, and the database's own."""
    result.left = [*lent.left(world), *lent.roles(world)]
    result.stories = lent.stories(world)


def _standing(world: World) -> dict[str, str]:
    """What people put into the configuration of such a server."""
    assert world.shop is not None
    return {URL: world.shop.standing_url}
