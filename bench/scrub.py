"""What it costs to search what a server sends for what it was lent: nothing without a credential, little with one.

python bench/scrub.py [--json]

Beside it, what reading the same line costs: that is done for every message anyway.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Callable

from forestall.core.scrub import Scrubber
from forestall.pep.mcp.message import read_server

ROUNDS = 200
SIZES = {"1 KB": 1_000, "100 KB": 100_000, "10 MB": 10_000_000}
WORDS = "a result of some words, and numbers such as 17,\n"


def line(size: int) -> bytes:
    text = (WORDS * (size // len(WORDS) + 1))[:size]
    result = {"content": [{"type": "text", "text": text}]}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def p50_us(do: Callable[[], object], rounds: int) -> float:
    """Microseconds, the median of `rounds`."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        do()
        times.append(time.perf_counter_ns() - begun)
    return sorted(times)[rounds // 2] / 1000


def measure() -> dict[str, dict[str, float]]:
    return {name: measured(line(size), max(3, min(ROUNDS, 20_000_000 // size))) for name, size in SIZES.items()}


def measured(sent: bytes, rounds: int) -> dict[str, float]:
    nothing, something = Scrubber(), Scrubber([secrets.token_urlsafe(32)])
    value = read_server(sent).value
    return {
        "read_p50_us": p50_us(lambda: read_server(sent), rounds),
        "none_p50_us": p50_us(lambda: nothing and nothing.finds_in(value), rounds),
        "p50_us": p50_us(lambda: something.finds_in(value), rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    args = parser.parse_args()
    found = measure()
    if args.json:
        print(json.dumps(found))
        return
    for name, times in found.items():
        print(f"{name:>7}", *(f"{what}: {value:,.1f}" for what, value in times.items()))


main()
