"""What a verified identity costs: on the hot path, when a task is opened over the token service, and for a proof alone.

python bench/identity.py [--json]

Clients are registered, sign their assertions with Ed25519 and their proofs with ES256, as libraries mostly do. What
they make is made before the clock runs; over HTTP the agent's own work, its connection included, is in the time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from forestall.agent import Agent, RegisteredKey, new_key
from forestall.core.ask import FindGrant, Verify
from forestall.core.entry import Use
from forestall.core.grant import holder_objection
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.pep.start import ensure_running
from forestall.proof.algorithm import Algorithm
from forestall.proof.client_assertion import ASSERTION_TYPE, make_assertion
from forestall.proof.jwk import SigningKey, key_set
from forestall.proof.possession import SOCKET_METHOD, SOCKET_URL, make_proof, verify_proof
from forestall.proof.token import DETAIL_TYPE
from forestall.server.connection import Connection as Connected
from forestall.server.frames import Hello, Peering
from forestall.server.http.message import Request, Routes
from forestall.server.listening import prepare
from forestall.server.oauth.accept import accept_grant
from forestall.server.oauth.routes import routes
from forestall.server.point import Point
from forestall.wire import Parts, build

ROUNDS = 2_000
OPENED = 200
"""Tasks, each way. Each has a task's share of memory, and of the log."""
START_MS = 30_000
WAIT_S = 30.0
ISSUER = "https://forestall.example"
CLIENT = "agent"

IDENTITY = f"""\
[[trust_domains]]
name = "example.org"
tenant = "acme"

[[clients]]
id = "{CLIENT}"
trust_domain = "example.org"
jwks = "agent.jwks"
"""

POLICY = """\
permit (principal, action in Action::"read", resource);
permit (principal, action == Action::"forestall/open", resource)
when { context.assurance == "key" && context.args.mandate == "work" };
"""

MANDATE = """\
purpose = "Work on one order."
tools = ["shop/*"]
effects = ["read", "write"]
lifetime_minutes = 30
depth = 2
[parameters.order]
pattern = "[0-9]{4}"
[resources."shop/*"]
order = "{order}"
[budget]
read = 20
fan_out = 3
"""


def make_home(root: Path) -> tuple[Home, SigningKey]:
    """With one registered client, and its key."""
    home, key = Home(root / "home"), new_key()
    prepare(home)
    home.policy.mkdir()
    home.mandates.mkdir(exist_ok=True)
    (home.policy / "bench.cedar").write_text(POLICY)
    (home.mandates / "work.toml").write_text(MANDATE)
    home.config.write_text('[http]\nlisten = "127.0.0.1:0"\n')
    (home.root / "identity.toml").write_text(IDENTITY)
    (home.root / "agent.jwks").write_text(json.dumps(key_set([key]).to_json()))
    return home, key


def median(times: list[int]) -> float:
    return round(sorted(times)[len(times) // 2] / 1000, 2)


def last(times: list[int]) -> float:
    return round(sorted(times)[len(times) * 99 // 100] / 1000, 2)


@dataclass(frozen=True)
class Client:
    """What it asks the token service for: signed by one key, and bound to another."""

    signing: SigningKey
    holding: SigningKey = field(default_factory=lambda: new_key(Algorithm.ES256))

    def opening(self, now: int) -> Request:
        jti = secrets.token_hex(16)
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": make_assertion(self.signing, client=CLIENT, audience=ISSUER, now=now, jti=jti),
            "authorization_details": json.dumps(
                [{"type": DETAIL_TYPE, "mandate": "work", "parameters": {"order": "4711"}}]
            ),
        }
        headers = {"content-type": "application/x-www-form-urlencoded", "dpop": self.proof("POST", "/token", now)}
        return Request("POST", "/token", "", headers, urlencode(form).encode(), f"{ISSUER}/token")

    def proof(self, method: str, path: str, now: int, token: str | None = None) -> str:
        jti = secrets.token_hex(16)
        return make_proof(
            self.holding, method=method, url=ISSUER + path, now=now, jti=jti, access_token=token, nonce=None
        )


async def open_one(served: Routes, client: Client, now: int) -> tuple[int, Mapping[str, Any]]:
    """How long it took, in nanoseconds, and what was answered."""
    asked = client.opening(now)
    start = time.perf_counter_ns()
    answer = await served["POST", "/token"](asked)
    took = time.perf_counter_ns() - start
    said = json.loads(answer.body)
    if answer.status != 200:
        raise SystemExit(f"The benchmark's task was not opened: {said}.")
    return took, said


def opening(parts: Parts, client: Client) -> dict[str, float]:
    async def all_of_them() -> list[int]:
        served = routes(parts)
        return [(await open_one(served, client, parts.now()))[0] for _ in range(OPENED)]

    times = asyncio.run(all_of_them())
    return {"p50_ms": round(median(times) / 1000, 3), "p99_ms": round(last(times) / 1000, 3)}


def over_http(root: Path) -> dict[str, float]:
    """The same of a decision point in a process of its own, by the agent's own library."""
    home, key = make_home(root)
    ensure_running(home, START_MS)
    try:
        with Connection(home.socket, WAIT_S) as connection:
            url = connection.ask("status")["http"]
        agent, times = Agent(url, RegisteredKey(CLIENT, key)), []
        for _ in range(OPENED):
            start = time.perf_counter_ns()
            agent.open("work", parameters={"order": "4711"})
            times.append(time.perf_counter_ns() - start)
    finally:
        command = [sys.executable, "-m", "forestall.cli", "serve", "--stop", "--home", str(home.root)]
        subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)
    return {"p50_ms": round(median(times) / 1000, 3), "p99_ms": round(last(times) / 1000, 3)}


def hot_path(parts: Parts, client: Client) -> dict[str, float]:
    """Who a connection is and what its task may, as each of its calls asks: of a task that is bound to a key."""

    async def measured() -> list[int]:
        _, said = await open_one(routes(parts), client, parts.now())
        connection = Connected(Point(parts))
        nonce, at = secrets.token_urlsafe(24), parts.now()
        shown = make_proof(
            client.holding,
            method=SOCKET_METHOD,
            url=SOCKET_URL,
            now=at,
            jti=secrets.token_hex(16),
            access_token=said["access_token"],
            nonce=nonce,
        )
        connection.grant, connection.subject = accept_grant(parts, said["access_token"], shown, nonce, at)
        connection.hello = Hello(Peering.GATEWAY, nonce, "shop", "/")
        table, peer, task = connection.answers.handlers(), connection.peer, connection.grant.task
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter_ns()
            subject = table[Verify](Verify(peer))
            against = holder_objection(table[FindGrant](FindGrant(task)), subject, at)
            times.append(time.perf_counter_ns() - start)
            if against is not None:
                raise SystemExit(f"The benchmark's holder was refused: {against}.")
        return times

    times = asyncio.run(measured())
    return {"p50_us": median(times), "p99_us": last(times)}


def proof(parts: Parts, client: Client, algorithm: Algorithm) -> dict[str, float]:
    """That a remote call is made by who holds the key, for this call, and for the first time."""
    client = replace(client, holding=new_key(algorithm))
    token, method, path = "a" * 1_500, "POST", "/mcp"
    times = []
    for _ in range(ROUNDS):
        now = parts.now()
        shown = client.proof(method, path, now, token)
        start = time.perf_counter_ns()
        found = verify_proof(shown, method=method, url=ISSUER + path, now=now, access_token=token, nonces=None)
        parts.state.used.claim([Use(found.once.id, CLIENT, found.once.until)], now)
        times.append(time.perf_counter_ns() - start)
    return {"p50_us": median(times), "p99_us": last(times)}


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="forestall-bench-") as scratch:
        home, key = make_home(Path(scratch))
        parts, client = build(home), Client(key)
        parts.called(ISSUER)
        try:
            results: dict[str, Any] = {
                "hot path": hot_path(parts, client),
                "open": opening(parts, client),
                "proof, ES256": proof(parts, client, Algorithm.ES256),
                "proof, Ed25519": proof(parts, client, Algorithm.EDDSA),
            }
        finally:
            parts.close()
    with tempfile.TemporaryDirectory(prefix="forestall-bench-") as scratch:
        return {**results, "open over HTTP": over_http(Path(scratch))}


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
            print(f"{name:20}{what:12}{value}")


if __name__ == "__main__":
    main()
