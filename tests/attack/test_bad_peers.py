"""Servers and clients that misbehave, at the real gateway with the real decision point: no effect without a permit.

What the gateway does with each line is tested in `tests/unit/pep`; here, that nothing else comes of it.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from forestall.policy.schema import METHOD_TOOL
from tests.attack.scratch import Scratch, answers, call
from tests.mcpkit.session import Session, decision, gateway

UNKNOWN = "outcome_unknown"

pytestmark = pytest.mark.slow


def settled(scratch: Scratch) -> list[str]:
    """The fates of all permits; fails where a permit has none, or where what arrived had no permit."""
    entries = scratch.entries()
    permits = [entry["id"] for entry in entries if entry["kind"] == "permitted" and entry["tool"] != METHOD_TOOL.id]
    fates = {entry["id"]: entry["fate"] for entry in entries if entry["kind"] == "settled"}
    assert len(scratch.reached()) <= len(permits)
    return [fates[permit] for permit in permits]


# -- a server that does not start


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["no-such-server"], 127, "No such file or directory"),
        (["/nonexistent/server"], 127, "No such file or directory"),
        (["/etc/passwd"], 126, "Permission denied"),
        (["/etc"], 126, "Permission denied"),
    ],
)
def test_a_server_that_cannot_be_started_is_one_sentence(
    scratch: Scratch, command: list[str], code: int, says: str
) -> None:
    said = scratch.gateway(call(1), server=command)
    assert (said.code, said.out) == (code, "")
    assert said.sentence() == (
        f"The server's command {command[0]!r} cannot be started: {says}; check it, and the search path."
    )


def test_a_server_that_ends_at_once_speaks_for_itself(scratch: Scratch) -> None:
    said = scratch.gateway(call(1), server=["sh", "-c", "echo no database >&2; exit 4"])
    assert (said.code, said.err) == (4, "no database\n")
    assert all("isError" in answer.get("result", {}) or "error" in answer for answer in answers(said).values())
    scratch.end()
    assert settled(scratch) == []


# -- a server that is none, hangs, dies, floods, answers what nobody asked

NOT_MCP = {
    "it says nothing": "import sys; sys.stdin.read()",
    "it talks without end": "import sys; print('y\\n' * 500_000); sys.stdin.read()",
    "it repeats what it hears": "import sys\nfor line in sys.stdin: print(line, end='', flush=True)",
    "it sends binary": "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000); sys.stdin.read()",
    "it sends half a message": "import sys; print('{\"jsonrpc\":\"2.0\",', end='', flush=True); sys.stdin.read()",
}


HASTE = """
import sys
from forestall.pep.mcp import stage
stage.ANSWER_WITHIN_MS = 500
from forestall.cli import main
raise SystemExit(main(sys.argv[1:]))
"""
IMPATIENT = [sys.executable, "-c", HASTE]
"""The gateway with half a second, in place of half a minute, for a server that does not list its tools."""


@pytest.mark.parametrize("case", NOT_MCP)
def test_what_is_no_server_gets_no_call(scratch: Scratch, case: str) -> None:
    """It lists no tools, so that no call can be decided; when the client leaves, it ends."""
    said = scratch.gateway(call(1), server=[sys.executable, "-c", NOT_MCP[case]], program=IMPATIENT)
    assert said.code == 0
    told = decision(answers(said)[1])
    assert told["reason"] == "deadline"
    assert told["sentence"] == "The server's list of tools, or the decision, took too long. Nothing was done."
    scratch.end()
    assert settled(scratch) == []


@pytest.mark.parametrize(
    ("tool", "code", "fate", "says"),
    [
        ("die", 1, "ambiguous", ""),
        ("exit3", 3, "ambiguous", ""),
        ("crash", -11, "ambiguous", ""),
        ("garbage", 0, "ambiguous", "A message from the server was dropped: The message is not JSON"),
        ("duplicate", 0, "ambiguous", "A message from the server was dropped: A member occurs twice"),
        ("too_long", 0, "ambiguous", "A message from the server was dropped: it is longer than"),
        ("noise", 0, "done", "The server wrote what is no message to its output; such lines are dropped."),
        ("flood", 0, "done", ""),
        ("wrong_id", 0, "done", "The server answered a request that does not wait for an answer; it was dropped."),
        ("twice", 0, "done", "The server answered a request that does not wait for an answer; it was dropped."),
    ],
)
def test_whatever_a_server_does_in_a_call_its_permit_is_settled_and_said(
    scratch: Scratch, tool: str, code: int, fate: str, says: str
) -> None:
    said = scratch.gateway(call(1, tool))
    assert said.code == code
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) == bool(says)
    assert said.err.startswith(f"forestall: {says}" if says else "")
    mine = [line for line in said.out.splitlines() if '"id":1,' in line.replace(" ", "")]
    assert len(mine) == 1, "one answer for one call"
    if fate == "ambiguous":
        assert decision(answers(said)[1])["reason"] == UNKNOWN
    scratch.end()
    assert settled(scratch) == [fate]
    assert scratch.verify().code == 0


def test_a_server_that_hangs_in_a_call_leaves_it_ambiguous_when_the_client_leaves(scratch: Scratch) -> None:
    with Session(gateway(scratch.home.root)) as client:
        client.initialize()
        client.call(1, "slow")
        client.call(2, "echo")
        assert "isError" not in client.answer_to(2)["result"]
        assert client.end()[0] == 0
        assert decision(client.answer_to(1))["reason"] == UNKNOWN
    scratch.end()
    assert sorted(settled(scratch)) == ["ambiguous", "done"]


# -- a client that sends what is no message, or what is no call

NO_CALLS: dict[str, object] = {
    "no JSON": b"hello",
    "half a message": b'{"jsonrpc":"2.0","id":1,',
    "binary": b"\xff\xfe\x00",
    "an empty line": b"",
    "a member twice": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{"name":"echo"}}',
    "an array": b"[]",
    "another version": {"jsonrpc": "1.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}},
    "no id": {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "echo"}},
    "null for an id": {"jsonrpc": "2.0", "id": None, "method": "tools/call", "params": {"name": "echo"}},
    "a list for an id": {"jsonrpc": "2.0", "id": [1], "method": "tools/call", "params": {"name": "echo"}},
    "an answer to nothing": {"jsonrpc": "2.0", "id": 77, "result": {}},
    "a list of arguments": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": [1]},
    },
    "no params": {"jsonrpc": "2.0", "id": 1, "method": "tools/call"},
    "no name": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"arguments": {}}},
    "an unknown member": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "x": 1}},
    "an unknown tool": call(1, "ehco"),
    "an unknown argument": call(1, "echo", zz=1),
    "an argument of another type": call(1, "echo", a="one"),
    "too deep": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":'
    + b"[" * 200
    + b"]" * 200
    + b"}}}",
    "too long": call(1, "echo", to="x" * 5_000_000),
    "another case": {"jsonrpc": "2.0", "id": 1, "method": "Tools/Call", "params": {"name": "echo"}},
}


@pytest.mark.parametrize("case", NO_CALLS)
def test_what_is_no_good_call_reaches_nobody(scratch: Scratch, case: str) -> None:
    said = scratch.gateway(NO_CALLS[case])
    assert said.code == 0
    assert len(said.err.splitlines()) <= 1
    assert said.err == "" or said.sentence()
    for answer in (answer for answer in answers(said).values() if answer["id"] != "init"):
        told = answer["error"] if "error" in answer else decision(answer)
        assert told.get("message") or told["sentence"]
    assert scratch.reached() == []
    scratch.end()
    assert settled(scratch) == []


def test_a_client_that_uses_an_id_twice_gets_one_call(scratch: Scratch) -> None:
    said = scratch.gateway(call(1, a=1), call(1, a=2))
    assert said.code == 0
    assert said.sentence() == "The client used the id of a request that still waits; it was refused."
    assert scratch.reached() == [{"a": 1}]


def test_a_client_that_ends_in_the_middle_of_a_call_gets_none(scratch: Scratch) -> None:
    half = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ec'
    said = scratch.gateway(half, end=b"")
    assert (said.code, said.sentence()) == (0, "The client ended in the middle of a message; it was not passed on.")
    assert scratch.reached() == []


def test_a_flood_of_calls_is_each_decided_once_or_denied(scratch: Scratch) -> None:
    count = 500
    said = scratch.gateway(*(call(number, a=number) for number in range(count)))
    assert said.code == 0
    told = answers(said)
    assert len(told) == count + 1
    done = [number for number in range(count) if not is_refused(told[number])]
    assert sorted(arguments["a"] for arguments in scratch.reached()) == done
    scratch.end()
    assert settled(scratch) == ["done"] * len(done)
    assert scratch.verify().code == 0


def is_refused(answer: dict[str, Any]) -> bool:
    return "error" in answer or bool(answer["result"].get("isError"))


def test_a_client_that_does_not_read_holds_nobody_up_for_ever(scratch: Scratch) -> None:
    """It sends, and never takes an answer: the gateway ends with it, and every permit is settled."""
    with Session(gateway(scratch.home.root)) as client:
        client.initialize()
        for number in range(20):  # tens of megabytes, which nothing on the way could hold
            client.call(number, "flood", count=2000)
        client.process.stdout.close()
        client.process.stdin.close()
        client.process.wait(60)
    scratch.end()
    assert set(settled(scratch)) <= {"done", "ambiguous", "not_started"}
    assert scratch.verify().code == 0
