"""What a whole decision costs, with every fact: in process, and over the decision point's socket. And what it weighs.

python bench/decide.py [--json]

The time of a decision is from the question to the moment its permit may be released; the one sync in it is shown apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forestall.adapter.identity import Peer
from forestall.core.action import ask_for
from forestall.core.ask import Perform
from forestall.core.flow import govern
from forestall.core.model import Action, Deny, Done, Result
from forestall.core.pin import definition_digest
from forestall.core.task import open_task
from forestall.frame import HEAD, PROTOCOL, decode, encode, length
from forestall.home import Home
from forestall.pep.start import ensure_running
from forestall.run import run
from forestall.server.listening import prepare
from forestall.wire import Parts, build, handlers_blocking

ROUNDS = 2_000
TOOLS = 24
POLICIES = 50
START_MS = 30_000
WAIT_S = 30.0
EFFECTS = ("read", "write", "external", "destructive")
SERVER = "files"
ARGUMENTS = {"path": "src/core/0.py", "content": "A line of text.\n" * 40}


def definition(number: int) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
        "required": ["path"],
    }
    return {"name": f"tool{number}", "description": f"Tool {number}.", "inputSchema": schema}


def write_catalogue(home: Home) -> None:
    """Every fourth tool reads what is public, and is declared to."""
    home.catalogue.mkdir()
    lines = ["format = 1", f'server = "{SERVER}"', 'about = "for measuring"']
    for number in range(TOOLS):
        public = '{ integrity = "trusted", confidentiality = "public" }'
        secret = '{ integrity = "untrusted", confidentiality = "secret" }'
        lines += [
            f"[tools.tool{number}]",
            f'effects = ["{EFFECTS[number % 4]}"]',
            'control = ["path"]',
            'content = ["content"]',
            f"output = {public if number % 4 == 0 else secret}",
            'from = { effects = "declared", arguments = "declared", output = "declared" }',
            f'pin = "{definition_digest(SERVER, definition(number))}"',
        ]
    (home.catalogue / f"{SERVER}.toml").write_text("\n".join(lines))
    reviewed = {"format": 1, "server": SERVER, "tools": [definition(number) for number in range(TOOLS)]}
    (home.catalogue / f"{SERVER}.json").write_text(json.dumps(reviewed))


def policies() -> str:
    texts = [f'permit (principal, action in Action::"{effect}", resource);' for effect in EFFECTS]
    texts += [
        f'permit (principal, action == Action::"{SERVER}/tool{n % TOOLS}", resource)\n'
        f'when {{ context.paths has path.inside && context.paths.path.inside like "work/{n}/*" }};'
        for n in range(POLICIES - 14)
    ]
    texts += [
        f'forbid (principal, action == Action::"{SERVER}/tool{n}", resource)\n'
        f'when {{ context.labels.integrity == "untrusted" && context.args.path == "{n}" }};'
        for n in range(10)
    ]
    return "\n".join(texts)


def make_home(root: Path) -> Home:
    home = Home(root / "home")
    prepare(home)
    home.policy.mkdir()
    (home.policy / "bench.cedar").write_text(policies())
    write_catalogue(home)
    directory = root / "work" / "src" / "core"
    directory.mkdir(parents=True)
    for turn in range(ROUNDS):
        (directory / f"{turn}.py").touch()
    return home


def work(home: Home) -> str:
    """Where the tools work: a file for each turn, so that no call is like one before."""
    return str(home.root.parent / "work")


class Synced:
    """What the disk took of it, for the thread that decides; what is synced beside it, nobody waits for."""

    def __init__(self) -> None:
        self.ns = 0
        self._thread = threading.get_ident()

    def timed(self, real: Callable[..., None]) -> Callable[..., None]:
        def timed(*given: int) -> None:
            start = time.perf_counter_ns()
            real(*given)
            if threading.get_ident() == self._thread:
                self.ns += time.perf_counter_ns() - start

        return timed


@contextmanager
def timed_syncs() -> Iterator[Synced]:
    synced = Synced()
    real = os.fdatasync
    os.fdatasync = synced.timed(real)
    try:
        yield synced
    finally:
        os.fdatasync = real


def median(times: list[int]) -> float:
    return round(sorted(times)[len(times) // 2] / 1000, 1)


def last(times: list[int]) -> float:
    return round(sorted(times)[len(times) * 99 // 100] / 1000, 1)


def in_process(parts: Parts, number: int, synced: Synced) -> dict[str, float]:
    """One tool, called over and over by one task, for another file each time."""
    released = 0

    def perform(_ask: Any) -> Result:
        nonlocal released
        released = time.perf_counter_ns()
        return Result(None)

    table = {**handlers_blocking(parts, directory=work(parts.home)), Perform: perform}
    proof = Peer(os.getuid(), os.getpid(), SERVER)
    mandate = parts.rules.mandates["default"]
    subject, salt = parts.identity.verify(proof), secrets.token_bytes(16)
    grant = run(open_task(mandate, secrets.token_hex(16), subject, parts.now(), salt=salt), table)
    pin = definition_digest(SERVER, definition(number))
    decided, syncs, whole = [], [], []
    for turn in range(ROUNDS):
        before, start = synced.ns, time.perf_counter_ns()
        asked = question(parts, grant.task, number, pin, proof, turn)
        outcome = run(govern(asked), table, deadline=time.monotonic() + WAIT_S)
        whole.append(time.perf_counter_ns() - start)
        if not isinstance(outcome, Done):
            raise SystemExit(f"The benchmark's call was {outcome}, {getattr(outcome, 'detail', '')}.")
        decided.append(released - start)
        syncs.append(synced.ns - before)
    return {
        "p50_us": median(decided),
        "p99_us": last(decided),
        "sync_p50_us": median(syncs),
        "without_sync_p50_us": median([one - sync for one, sync in zip(decided, syncs, strict=True)]),
        "settled_p50_us": median(whole),
    }


def arguments(turn: int) -> dict[str, str]:
    return {**ARGUMENTS, "path": f"src/core/{turn}.py"}


def question(parts: Parts, task: str, number: int, pin: str, proof: Peer, turn: int) -> Action:
    return ask_for(
        f"{SERVER}/tool{number}",
        arguments(turn),
        action_id=secrets.token_hex(16),
        task=task,
        pin=pin,
        salt=secrets.token_bytes(16),
        at=parts.now(),
        proof=proof,
    )


def denied(parts: Parts) -> dict[str, float]:
    """A tool of another pin: the first refusal that there is, recorded."""
    table = handlers_blocking(parts, directory="/")
    times = []
    for turn in range(ROUNDS):
        start = time.perf_counter_ns()
        asked = question(parts, "none", 1, "sha256:0", Peer(os.getuid(), 0, SERVER), turn)
        if not isinstance(run(govern(asked), table), Deny):
            raise SystemExit("The benchmark's denial was none.")
        times.append(time.perf_counter_ns() - start)
    return {"p50_us": median(times), "p99_us": last(times)}


async def over_socket(home: Home, number: int) -> dict[str, float]:
    """Ask to permit, and performed to release, by one caller, one after the other."""
    reader, writer = await asyncio.open_unix_connection(str(home.socket))

    async def exchange(frame: dict[str, Any]) -> dict[str, Any]:
        writer.write(encode(frame))
        return decode(await reader.readexactly(length(await reader.readexactly(HEAD))))

    nonce = decode(await reader.readexactly(length(await reader.readexactly(HEAD))))["nonce"]
    hello = {"type": "hello", "protocol": PROTOCOL, "nonce": nonce, "kind": "agent", "server": SERVER}
    if (await exchange({**hello, "directory": work(home)}))["type"] != "welcome":
        raise SystemExit("The decision point did not welcome the benchmark.")
    ask = {"type": "ask", "tool": f"{SERVER}/tool{number}", "pin": definition_digest(SERVER, definition(number))}
    permits, reports = [], []
    for turn in range(ROUNDS):
        start = time.perf_counter_ns()
        permit = await exchange({**ask, "id": turn, "arguments": ARGUMENTS})
        permits.append(time.perf_counter_ns() - start)
        start = time.perf_counter_ns()
        report = {"type": "performed", "id": turn, "permit": permit["permit"]["id"], "fate": "done"}
        if (await exchange(report))["type"] != "release":
            raise SystemExit("The benchmark's output was withheld.")
        reports.append(time.perf_counter_ns() - start)
    writer.close()
    return {"permit_p50_us": median(permits), "permit_p99_us": last(permits), "release_p50_us": median(reports)}


def socket(home: Home) -> dict[str, Any]:
    start = time.perf_counter()
    ensure_running(home, START_MS)
    started = time.perf_counter() - start
    try:
        results: dict[str, Any] = {
            "start_ms": round(started * 1000, 1),
            "durable": asyncio.run(over_socket(home, 1)),
            "public_read": asyncio.run(over_socket(home, 0)),
        }
        pid = (home.run / "lock").read_text().strip()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        resident = next(line for line in status if line.startswith("VmRSS:"))
        return {**results, "resident_mb": round(int(resident.split()[1]) / 1024, 1)}
    finally:
        command = [sys.executable, "-m", "forestall.cli", "serve", "--stop", "--home", str(home.root)]
        subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)


def measure() -> dict[str, Any]:
    cases: dict[str, Callable[[Parts, Synced], dict[str, float]]] = {
        "durable": lambda parts, synced: in_process(parts, 1, synced),
        "public_read": lambda parts, synced: in_process(parts, 0, synced),
        "denied": lambda parts, _: denied(parts),
    }
    with tempfile.TemporaryDirectory(prefix="forestall-bench-") as scratch, timed_syncs() as synced:
        home = make_home(Path(scratch))
        parts = build(home)
        try:
            results: dict[str, Any] = {name: case(parts, synced) for name, case in cases.items()}
        finally:
            parts.close()
        return {**results, "socket": socket(home)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    args = parser.parse_args()
    results = measure()
    if args.json:
        print(json.dumps(results, indent=2))
        return
    for name, numbers in results.items():
        for what, value in numbers.items():
            print(f"{name:14}{what:24}{value}")


if __name__ == "__main__":
    main()
