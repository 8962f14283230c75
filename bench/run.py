"""All measurements, side by side in one run. Wants an idle machine.

python bench/run.py                              one table, with what is aimed at
python bench/run.py --json bench/results.json    the same, kept; the README's table is made from it
python bench/run.py --only policy                one script
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPTS = (
    "decide",
    "policy",
    "ledger",
    "identity",
    "edge",
    "gateway",
    "scrub",
    "revocation",
    "credentials",
    "backends",
)
"""Each prints, with `--json`, one object of numbers, nested as it likes: names lead to them."""

SECONDS = 900
"""For one script. More means that it hangs."""

Results = Mapping[str, Any]
Measured = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Aim:
    """A number that the README shows. `limit` is what it must not exceed, or, with `least`, must reach."""

    label: str
    path: tuple[str, ...]
    """The script, then the names in what it prints."""
    unit: str
    limit: float | None = None
    least: bool = False
    less: tuple[str, ...] | None = None
    """A number to take from it: what is left is what was added."""
    optional: bool = False
    """What it needs may be absent: then nothing is said of it."""

    def value(self, measured: Measured) -> float | None:
        """None where it was not measured."""
        if self.path not in measured or (self.less and self.less not in measured):
            return None
        return measured[self.path] - (measured[self.less] if self.less else 0)

    def met(self, value: float) -> bool:
        if self.limit is None:
            return True
        return value >= self.limit if self.least else value <= self.limit

    @property
    def target(self) -> str:
        if self.limit is None:
            return ""
        return f"{'at least' if self.least else 'at most'} {number(self.limit)} {self.unit}"


_DIRECT = ("gateway", "no gateway", "p50_ms")

AIMS = (
    Aim("Decision in process, every fact, durable (median)", ("decide", "durable", "p50_us"), "µs", 400),
    Aim("of which the one sync", ("decide", "durable", "sync_p50_us"), "µs"),
    Aim("Policy, 50 policies and 24 tools, when Cedar is asked", ("policy", "permit", "p50_us"), "µs"),
    Aim("Policy, when its answer is remembered", ("policy", "permit, remembered", "p50_us"), "µs"),
    Aim("Decision in process, a declared public read", ("decide", "public_read", "p50_us"), "µs", 150),
    Aim(
        "What the gateway adds to a durable `tools/call`",
        ("gateway", "gateway, durable effect", "p50_ms"),
        "ms",
        1.0,
        less=_DIRECT,
    ),
    Aim("where its output waits for its outcome", ("gateway", "gateway, output waits", "p50_ms"), "ms", less=_DIRECT),
    Aim("beside it: a bare line relay adds", ("gateway", "bare line relay", "p50_ms"), "ms", less=_DIRECT),
    Aim("beside it: a fastmcp proxy adds", ("gateway", "fastmcp proxy", "p50_ms"), "ms", less=_DIRECT),
    Aim("Decided calls", ("gateway", "gateway, durable effect", "calls_per_s"), "a second", 1_000, least=True),
    Aim(
        "Durable records, 64 concurrent callers", ("ledger", "64 callers", "per_second"), "a second", 10_000, least=True
    ),
    Aim(
        "Who a connection is and what its task may, for each of its calls", ("identity", "hot path", "p50_us"), "µs", 10
    ),
    Aim(
        "A task opened by an agent over HTTP, by assertion and proof (median)",
        ("identity", "open over HTTP", "p50_ms"),
        "ms",
        5,
    ),
    Aim("of which the token service, with its sync", ("identity", "open", "p50_ms"), "ms"),
    Aim("A DPoP proof (ES256), for each remote call", ("identity", "proof, ES256", "p50_us"), "µs"),
    Aim(
        "A permit checked at the edge, with a fresh proof (median)", ("edge", "check, fresh proof", "p50_us"), "µs", 250
    ),
    Aim("its burn, synced", ("edge", "burn, synced", "p50_us"), "µs"),
    Aim("A permit made for the edge, for each call", ("edge", "permit made", "p50_us"), "µs"),
    Aim(
        "A kill, to the refusal of 100 connected enforcement points (p99)",
        ("revocation", "order to refusal", "p99_ms"),
        "ms",
        50,
    ),
    Aim("to its acknowledgement (median)", ("revocation", "order to acknowledgement", "p50_ms"), "ms"),
    Aim(
        "from there to the last call that is started",
        ("revocation", "acknowledgement to last start", "most_ms"),
        "ms",
        0,
    ),
    Aim("A PostgreSQL role made for a lease (median)", ("credentials", "postgresql, mint", "p50_ms"), "ms", 8),
    Aim(
        "beside it: with one SCRAM iteration, which libpq takes",
        ("credentials", "postgresql, mint, 1 iteration", "p50_ms"),
        "ms",
    ),
    Aim("beside it: what is decided about it", ("credentials", "postgresql, plan", "p50_us"), "µs"),
    Aim("ended, with its open session (median)", ("credentials", "postgresql, revoke", "p50_ms"), "ms", 10),
    Aim("until that session is refused (p99)", ("credentials", "postgresql, to refusal", "p99_ms"), "ms", 100),
    *(
        Aim(f"beside it: {label}", ("backends", name, "mint", "p50_ms"), "ms", optional=True)
        for name, label in (
            ("static file", "a secret read from a file"),
            ("GitHub App", "a GitHub App's token, at the tests' server"),
            ("Kubernetes", "a Kubernetes token, at the tests' server"),
            ("OAuth", "an OAuth token, at the real oidc-provider on this machine"),
            ("AWS STS", "a session of AWS, at moto"),
        )
    ),
    Aim("Start of a gateway", ("gateway", "gateway, durable effect", "start_ms"), "ms", 150),
    Aim("Memory of the decision point", ("decide", "socket", "resident_mb"), "MB", 60),
    Aim("Memory of a gateway", ("gateway", "gateway, durable effect", "resident_mb"), "MB", 30),
)


def numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number in nested objects, with the names that lead to it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, (*path, name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def number(value: float) -> str:
    """Three figures, as a person writes them."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(results: Results) -> str:
    """The README's table."""
    measured = dict(numbers(results["measured"]))
    machine = results["machine"]
    shown = [aim for aim in AIMS if not aim.optional or aim.value(measured) is not None]
    rows = [f"| {aim.label} | {_shown(aim, measured)} | {aim.target} |" for aim in shown]
    head = f"| {machine['cpu']}, {machine['cpus']} CPUs, Python {machine['python']} | measured | aim |"
    return "\n".join([head, "| --- | ---: | ---: |", *rows, ""])


def _shown(aim: Aim, measured: Measured) -> str:
    value = aim.value(measured)
    return "not measured" if value is None else f"{number(value)} {aim.unit}"


def report(results: Results) -> Iterator[str]:
    """Everything that was measured, then what is aimed at."""
    measured = dict(numbers(results["measured"]))
    for path, value in [*numbers(results["machine"], ("machine",)), *measured.items()]:
        yield f"{' / '.join(path):70} {value:>14,.2f}"
    yield ""
    for aim in AIMS:
        found = aim.value(measured)
        mark = ("absent" if aim.optional else "MISSING") if found is None else "ok" if aim.met(found) else "MISSED"
        yield f"  {mark:8} {aim.label}: {_shown(aim, measured)}{'; ' if aim.target else ''}{aim.target}"


def missed(results: Results) -> bool:
    """Is an aim of the scripts that ran not met, or not measured?"""
    measured = dict(numbers(results["measured"]))
    values = [(aim, aim.value(measured)) for aim in AIMS if aim.path[0] in results["measured"]]
    return any(not aim.optional if value is None else not aim.met(value) for aim, value in values)


def measure(script: str) -> Any:
    """What a script prints. Its standard error is ours."""
    words = [sys.executable, str(HERE / f"{script}.py"), "--json"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True)
    return json.loads(done.stdout)


def yardstick() -> float:
    """The best time of a loop that is always the same: what a number from another machine, or hour, compares with."""
    times = []
    for _ in range(50):
        start = time.perf_counter_ns()
        sum(number * number for number in range(10_000))
        times.append(time.perf_counter_ns() - start)
    return round(min(times) / 1000, 1)


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cpus": os.cpu_count() or 1,
        "python": platform.python_version(),
        "yardstick_us": yardstick(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "at": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the numbers in this file (- prints them)")
    parser.add_argument("--strict", action="store_true", help="end with 1 where an aim is missed")
    parser.add_argument("--only", choices=SCRIPTS, action="append", help="one script; may be repeated")
    args = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "measured": {}}
    if results["machine"]["load"] > 0.5 * results["machine"]["cpus"]:
        print(
            f"bench: the machine is busy (load {results['machine']['load']}); the numbers will be worse.",
            file=sys.stderr,
        )
    for script in args.only or SCRIPTS:
        print(f"bench: {script} ...", file=sys.stderr, flush=True)
        results["measured"][script] = measure(script)
    if args.json and str(args.json) != "-":
        args.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(results, indent=2, ensure_ascii=False) if str(args.json) == "-" else "\n".join(report(results)))
    return int(args.strict and missed(results))


if __name__ == "__main__":
    sys.exit(main())
