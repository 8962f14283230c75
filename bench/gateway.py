"""What the gateway adds to a `tools/call` on stdio: `python bench/gateway.py [--json] [--calls N]`.

Side by side in one run, on an idle machine: no gateway; a bare line relay; the gateway with its real decision point,
for an effect whose permit is synced to disk first, for one whose output also waits for the record of its outcome, and
for a declared public read, whose permit is not synced; a fastmcp proxy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forestall.core.pin import definition_digest
from forestall.home import Home

BENCH = Path(__file__).parent
SERVER = [sys.executable, str(BENCH / "gateway_server.py")]
RELAY = [sys.executable, str(BENCH / "gateway_relay.py")]
WIDTH = 16
WARM_UP = 50
ARGUMENTS = {"path": "notes/today.txt", "text": "a line of text"}
TARGETS = {"added median, durable": 1.0, "calls a second": 1000, "resident MB": 30, "start ms": 150}

DEFINITION = {
    "name": "work",
    "inputSchema": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
        "required": ["path", "text"],
    },
}


class Client:
    """Speaks to one server over pipes, with as little between as there can be."""

    def __init__(self, command: Sequence[str]) -> None:
        begin = time.perf_counter()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._buffer = b""
        info = {"name": "bench", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        self.write({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": params})
        self.read()
        self.start_ms = (time.perf_counter() - begin) * 1e3
        self.write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def write(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(self._in, data) :]

    def read(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            chunk = os.read(self._out, 65536)
            if not chunk:
                raise SystemExit("the server ended")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("error") or answer.get("result", {}).get("isError"):
            raise SystemExit(f"a call went wrong: {answer}")
        return answer

    def call(self, number: int) -> None:
        params = {"name": "work", "arguments": {**ARGUMENTS, "text": f"line {number}"}}
        self.write({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def close(self) -> None:
        for descriptor in (self.process.stdin, self.process.stdout):
            assert descriptor is not None
            descriptor.close()
        self.process.wait(20)


def measure(command: Sequence[str], calls: int) -> dict[str, float]:
    client = Client(command)
    try:
        for number in range(WARM_UP):
            client.call(number)
            client.read()
        times = []
        for number in range(calls):
            begin = time.perf_counter()
            client.call(number)
            client.read()
            times.append((time.perf_counter() - begin) * 1e3)
        begin = time.perf_counter()
        _at_once(client, calls)
        rate = calls / (time.perf_counter() - begin)
        return {
            "p50_ms": statistics.median(times),
            "p99_ms": statistics.quantiles(times, n=100)[98],
            "calls_per_s": rate,
            "start_ms": client.start_ms,
            "resident_mb": client.resident_mb(),
        }
    finally:
        client.close()


def _at_once(client: Client, calls: int) -> None:
    """`WIDTH` calls under way at any time."""
    for number in range(WIDTH):
        client.call(number)
    for number in range(WIDTH, calls):
        client.read()
        client.call(number)
    for _ in range(WIDTH):
        client.read()


MEASURED = "[budget]\nbytes = { total = 1000000000, call = 100000 }\n"
"""Has each output measured, which it has to wait for."""


@contextmanager
def home(*, durable: bool, waits: bool) -> Iterator[Home]:
    """With one tool: one that destroys, or a read that is declared public. `waits`: its output, for its outcome."""
    found = Home(Path(tempfile.mkdtemp(prefix="fb-")))
    output = '{ integrity = "trusted", confidentiality = "public" }'
    try:
        found.catalogue.mkdir()
        found.mandates.mkdir(parents=True)
        (found.policy / "all.cedar").write_text('@id("all") permit (principal, action, resource);\n')
        (found.mandates / "default.toml").write_text(
            'purpose = "bench"\ntools = ["*"]\neffects = ["read", "destructive"]\nlifetime_minutes = 60\n'
            + (MEASURED if waits else "")
        )
        (found.catalogue / "bench.json").write_text(json.dumps({"format": 1, "server": "bench", "tools": [DEFINITION]}))
        (found.catalogue / "bench.toml").write_text(
            'format = 1\nserver = "bench"\n[tools.work]\n'
            f'effects = ["{"destructive" if durable else "read"}"]\ncontrol = ["path"]\ncontent = ["text"]\n'
            f'output = {output}\nfrom = {{ effects = "declared", arguments = "declared", output = "declared" }}\n'
            f'pin = "{definition_digest("bench", DEFINITION)}"\n'
        )
        yield found
    finally:
        forestall("serve", "--home", str(found.root), "--stop")
        shutil.rmtree(found.root)


def forestall(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "forestall.cli", *words], capture_output=True, check=False, timeout=20)


def through_gateway(calls: int, *, durable: bool, waits: bool = False) -> dict[str, float]:
    with home(durable=durable, waits=waits) as found:
        command = [sys.executable, "-m", "forestall.cli", "gateway", "--home", str(found.root), "bench", "--", *SERVER]
        Client(command).close()  # the decision point starts
        return measure(command, calls)


def run(calls: int) -> dict[str, dict[str, float] | str]:
    rows: dict[str, dict[str, float] | str] = {
        "no gateway": measure(SERVER, calls),
        "bare line relay": measure([*RELAY, *SERVER], calls),
        "gateway, durable effect": through_gateway(calls, durable=True),
        "gateway, output waits": through_gateway(calls, durable=True, waits=True),
        "gateway, public read": through_gateway(calls, durable=False),
    }
    if importlib.util.find_spec("fastmcp") is None:
        rows["fastmcp proxy"] = "not measured: fastmcp is not installed (requirements/bench.txt)"
    else:
        rows["fastmcp proxy"] = measure([sys.executable, str(BENCH / "gateway_fastmcp.py"), *SERVER], calls // 4)
    return rows


def show(rows: dict[str, dict[str, float] | str]) -> None:
    base = rows["no gateway"]
    assert isinstance(base, dict)
    heads = ("p50 ms", "p99 ms", "added", f"{WIDTH} at once/s", "start ms", "MB")
    print(f"{'tools/call on stdio':26}" + "".join(map("{:>{}}".format, heads, (9, 9, 9, 14, 10, 7))))
    for name, row in rows.items():
        if isinstance(row, str):
            print(f"{name:26}{row}")
            continue
        added = row["p50_ms"] - base["p50_ms"]
        print(
            f"{name:26}{row['p50_ms']:9.3f}{row['p99_ms']:9.3f}{added:9.3f}{row['calls_per_s']:14.0f}"
            f"{row['start_ms']:10.0f}{row['resident_mb']:7.1f}"
        )
    print("start: from exec to the answer to initialize, the server's own start included; MB: of the process in front.")
    print("targets: " + ", ".join(f"{what} {limit:g}" for what, limit in TARGETS.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calls", type=int, default=2000)
    args = parser.parse_args()
    rows = run(args.calls)
    if args.json:
        print(json.dumps(rows))
    else:
        show(rows)


if __name__ == "__main__":
    main()
