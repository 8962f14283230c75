"""What a durable entry costs: one caller, then 64, blocking and async; beside it, what the disk alone takes.

Usage: python bench/ledger.py [--json] [--directory DIR] [--seconds S]

The directory decides which disk is measured; it is the current one by default, since /tmp may be memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall.adapter.ledger import keys
from forestall.adapter.ledger.log import FileLedger
from forestall.core.entry import Entry, Kind, Stream

CALLERS = 64
TARGET = 10_000
"""Durable records a second at 64 callers."""

BODY = {
    "task": "task-0123456789abcdef",
    "tool": "git/push",
    "pin": "sha256:" + "a" * 64,
    "arguments": "sha256:" + "b" * 64,
    "subject": {"id": "local:1000", "assurance": "local", "asserted_name": "client"},
    "effects": ["external", "write"],
    "confidence": "declared",
    "policies": ["push-own-branch"],
    "policy_digest": "sha256:" + "c" * 64,
    "expires_at": 1_795_255_205_000,
    "credential": None,
}
SEALED = b'{"arguments":{"branch":"main","remote":"origin"},"salt":"AAAAAAAAAAAAAAAAAAAAAA=="}'


def entry(number: int) -> Entry:
    return Entry(Stream.PERMITS, Kind.PERMITTED, f"p{number}", 1_795_255_200_000, BODY, True, SEALED)


def timed(step: Callable[[], object], seconds: float) -> list[float]:
    """Microseconds of each of as many steps as fit."""
    taken = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        step()
        taken.append((time.perf_counter() - start) * 1e6)
    return taken


def spread(taken: list[float]) -> dict[str, float]:
    return {"median_us": statistics.median(taken), "p99_us": statistics.quantiles(taken, n=100)[98]}


def disk(directory: Path, size: int, seconds: float) -> dict[str, float]:
    """An append and an fdatasync of the same size, and nothing else."""
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        data = os.urandom(size)

        def step() -> None:
            file.write(data)
            os.fdatasync(file.fileno())

        timed(step, seconds / 10)
        return spread(timed(step, seconds))


def one_caller(ledger: FileLedger, seconds: float, *, durable: bool) -> dict[str, float]:
    given = Entry(Stream.PERMITS, Kind.PERMITTED, "p", 1_795_255_200_000, BODY, durable, SEALED)
    timed(lambda: ledger.append(given), seconds / 10)
    return spread(timed(lambda: ledger.append(given), seconds))


def blocking(ledger: FileLedger, seconds: float) -> float:
    """Records a second of 64 threads."""
    counts = [0] * CALLERS
    end = time.perf_counter() + seconds

    def work(caller: int) -> None:
        while time.perf_counter() < end:
            ledger.append(entry(counts[caller]))
            counts[caller] += 1

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(CALLERS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def on_a_loop(ledger: FileLedger, seconds: float) -> float:
    """Records a second of 64 coroutines."""

    async def work(end: float) -> int:
        count = 0
        while time.perf_counter() < end:
            await ledger.append_async(entry(count))
            count += 1
        return count

    async def run() -> float:
        start = time.perf_counter()
        counts = await asyncio.gather(*(work(start + seconds) for _ in range(CALLERS)))
        return sum(counts) / (time.perf_counter() - start)

    return asyncio.run(run())


def many(ledger: FileLedger, seconds: float) -> dict[str, float]:
    """Records a second. `per_second` is the slower way."""
    threads, loop = blocking(ledger, seconds), on_a_loop(ledger, seconds)
    return {"threads_per_second": threads, "async_per_second": loop, "per_second": min(threads, loop)}


def measure(directory: Path, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=directory) as name:
        root = Path(name)
        with FileLedger.open(root / "ledger", keys=keys.create(root / "keys")) as ledger:
            before = ledger.size(Stream.PERMITS)
            ledger.append(entry(0))
            size = ledger.size(Stream.PERMITS) - before
            return {
                "bytes": size,
                "disk": disk(root, size, seconds),
                "durable": one_caller(ledger, seconds, durable=True),
                "not_durable": one_caller(ledger, seconds, durable=False),
                f"{CALLERS} callers": many(ledger, seconds),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description="What a durable entry costs.")
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    parser.add_argument("--directory", type=Path, default=Path(), help="on the disk to measure")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    args = parser.parse_args()
    result = measure(args.directory, args.seconds)
    if args.json:
        print(json.dumps(result))
        return
    print(f"one durable entry ({result['bytes']} bytes with its payload)")
    for what in ("disk", "durable", "not_durable"):
        label = {"disk": "write + fdatasync alone", "durable": "append", "not_durable": "append without sync"}[what]
        print(f"  {label:<26} median {result[what]['median_us']:8.0f} µs   p99 {result[what]['p99_us']:8.0f} µs")
    print(f"{CALLERS} callers (target {TARGET:,} durable entries/s)")
    at_once = result[f"{CALLERS} callers"]
    print(f"  threads                    {at_once['threads_per_second']:8,.0f} entries/s")
    print(f"  async                      {at_once['async_per_second']:8,.0f} entries/s")


if __name__ == "__main__":
    main()
