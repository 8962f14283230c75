"""How fast a kill is kept by everybody: 100 enforcement points, each a process of its own, connected and calling.

python bench/revocation.py [--json]

They are light: they speak to the decision point through the gateway's own client (`forestall.pep.client`), ask for a
call every so often, and count it as started when the permit is there. They guard no server; a gateway confirms a kill
once its server is gone, which takes as long as that server takes to end. All times are of one clock of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.core.pin import definition_digest
from forestall.frame import encode
from forestall.home import Home
from forestall.pep.blocking import Connection as Command
from forestall.pep.client import Connection, connect
from forestall.pep.start import ensure_running
from forestall.server.listening import prepare

POINTS = 100
ROUNDS = 20
CALL_EVERY_S = 0.25
"""Between two calls of one enforcement point: some hundred calls a second of all of them."""
SETTLE_S = 0.5
"""That all of them call before the next kill."""
START_MS = 30_000
WAIT_S = 60.0
SERVER = "files"
DEFINITION = {
    "name": "write",
    "description": "Writes.",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
}
CATALOGUE = f"""\
format = 1
server = "{SERVER}"
about = "for measuring"
[tools.write]
effects = ["write"]
control = ["n"]
content = []
output = {{ integrity = "trusted", confidentiality = "internal" }}
from = {{ effects = "declared", arguments = "declared", output = "declared" }}
pin = "{definition_digest(SERVER, DEFINITION)}"
"""


@dataclass(frozen=True, slots=True)
class Round:
    """Nanoseconds after the order was sent."""

    acknowledged: int
    refused: tuple[int, ...]
    last_start: int


def make_home(root: Path) -> Home:
    home = Home(root / "home")
    prepare(home)
    home.config.write_text(f"[serve]\nmax_connections = {4 * POINTS}\n")
    home.policy.mkdir()
    (home.policy / "bench.cedar").write_text('permit (principal, action in Action::"write", resource);\n')
    home.catalogue.mkdir()
    (home.catalogue / f"{SERVER}.toml").write_text(CATALOGUE)
    tools = {"format": 1, "server": SERVER, "tools": [DEFINITION]}
    (home.catalogue / f"{SERVER}.json").write_text(json.dumps(tools))
    return home


# -- an enforcement point


class Point:
    """Calls until its task is ended; says when that was, and when it started something last."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._calls = 0
        self._started = 0
        self._ended: asyncio.Future[int] | None = None
        self._connection: Connection | None = None

    async def until_ended(self, socket: Path) -> tuple[int, int]:
        if self._connection is not None:
            self._connection.on_lost = lambda: None
            self._connection.close()  # only now: what is closed with something unread may lose what it said last
        self._ended = asyncio.get_running_loop().create_future()
        hello = {"kind": "gateway", "server": SERVER, "directory": "/"}
        self._connection = connection = await connect(socket, hello)
        connection.on_frame, connection.on_lost = self._frame, self._lost
        tell("ready")
        await asyncio.sleep(CALL_EVERY_S * self._number / POINTS)
        while not self._ended.done():
            self._calls += 1
            call = {"type": "ask", "id": self._calls, "tool": f"{SERVER}/write", "arguments": {"n": self._calls}}
            connection.send(encode({**call, "pin": definition_digest(SERVER, DEFINITION)}))
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._ended), CALL_EVERY_S)
        return self._ended.result(), self._started

    def _frame(self, frame: dict[str, Any]) -> None:
        now = time.monotonic_ns()
        assert self._ended is not None
        assert self._connection is not None
        if frame["type"] == "revoked":
            self._ended.set_result(now)
            self._connection.send(encode({"type": "confirmed", "epoch": frame["epoch"]}))
        elif frame["type"] == "permit" and not self._ended.done():
            self._started = now
            report = {"type": "performed", "id": -frame["id"], "permit": frame["permit"]["id"], "fate": "done"}
            self._connection.send(encode(report))

    def _lost(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(RuntimeError("the connection was lost"))


def tell(word: str) -> None:
    os.write(1, f"{word}\n".encode())


async def play(number: int, socket: Path, orders: int) -> None:
    """Between two rounds it stands still."""
    with os.fdopen(orders) as lines:
        point = Point(number)
        for _ in lines:
            refused, started = await point.until_ended(socket)
            tell(f"{refused} {started}")


def child(number: int, socket: Path, orders: int, answers: int) -> None:
    """A line comes for each round; at the end there is none. Never returns."""
    code = 1
    try:
        os.dup2(answers, 1)
        asyncio.run(play(number, socket, orders))
        code = 0
    except BaseException:  # noqa: BLE001 - a fork goes no further than this
        traceback.print_exc()
    finally:
        os._exit(code)


class Points:
    """The other end of their pipes."""

    def __init__(self, socket: Path) -> None:
        self._pids: list[int] = []
        self._orders: list[int] = []
        self._answers: list[Any] = []
        for number in range(POINTS):
            (orders, give), (take, answers) = os.pipe(), os.pipe()
            pid = os.fork()
            if not pid:
                for descriptor in (give, take, *self._orders):
                    os.close(descriptor)
                child(number, socket, orders, answers)
            os.close(orders)
            os.close(answers)
            self._pids.append(pid)
            self._orders.append(give)
            self._answers.append(os.fdopen(take))

    def begin(self) -> None:
        for orders in self._orders:
            os.write(orders, b"go\n")
        for answers in self._answers:
            if answers.readline() != "ready\n":
                raise SystemExit("An enforcement point of the benchmark did not get ready.")

    def ended(self) -> Iterator[tuple[int, int]]:
        for answers in self._answers:
            refused, started = answers.readline().split()
            yield int(refused), int(started)

    def close(self) -> None:
        for descriptor in self._orders:
            os.close(descriptor)
        for pid in self._pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


# -- measuring


def one_round(points: Points, socket: Path) -> Round:
    points.begin()
    time.sleep(SETTLE_S)
    with Command(socket, WAIT_S) as command:
        sent = time.monotonic_ns()
        done = command.ask("order", order="kill", reach="everything", why="measured")
        acknowledged = time.monotonic_ns()
        if done["confirmed"] != POINTS:
            raise SystemExit(f"{done['confirmed']} of {POINTS} confirmed; the machine is too busy to measure.")
        ended = list(points.ended())
        command.ask("order", order="resume", reach="everything", why="measured")
    refused = tuple(sorted(at - sent for at, _ in ended))
    return Round(acknowledged - sent, refused, max(started for _, started in ended) - sent)


@contextmanager
def serving(home: Home) -> Iterator[None]:
    ensure_running(home, START_MS)
    try:
        yield
    finally:
        with Command(home.socket, WAIT_S) as command:
            command.ask("stop")


def percentile(values: Iterable[int], part: float) -> float:
    """In milliseconds."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1e6, 2)


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="forestall-bench-") as scratch:
        home = make_home(Path(scratch))
        with serving(home):
            points = Points(home.socket)
            try:
                rounds = [one_round(points, home.socket) for _ in range(ROUNDS)]
            finally:
                points.close()
    refused = [at for one in rounds for at in one.refused]
    late = [max(0, at - one.acknowledged) for one in rounds for at in one.refused]
    starts = [max(0, one.last_start - one.acknowledged) for one in rounds]
    acknowledged = [one.acknowledged for one in rounds]
    return {
        "points": POINTS,
        "rounds": ROUNDS,
        "order to refusal": {"p50_ms": percentile(refused, 0.5), "p99_ms": percentile(refused, 0.99)},
        "order to acknowledgement": {"p50_ms": percentile(acknowledged, 0.5), "p99_ms": percentile(acknowledged, 0.99)},
        "acknowledgement to refusal": {"p99_ms": percentile(late, 0.99)},
        "acknowledgement to last start": {"most_ms": percentile(starts, 1.0)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    args = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    results = measure()
    if args.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    for name, value in results.items():
        print(f"{name:32}{value}")


if __name__ == "__main__":
    main()
