"""A recorded conversation of every MCP feature, direct and through the gateway with a permit-all policy.

Stdio has no conformance suite, so this is ours: what the client sends and sees is equal byte for byte, and so is what
the server sends and sees, except that a `tools/call` is written anew (with the same value), that its answer waits for
its record (so notifications may pass it), and that the gateway lists the tools itself when they have changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from forestall.home import Home
from tests.mcpkit.home import home_of
from tests.mcpkit.session import PLAIN, Session, gateway

KIT = Path(__file__).parents[2] / "mcpkit"
FULL = [sys.executable, str(KIT / "full_server.py")]

one_recording = pytest.mark.xdist_group("transcript")
"""Each is made once, and looked at by several tests."""


def tee(log: Path, command: Sequence[str]) -> list[str]:
    return [sys.executable, str(KIT / "tee.py"), str(log), *command]


def lines(log: Path, direction: str) -> list[bytes]:
    return Path(f"{log}.{direction}").read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with home_of({"full": FULL}) as home:
        yield home


@pytest.fixture(scope="module")
def plain_home() -> Iterator[Home]:
    with home_of({"plain": PLAIN}) as home:
        yield home


@pytest.fixture(scope="module", params=["legacy", "auto", "2026-07-28"])
def recorded(request: pytest.FixtureRequest, home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    direct, outside, inside = folder / "direct", folder / "outside", folder / "inside"
    through = gateway(home.root, tee(inside, FULL), name="full")
    for command in (tee(direct, FULL), tee(outside, through)):
        script = [sys.executable, str(KIT / "conversation.py"), request.param, *command]
        done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
        assert (done.stderr, done.returncode) == ("", 0)
        assert done.stdout.strip() == ("2025-11-25" if request.param == "legacy" else "2026-07-28")
    return folder


@one_recording
def test_the_client_sends_and_sees_the_same_bytes(recorded: Path) -> None:
    for direction in ("in", "out"):
        direct, outside = lines(recorded / "direct", direction), lines(recorded / "outside", direction)
        assert len(direct) > 20
        assert in_order(outside) == in_order(direct)


@one_recording
def test_the_server_sees_the_same_and_calls_of_the_same_value(recorded: Path) -> None:
    direct = lines(recorded / "direct", "in")
    inside = [line for line in lines(recorded / "inside", "in") if not is_own(line)]
    calls, rest = by_whether_decided(inside)
    expected_calls, expected_rest = by_whether_decided(direct)
    assert rest == expected_rest
    assert [json.loads(line) for line in calls] == [json.loads(line) for line in expected_calls]


def by_whether_decided(lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Calls, and everything else: a call waits for its permit, and later messages pass it."""
    calls = [line for line in lines if json.loads(line).get("method") == "tools/call"]
    return calls, [line for line in lines if line not in calls]


@one_recording
def test_what_the_server_sends_is_what_the_client_sees(recorded: Path) -> None:
    sent = [line for line in lines(recorded / "inside", "out") if not is_own(line)]
    assert in_order(sent) == in_order(lines(recorded / "outside", "out"))


def in_order(lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Answers, and everything else: an answer that waits for its record lets later notifications pass."""
    answers = [line for line in lines if "method" not in json.loads(line)]
    return answers, [line for line in lines if "method" in json.loads(line)]


def is_own(line: bytes) -> bool:
    return str(json.loads(line).get("id")).startswith("forestall-")


# -- what the SDK does not say


def odd_conversation(version: str) -> Iterator[tuple[bytes, int]]:
    """Lines, and how many answers each brings: tasks, unusual spelling, ids of every form."""

    def message(**members: Any) -> bytes:
        return json.dumps({"jsonrpc": "2.0", **members}).encode()

    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "odd", "version": "0"}}
    yield message(id=0, method="initialize", params=params), 1
    yield message(method="notifications/initialized"), 0
    yield message(id=-1, method="tools/list"), 1
    yield b'  { "method":"ping","id" : "\\u00e9/1", "jsonrpc":"2.0" } \r', 1
    yield b'{"id":"b","jsonrpc":"2.0","method":"resources/read","params":{"uri":"a:b","n":1.50e+3,"N\\u0061":[]}}', 1
    yield message(id="c", method="prompts/get", params={"name": "x", "_meta": {"progressToken": "t"}}), 1
    yield message(id="d", method="tools/call", params={"name": "echo", "arguments": {"a": 1}}), 1
    yield message(id="e", method="tools/call", params={"name": "fail"}), 1
    yield message(id="f", method="tools/call", params={"name": "error", "arguments": None}), 1
    yield message(id="g", method="tools/call", params={"name": "progress", "_meta": {"progressToken": 7}}), 4
    yield message(id="h", method="tools/call", params={"name": "big_int"}), 1


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_odd_but_good_lines_are_answered_the_same(plain_home: Home, version: str) -> None:
    answers = []
    for command in (PLAIN, gateway(plain_home.root)):
        with Session(command) as client:
            seen = []
            for line, count in odd_conversation(version):
                client.write(line)
                seen += [client.line() for _ in range(count)]
            answers.append(seen)
            assert client.end() == (0, "")
    assert answers[0] == answers[1]


def test_tasks_are_relayed(plain_home: Home, tmp_path: Path) -> None:
    task = {"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": {"taskId": "1", "status": "working"}}
    asked = [{"jsonrpc": "2.0", "id": n, "method": m, "params": {"taskId": "1"}} for n, m in enumerate(TASKS)]
    with Session(gateway(plain_home.root), SEEN=str(tmp_path / "seen")) as client:
        client.initialize()
        for message in (task, *asked):
            client.send(message)
        client.call("last", "echo")
        client.answer_to("last")
        client.end()
    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert seen[1:] == [task, *asked]


TASKS = ["tasks/get", "tasks/result", "tasks/list", "tasks/cancel"]


def test_a_batch_gets_the_same_answers(plain_home: Home) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": 2}}},
    ]
    with Session(PLAIN) as direct, Session(gateway(plain_home.root)) as through:
        for client in (direct, through):
            client.initialize("2025-03-26")
            client.send(batch)
        expected = {1: direct.answer_to(1), 2: direct.answer_to(2)}
        assert {answer["id"]: answer for answer in through.read()} == expected
