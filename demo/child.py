"""The sub-agent, as its parent has it: a process that takes one step after the other."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from demo.hands import SECONDS, Answer, process
from demo.world import World


class Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def take(self, name: str, told: str = "") -> Answer:
        """Have it take the step of this name. `told`: what it is given along with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"name": name, "told": told}).encode() + b"\n")
        async with asyncio.timeout(2 * SECONDS):
            line = await self._process.stdout.readline()
        return Answer(**json.loads(line)) if line else Answer("The sub-agent has gone.", failed=True)


@asynccontextmanager
async def start(world: World, url: str) -> AsyncIterator[Child]:
    where = [str(world.root), str(world.intranet.port), str(world.collector.port), url]
    with (world.root / "servers.log").open("a") as log:
        async with process(world, [sys.executable, "-P", "-m", "demo.reader", *where], log, SECONDS) as started:
            yield Child(started)
