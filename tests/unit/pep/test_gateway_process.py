"""The gateway as a process: real pipes, real signals, a real socket, a scripted decision point at its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forestall.agent.held import Held
from forestall.agent.key import new_key
from forestall.frame import encode
from forestall.proof.possession import SOCKET_METHOD, SOCKET_URL, verify_proof
from tests import tokens
from tests.mcpkit.decision_point import CANARY, DecisionPoint, Frame, deny, permit, permit_all
from tests.mcpkit.session import PLAIN, WITHIN_S, Session, decision, gateway
from tests.points import until
from tests.processes import of_group

BAD_ANSWERS = ["garbage", "duplicate", "too_long"]


def child_of(process: int) -> int:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(children[0])


def test_a_call_goes_through_and_is_reported(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, "echo", a=[1, 2.5, "ü"])
        assert client.answer_to(1)["result"]["content"][0]["text"] == '{"a": [1, 2.5, "\\u00fc"]}'
        assert client.end()[0] == 0
    assert [f["fate"] for f in scripted.of_type("performed")] == ["done"]
    assert scripted.of_type("client")[0]["client"] == {"name": "test-client", "version": "1.0"}


@pytest.mark.parametrize("unheard", [True, False])
def test_an_output_waits_while_it_has_not_heard_all_of_the_decision_point(
    gateway_home: Path, scripted: DecisionPoint, unheard: bool
) -> None:
    more = encode({"type": "heartbeat"})

    def answer(frame: Frame) -> Frame | None:
        if frame["type"] == "ask" and not frame["tool"].endswith(CANARY):
            begun = more[:-1] if unheard else b""
            granted = {"id": frame["id"], **permit(frame, release="at_once")}
            scripted._connections[-1].sendall(encode(granted) + begun)
            return None
        if frame["type"] == "performed" and unheard:
            scripted._connections[-1].sendall(more[-1:])
        return permit_all(frame)

    scripted.answer = answer
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, "echo")
        assert "isError" not in client.answer_to(1)["result"]
        assert client.end()[0] == 0
    assert ["released" in report for report in scripted.wait_for("performed")] == [not unheard]


def test_nothing_heavy_is_imported_and_the_process_stays_small(gateway_home: Path, scripted: DecisionPoint) -> None:
    probe = (
        "import sys, atexit, forestall.cli as c\n"
        "def show():\n"
        "    heavy = {'cedarpy', 'cryptography', 'tomlkit', 'sqlite3', 'mcp', 'pydantic', 'http', 'logging.config'}\n"
        "    heavy |= {'forestall.core.model'}\n"
        "    print('HEAVY', sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "atexit.register(show)\n"
        "raise SystemExit(c.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", probe, *gateway(gateway_home)[3:]]
    with Session(command) as client:
        client.initialize()
        client.call(1, "echo")
        client.answer_to(1)
        peak = Path(f"/proc/{client.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        status, said = client.end()
    assert (status, said) == (0, "HEAVY []\n")
    assert int(peak) <= 30 * 1024, "KB; the issue allows 30 MB"


# -- in a task that was opened elsewhere


@pytest.fixture
def held(gateway_home: Path) -> Held:
    found = Held(tokens.token({"task": "t", "exp": tokens.SECONDS}, tokens.key()), new_key())
    found.write(gateway_home / "grant.json")
    return found


def granted(gateway_home: Path, *more: str) -> list[str]:
    return gateway(gateway_home, PLAIN, "--grant", str(gateway_home / "grant.json"), *more)


def test_a_grant_is_proved_anew_on_each_connection(gateway_home: Path, scripted: DecisionPoint, held: Held) -> None:
    assert held.key is not None
    with Session(granted(gateway_home)) as client:
        client.initialize()
        scripted.challenge = {**scripted.challenge, "nonce": "nonce-2"}
        scripted.drop()
        client.call(1, "echo")
        assert "isError" not in client.answer_to(1)["result"]
        status, said = client.end()
    assert status == 0
    assert held.token not in said
    for hello, nonce in zip(scripted.of_type("hello"), ("nonce-1", "nonce-2"), strict=True):
        assert hello["grant"] == held.token
        proof = verify_proof(
            hello["proof"],
            method=SOCKET_METHOD,
            url=SOCKET_URL,
            now=time.time_ns() // 1_000_000,
            access_token=held.token,
            nonces=frozenset({nonce}),
        )
        assert proof.thumbprint == held.key.public.thumbprint


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.chmod(0o640), "Others can read"),
        (lambda file: file.write_text("{}"), "no grant file"),
        (lambda file: file.write_text("x" * 70_000), "at most 65536 bytes"),
        (lambda file: file.unlink(), "cannot be read"),
        (lambda file: Held(Held.read(file).token, None).write(file), "bound to a client certificate"),
        pytest.param(
            lambda file: os.chown(file, 65534, -1),
            "belongs to another user",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away"),
        ),
    ],
)
def test_a_grant_file_that_is_not_ours_alone_or_none_is_refused(
    gateway_home: Path, scripted: DecisionPoint, held: Held, harm: Callable[[Path], Any], said: str
) -> None:
    harm(gateway_home / "grant.json")
    with Session(granted(gateway_home)) as client:
        status, told = client.end()
    assert status == 78
    assert said in told
    assert held.token not in told
    assert scripted.frames == []


def test_a_grant_has_its_mandate(gateway_home: Path, scripted: DecisionPoint, held: Held) -> None:
    with Session(granted(gateway_home, "--mandate", "default")) as client:
        status, told = client.end()
    assert status == 2
    assert "--grant or --mandate" in told
    assert scripted.frames == []


# -- starting


def test_without_a_decision_point_it_does_not_start(gateway_home: Path) -> None:
    (gateway_home / "forestall.toml").write_text("[serve]\nsocket = 'nowhere/socket'\n[unknown]\n")
    with Session(gateway(gateway_home)) as client:
        status, said = client.end()
    assert status == 78
    assert "forestall.toml" in said


@pytest.mark.parametrize(
    ("command", "status"), [(["/nonexistent/server"], 127), (["no-such-command-here"], 127), (["/etc/passwd"], 126)]
)
def test_a_server_that_does_not_start(
    gateway_home: Path, scripted: DecisionPoint, command: list[str], status: int
) -> None:
    with Session(gateway(gateway_home, command)) as client:
        ended, said = client.end()
    assert ended == status
    assert said.count("\n") == 1
    assert command[0] in said


def test_a_command_line_without_a_server(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home, [])) as client:
        status, said = client.end()
    assert (status, "Name the server's command" in said) == (2, True)


def test_an_option_after_the_name_is_not_taken_for_a_command(gateway_home: Path, scripted: DecisionPoint) -> None:
    command = gateway(gateway_home, ["cat"])
    name = command.index("--") - 1
    with Session([*command[: name + 1], "--mandate", "review", *command[name + 1 :]]) as client:
        status, said = client.end()
    assert (status, "Put --mandate before" in said) == (2, True)


@pytest.mark.parametrize("answer", [permit_all({"type": "performed"}), None])
def test_a_refusal_at_the_door_is_said(gateway_home: Path, scripted: DecisionPoint, answer: Frame | None) -> None:
    scripted.answer = lambda _: {"type": "refused", "sentence": "No such mandate."}
    with Session(gateway(gateway_home, PLAIN, "--mandate", "none")) as client:
        status, said = client.end()
    assert (status, said) == (69, "forestall: The decision point refused: No such mandate.\n")
    assert scripted.frames[0]["mandate"] == "none"


@pytest.mark.parametrize("pin", ["", "sha256:" + "1" * 64])
def test_a_canary_that_is_permitted_stops_it(
    gateway_home: Path, scripted: DecisionPoint, tmp_path: Path, pin: str
) -> None:
    def permits_everything(frame: Frame) -> Frame | None:
        answer = permit_all({**frame, "tool": frame["tool"].replace(CANARY, "x")} if frame["type"] == "ask" else frame)
        if answer is not None and "permit" in answer:
            answer["permit"] |= {"tool": frame["tool"], "pin": pin}
        return answer

    scripted.answer = permits_everything
    with Session(gateway(gateway_home), WIRE=str(tmp_path / "wire")) as client:
        status, said = client.end()
    assert status == 70
    assert "canary" in said
    assert not (tmp_path / "wire").exists()


# -- ending


@pytest.mark.parametrize(("tool", "status"), [("exit3", 3), ("die", 1), ("crash", -signal.SIGSEGV)])
def test_a_server_that_dies_in_a_call(gateway_home: Path, scripted: DecisionPoint, tool: str, status: int) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, tool)
        assert decision(client.answer_to(1))["reason"] == "outcome_unknown"
        assert client.line() == b""
        assert client.process.wait(WITHIN_S) == status
    assert [f["fate"] for f in scripted.of_type("performed")] == ["ambiguous"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_server_and_its_death_is_ours(
    gateway_home: Path, scripted: DecisionPoint, number: signal.Signals
) -> None:
    code = "import os, signal; signal.signal(2, signal.SIG_DFL); os.write(2, b'started\\n')\nwhile True: signal.pause()"
    with Session(gateway(gateway_home, [sys.executable, "-c", code])) as client:
        assert client.process.stderr.readline() == b"started\n"
        scripted.wait_for("ask", 0)
        client.process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.process.wait(WITHIN_S)
        assert client.process.returncode == -number


def test_a_server_that_ignores_its_end_is_killed_with_its_children(gateway_home: Path, scripted: DecisionPoint) -> None:
    command = ["sh", "-c", 'sleep 1000 & exec "$@"', "sh", *PLAIN]
    with Session(gateway(gateway_home, command), HANGS_AT_EXIT="1") as client:
        client.initialize()
        group = os.getpgid(child_of(client.process.pid))
        assert group != os.getpgid(client.process.pid)
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(WITHIN_S) == -signal.SIGKILL
    assert of_group(group) == []


def test_calls_before_the_clients_end_are_still_answered(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        for number in range(20):
            client.call(number, "echo", n=number)
        client.process.stdin.close()
        assert sorted(client.read()["id"] for _ in range(20)) == list(range(20))
        assert client.end()[0] == 0


def test_a_transcript_may_come_from_a_file(gateway_home: Path, scripted: DecisionPoint, tmp_path: Path) -> None:
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo"}}
    (tmp_path / "in").write_text(json.dumps(call) + '\n{"half":')
    with (tmp_path / "in").open() as stdin, (tmp_path / "out").open("w") as stdout:
        done = subprocess.run(
            gateway(gateway_home), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=WITHIN_S, check=True
        )
    assert json.loads((tmp_path / "out").read_text())["id"] == 2
    assert b"middle of a message" in done.stderr


def test_standard_error_is_the_servers_own(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home), STDERR="hello from the server") as client:
        client.initialize()
        assert client.end() == (0, "hello from the server\n")


# -- a server that misbehaves


@pytest.mark.parametrize("tool", BAD_ANSWERS)
def test_an_answer_that_is_not_one_is_not_passed_on(gateway_home: Path, scripted: DecisionPoint, tool: str) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, tool)
        assert decision(client.answer_to(1))["reason"] == "outcome_unknown"
        client.call(2, "echo")
        assert "error" not in client.answer_to(2)
        status, said = client.end()
    assert (status, said.count("dropped")) == (0, 1)
    assert [f["fate"] for f in scripted.of_type("performed")] == ["ambiguous", "done"]


@pytest.mark.parametrize("tool", ["noise", "wrong_id", "twice", "big_int", "unknown_notification"])
def test_one_answer_comes_for_one_call(gateway_home: Path, scripted: DecisionPoint, tool: str) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, tool)
        assert json.loads(client.line())["id"] == 1
        client.call(2, "echo")
        assert json.loads(client.line())["id"] == 2
        assert client.end()[0] == 0


def test_a_servers_call_to_the_client_is_refused(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, "unknown_request")
        reply = json.loads(client.read()["result"]["content"][0]["text"])
    assert (reply["id"], reply["error"]["code"]) == ("s1", -32601)


def test_a_server_and_a_client_may_use_the_same_id(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(7, "ask_client")
        asked = client.read()
        assert (asked["id"], asked["method"]) == (7, "roots/list")
        client.send({"jsonrpc": "2.0", "id": 7, "result": {"roots": []}})
        assert '"roots": []' in client.answer_to(7)["result"]["content"][0]["text"]


def test_a_flood_does_not_stay_in_memory(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, "flood", count=40_000)  # 40 MB and more
        client.call(2, "echo")
        assert client.answer_to(1)
        assert client.answer_to(2)
        peak = Path(f"/proc/{client.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(peak) < 40 * 1024


# -- a decision point that goes away


def test_a_call_at_the_server_is_unknown_when_the_decision_point_is_lost(
    gateway_home: Path, scripted: DecisionPoint
) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, "slow")
        scripted.wait_for("ask")
        client.send({"jsonrpc": "2.0", "id": "p", "method": "ping"})
        client.answer_to("p")
        scripted.drop()
        assert decision(client.answer_to(1))["reason"] == "outcome_unknown"
        client.call(2, "echo")
        assert "isError" not in client.answer_to(2)["result"]
        hello = scripted.of_type("hello")[-1]
        assert hello["client"]["name"] == "test-client"
        assert (scripted.of_type("hello")[0].get("again"), hello["again"]) == (None, True)
        assert "lost" in client.end()[1]
    assert len(scripted.of_type("hello")) == 2


def test_calls_are_denied_and_the_rest_relayed_while_it_is_away(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home), FORESTALL_HOME="/nonexistent") as client:
        client.initialize()
        client.call(1, "echo")
        client.answer_to(1)
        scripted.answer = lambda _: {"type": "refused", "sentence": "Closed."}
        scripted.drop()
        client.call(2, "echo")
        assert decision(client.answer_to(2))["reason"] == "unavailable"
        client.send({"jsonrpc": "2.0", "id": 3, "method": "ping"})
        assert client.answer_to(3)["result"]
        client.end()
    assert len(scripted.of_type("ask")) == 1


def test_what_is_not_a_frame_ends_the_connection_and_nothing_is_permitted(
    gateway_home: Path, scripted: DecisionPoint
) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        scripted.answer = lambda frame: {"no": "type"} if frame["type"] == "ask" else permit_all(frame)
        client.call(1, "echo")
        assert decision(client.answer_to(1))["reason"] == "unavailable"


def test_denials_do_not_reach_the_server(gateway_home: Path, scripted: DecisionPoint, tmp_path: Path) -> None:
    scripted.answer = lambda frame: deny() if frame["type"] == "ask" else permit_all(frame)
    with Session(gateway(gateway_home), WIRE=str(tmp_path / "wire")) as client:
        client.initialize()
        client.call(1, "echo", a=1)
        assert decision(client.answer_to(1))["reason"] == "no_policy"
        client.end()
    methods = [json.loads(line).get("method") for line in (tmp_path / "wire").read_bytes().splitlines()]
    assert methods == ["initialize", "notifications/initialized", "tools/list"]


# -- faults of its own

BROKEN = """
import sys
from forestall.cli import main
from forestall.pep.mcp.relay import Relay
read = Relay.from_client
def broken(self, line):
    if b"ping" in line:
        raise ZeroDivisionError
    return read(self, line)
Relay.from_client = broken
raise SystemExit(main(sys.argv[1:]))
"""


def test_a_bug_stops_it_and_the_server(gateway_home: Path, scripted: DecisionPoint, tmp_path: Path) -> None:
    with Session([sys.executable, "-c", BROKEN, *gateway(gateway_home)[3:]], WIRE=str(tmp_path / "wire")) as client:
        client.initialize()
        group = os.getpgid(child_of(client.process.pid))
        client.send({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert client.process.wait(WITHIN_S) == 70
        assert b"ZeroDivisionError" in client.process.stderr.read()
    assert of_group(group) == []
    assert b"ping" not in (tmp_path / "wire").read_bytes()


def test_it_ends_at_once_while_it_waits_for_a_decision_point(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        scripted.answer = lambda _: None
        scripted.drop()
        client.call(1, "echo")
        scripted.wait_for("hello", 2)
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(WITHIN_S) == -signal.SIGTERM


def test_a_server_that_does_not_end_with_its_task_is_killed_and_the_gateway_stays_for_its_client(
    gateway_home: Path, scripted: DecisionPoint, tmp_path: Path
) -> None:
    wire = tmp_path / "wire"
    with Session(gateway(gateway_home), HANGS_AT_EXIT="1", WIRE=str(wire)) as client:
        client.initialize()
        client.call(1, "slow")
        until(lambda: wire.exists() and b'"slow"' in wire.read_bytes())
        group = child_of(client.process.pid)
        scripted.send({"type": "revoked", "reason": "task_ended", "epoch": 3})
        assert [told["epoch"] for told in scripted.wait_for("confirmed")] == [3]
        assert of_group(group) == []
        assert decision(client.answer_to(1))["reason"] == "task_ended"
        client.send({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
        assert client.answer_to(2)["error"]["data"]["reason"] == "task_ended"
        assert client.end()[0] == 77
    assert [frame["fate"] for frame in scripted.of_type("performed")] == ["ambiguous"]


def test_a_gateway_whose_task_was_ended_ends_by_a_signal_too(gateway_home: Path, scripted: DecisionPoint) -> None:
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        scripted.send({"type": "revoked", "reason": "revoked", "epoch": 1})
        scripted.wait_for("confirmed")
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(WITHIN_S) == 77


def test_a_task_that_is_ended_before_the_gateway_began_is_not_begun(
    gateway_home: Path, scripted: DecisionPoint
) -> None:
    def answer(frame: Frame) -> Frame | None:
        if frame["type"] == "ask":
            scripted.send({"type": "revoked", "reason": "revoked", "epoch": 1})
        return permit_all(frame)

    scripted.answer = answer
    with Session(gateway(gateway_home)) as client:
        status, said = client.end()
    assert status == 69
    assert "ended by an operator" in said
