"""A decision point that is killed at one entry of its ledger: `dying HOME KIND before|after`.

It is the real one; only its ledger is told to end the process, as a power cut would, before the first entry of that
kind is written or once it is on disk.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from forestall.core.entry import Entry
from forestall.home import Home
from forestall.port import Position
from forestall.server.listening import Lock, listen, prepare
from forestall.server.point import Point
from forestall.wire import build


class Dying:
    def __init__(self, real: Any, kind: str, when: str) -> None:
        self.real, self.kind, self.when = real, kind, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def append(self, entry: Entry) -> Position:
        self.at("before", entry)
        position = self.real.append(entry)
        self.at("after", entry)
        return position

    def append_at_once(self, entry: Entry) -> Position | None:
        self.at("before", entry)
        position = self.real.append_at_once(entry)
        if position is not None:
            self.at("after", entry)
        return position

    def append_async(self, entry: Entry, then: Callable[[Position], None] | None = None) -> Awaitable[Position]:
        self.at("before", entry)

        def written(position: Position) -> None:
            self.at("after", entry)
            if then is not None:
                then(position)

        return self.real.append_async(entry, written)

    def at(self, when: str, entry: Entry) -> None:
        if (self.kind, self.when) == (entry.kind.value, when):
            os.kill(os.getpid(), signal.SIGKILL)


async def main(home: Home, kind: str, when: str) -> None:
    prepare(home)
    lock = Lock.acquire(home.run / "lock")
    parts = build(home)
    parts.ledger = Dying(parts.ledger, kind, when)
    await Point(parts).serve(listen(home.socket, lock))


if __name__ == "__main__":
    asyncio.run(main(Home.find(sys.argv[1]), *sys.argv[2:]))
