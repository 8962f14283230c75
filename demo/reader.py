"""The sub-agent's process: `python -m demo.reader ROOT INTRANET_PORT COLLECTOR_PORT URL`.

Each line of standard input is a step to take, in JSON, and each line of standard output what came of it. The first one
is the ticket that it takes its task over with; its servers are started under the grant that it gets for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from demo.agent import Agent, Step, take
from demo.desk import Desk
from demo.errand import ACTS
from demo.hands import Answer, connect_some
from demo.sink import Site
from demo.world import World

SERVERS = ("files", "database")
"""Those that it was set up with. Its errand is for one of them."""


async def work(world: World, url: str) -> None:
    desk = Desk(world, "reader", url)
    accepted = desk.accept((await _next())["told"])
    if accepted.failed:
        _say(accepted)
        return
    async with connect_some(world, desk.wrap, SERVERS) as hands:
        _say(accepted)
        agent = Agent(world, hands, desk)
        while wanted := await _next():
            agent.told = wanted["told"]
            _say(await take(agent, Step(wanted["name"], "", ACTS[wanted["name"]])))


async def _next() -> dict[str, str]:
    """Empty when its parent has gone."""
    line = await asyncio.to_thread(sys.stdin.readline)
    wanted: dict[str, str] = json.loads(line) if line else {}
    return wanted


def _say(answer: Answer) -> None:
    print(json.dumps(asdict(answer)), flush=True)


def main() -> int:
    logging.getLogger("client").setLevel(logging.ERROR)  # as in demo/__main__.py
    root, intranet, collector, url = sys.argv[1:]
    world = World(Path(root), Site(int(intranet), []), Site(int(collector), []))
    asyncio.run(work(world, url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
