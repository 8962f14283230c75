"""Sixty-four processes at one decision point, over HTTP: one ticket is one task, and one budget is spent once."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from forestall.agent.key import key_to_json, parse_key
from forestall.core.entry import Kind
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey
from tests import points
from tests.desk import CLIENTS, Agent, handing_on, opening, receiving, write_home
from tests.tokens import key

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROCESSES = 64

SETTINGS = """\
[serve]
decision_timeout_ms = 60000
[http]
listen = "127.0.0.1:0"
handshake_timeout_ms = 60000
request_timeout_ms = 60000
answer_timeout_ms = 60000
"""
"""All of them come at once, and each has all the time that a busy machine needs."""

RACE = """
import json, os, sys
from tests.flow.test_token_race import Elsewhere
plan = json.load(sys.stdin)
gate, release = os.pipe()
for form in plan["forms"]:
    if not os.fork():
        os.close(release)
        at = Elsewhere.of(plan)
        os.read(gate, 1)  # until the parent lets all of them go at once
        status, body = at.ask(form)
        os.write(1, (json.dumps([status, body.get("error", ""), body.get("reason", "")]) + "\\n").encode())
        os._exit(0)
os.close(release)
for _ in plan["forms"]:
    _, status = os.wait()
    assert status == 0, status
"""


@dataclass
class Elsewhere:
    """A workload that knows the service by its address alone."""

    url: str
    name: str
    signing: SigningKey
    holding: SigningKey

    @classmethod
    def of(cls, plan: dict[str, Any]) -> Elsewhere:
        path = Path("plan")
        return cls(plan["url"], plan["name"], parse_key(plan["signing"], path), parse_key(plan["holding"], path))

    def plan(self, forms: list[dict[str, str]]) -> str:
        signing, holding = key_to_json(self.signing), key_to_json(self.holding)
        return json.dumps({"url": self.url, "name": self.name, "signing": signing, "holding": holding, "forms": forms})

    def ask(self, form: dict[str, str], port: int = 0) -> tuple[int, dict[str, Any]]:
        """`port`: of this machine, where the service listens elsewhere than its name says."""

        class Now:
            now = time.time_ns() // 1_000_000

        agent = Agent(Now, self.name, self.signing, self.holding)  # type: ignore[arg-type]
        body = urlencode({**agent.assertion(audience=self.url), **form})
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "DPoP": agent.proof(url=f"{self.url}/token")["dpop"],
        }
        place = f"127.0.0.1:{port}" if port else urlsplit(self.url).netloc
        headers["Host"] = urlsplit(self.url).netloc
        connection = http.client.HTTPConnection(place, timeout=points.WAIT_S)
        try:
            connection.request("POST", "/token", body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def all_at_once(self, forms: list[dict[str, str]]) -> Counter[tuple[int, str, str]]:
        command = [sys.executable, "-c", RACE]
        done = subprocess.run(
            command, input=self.plan(forms), capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return Counter(tuple(json.loads(line)) for line in done.stdout.splitlines())


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[dict[str, Elsewhere]]:
    home = Home(tmp_path / "home")
    keys = write_home(home.root, CLIENTS)
    home.config.write_text(SETTINGS)
    with points.process(home) as started:
        points.wait_for_socket(home, started)
        with Connection(home.socket, points.WAIT_S) as connection:
            url = connection.ask("status")["http"]
        yield {name: Elsewhere(url, name, keys[name], key(Algorithm.ES256, name)) for name in keys}


def opened(home: Path) -> int:
    return points.kinds(Home(home)).count(Kind.OPENED)


def test_one_ticket_is_one_task_however_many_processes_show_it(agents: dict[str, Elsewhere], tmp_path: Path) -> None:
    a, b = agents["agent-a"], agents["agent-b"]
    _, root = a.ask(opening())
    _, ticket = a.ask(handing_on(root["access_token"], "agent-b"))
    counted = b.all_at_once([receiving(ticket["access_token"])] * PROCESSES)
    assert counted == {(200, "", ""): 1, (401, "invalid_client", ""): PROCESSES - 1}
    assert opened(tmp_path / "home") == 2


def test_one_budget_is_spent_once_however_many_processes_draw_on_it(
    agents: dict[str, Elsewhere], tmp_path: Path
) -> None:
    a, b = agents["agent-a"], agents["agent-b"]
    _, root = a.ask(opening())
    tickets = [a.ask(handing_on(root["access_token"], "agent-b"))[1]["access_token"] for _ in range(PROCESSES)]
    counted = b.all_at_once([receiving(ticket) for ticket in tickets])
    assert counted == {(200, "", ""): 3, (400, "access_denied", "budget"): PROCESSES - 3}
    assert opened(tmp_path / "home") == 4
