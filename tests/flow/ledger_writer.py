"""A process that writes to a ledger and says each id once it was acknowledged. It is killed by its test, or by itself.

Usage: python -m tests.flow.ledger_writer DIRECTORY MODE FIRST [FAULT]. MODE: one, threads, loop.
FAULT: `sync` dies where a sync would be, `synced` right after one, `half` in the middle of a write.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import threading
from pathlib import Path

from forestall.adapter.ledger.log import FileLedger
from tests.ledgers import Place, denied, permitted, settled

CALLERS = 8


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def install(fault: str, after: int) -> None:
    """From the sync or write of that number on."""
    count = itertools.count(1)
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def sync(fd: int) -> None:
        if next(count) < after:
            return fdatasync(fd)
        if fault == "synced":
            fdatasync(fd)
        return die()

    def write(fd: int, data: bytes, offset: int) -> int:
        if next(count) < after:
            return pwrite(fd, data, offset)
        pwrite(fd, data[: len(data) // 2], offset)
        die()
        return 0

    if fault == "half":
        os.pwrite = write
    else:
        os.fdatasync = sync


def say(name: str) -> None:
    os.write(1, f"{name}\n".encode())


def one(ledger: FileLedger, first: int) -> None:
    for number in itertools.count(first):
        name = f"p{number}"
        ledger.append(permitted(name))
        say(name)
        ledger.append(settled(name))
        say(f"settled {name}")
        ledger.append(denied(f"d{number}"))


def threads(ledger: FileLedger, first: int) -> None:
    workers = [
        threading.Thread(target=one, args=(ledger, first + caller * 1_000_000), daemon=True)
        for caller in range(CALLERS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def loop(ledger: FileLedger, first: int) -> None:
    async def call(number: int) -> None:
        for name in (f"p{n}" for n in itertools.count(number)):
            await ledger.append_async(permitted(name))
            say(name)
            await ledger.append_async(settled(name))
            say(f"settled {name}")

    async def run() -> None:
        await asyncio.gather(*(call(first + caller * 1_000_000) for caller in range(CALLERS)))

    asyncio.run(run())


def main() -> None:
    ledger = Place(Path(sys.argv[1])).open()
    if len(sys.argv) > 5:
        install(sys.argv[4], int(sys.argv[5]))
    {"one": one, "threads": threads, "loop": loop}[sys.argv[2]](ledger, int(sys.argv[3]))


if __name__ == "__main__":
    main()
