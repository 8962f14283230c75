"""The main job, end to end: a client, the gateway, a decision point of its own, a server. Nothing is simulated."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from forestall.core.entry import Stream
from forestall.core.pin import definition_digest
from forestall.home import Home
from forestall.policy.schema import METHOD_TOOL
from tests.mcpkit.home import home_of, serving, stop
from tests.mcpkit.session import PLAIN, WITHIN_S, Session, decision, gateway
from tests.points import entries

POLICY = """\
@id("all") permit (principal, action, resource)
unless {
  action == Action::"plain/progress" || (context has args && context.args has to && context.args.to == "never")
};
@id("who") @approvers("ada") permit (principal, action == Action::"plain/progress", resource)
when { context has approval && context.approval.granted };
"""


@pytest.fixture(scope="module")
def prepared() -> Iterator[Home]:
    with home_of({"plain": PLAIN}, POLICY) as home:
        yield home


@pytest.fixture
def home(prepared: Home) -> Iterator[Home]:
    """Nothing of another test is in its ledger, and its decision point ends with it."""
    with home_of({}, POLICY) as home:
        for file in prepared.catalogue.iterdir():
            (home.catalogue / file.name).write_bytes(file.read_bytes())
        yield home


def kinds(home: Home, stream: Stream = Stream.PERMITS) -> list[str]:
    stop(home)
    return [entry["kind"] for entry in entries(home, stream)]


def fates(home: Home) -> list[str]:
    stop(home)
    return [entry["fate"] for entry in entries(home) if entry["kind"] == "settled"]


def test_a_call_is_permitted_in_the_ledger_before_it_happens_and_settled_after(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.call(1, "echo", a=1)
        assert client.answer_to(1)["result"]["content"][0]["text"] == '{"a": 1}'
        assert client.end() == (0, "")
    assert kinds(home) == ["opened", "permitted", "settled", "closed"]
    assert fates(home) == ["done"]


def test_a_denied_call_never_reaches_the_server(home: Home, tmp_path: Path) -> None:
    with Session(gateway(home.root), WIRE=str(tmp_path / "wire")) as client:
        client.initialize()
        client.call(1, "echo", to="never")
        said = decision(client.answer_to(1))
        client.call(2, "echo", undeclared=1)
        assert decision(client.answer_to(2))["reason"] == "invalid_arguments"
        client.call(3, "nothing_of_the_kind")
        assert decision(client.answer_to(3))["reason"] == "unknown_tool"
        client.end()
    assert {name: said[name] for name in ("decision", "reason", "retry")} == {
        "decision": "deny",
        "reason": "no_policy",
        "retry": "final",
    }
    assert b"tools/call" not in (tmp_path / "wire").read_bytes()
    denied = [entry["id"] for entry in entries(home, Stream.DENIALS)]
    assert said["decision_id"] in denied


def test_a_held_call_says_that_a_person_has_to_approve(home: Home, tmp_path: Path) -> None:
    with Session(gateway(home.root), WIRE=str(tmp_path / "wire")) as client:
        client.initialize()
        client.call(1, "progress")
        said = decision(client.answer_to(1))
        client.end()
    assert (said["decision"], said["reason"], said["retry"]) == ("hold", "needs_approval", "needs_approval")
    assert b"tools/call" not in (tmp_path / "wire").read_bytes()


def test_a_tool_that_changes_is_quarantined_at_once(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.call(1, "list_changed", to="evil")
        client.answer_to(1)
        client.call(2, "echo")
        assert decision(client.answer_to(2))["reason"] == "tool_changed"
        client.send({"jsonrpc": "2.0", "id": 3, "method": "tools/list"})
        names = [tool["name"] for tool in client.answer_to(3)["result"]["tools"]]
        assert "echo" not in names
        assert "fail" in names


def test_a_tool_that_changed_before_is_not_shown(home: Home) -> None:
    page = home.catalogue / "plain.json"
    reviewed = json.loads(page.read_text())
    reviewed["tools"][0]["description"] = "harmless"
    page.write_text(json.dumps(reviewed))
    file = home.catalogue / "plain.toml"
    changed = reviewed["tools"][0]
    old = definition_digest("plain", {name: value for name, value in changed.items() if name != "description"})
    file.write_text(file.read_text().replace(old, definition_digest("plain", changed)))
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.send({"jsonrpc": "2.0", "id": 3, "method": "tools/list"})
        assert changed["name"] not in [tool["name"] for tool in client.answer_to(3)["result"]["tools"]]


def test_the_list_is_filtered_page_by_page(home: Home) -> None:
    with Session(gateway(home.root), PAGE="5") as client:
        client.initialize()
        names: list[str] = []
        cursor: dict[str, str] = {}
        while cursor is not None:
            client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": cursor})
            page = client.answer_to(1)["result"]
            names += [tool["name"] for tool in page["tools"]]
            cursor = {"cursor": page["nextCursor"]} if "nextCursor" in page else None
        assert len(names) == len(set(names)) == 22
        client.call(2, "echo")
        assert "isError" not in client.answer_to(2)["result"]


def test_an_unknown_method_is_denied_and_recorded(home: Home) -> None:
    (home.policy / "own.cedar").write_text('@id("p") permit (principal, action == Action::"plain/echo", resource);')
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.send({"jsonrpc": "2.0", "id": 1, "method": "secret/door"})
        assert client.answer_to(1)["error"]["code"] == -32601
        client.end()
    stop(home)
    assert METHOD_TOOL.id in [entry.get("tool") for entry in entries(home, Stream.DENIALS)]


def test_a_decision_point_that_is_killed_in_a_call_leaves_it_ambiguous_and_the_next_starts_another(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.call(1, "slow")
        client.call(2, "echo")
        client.answer_to(2)  # after it, the first is at the server
        os.kill(serving(home), signal.SIGKILL)
        assert decision(client.answer_to(1))["reason"] == "outcome_unknown"
        client.call(3, "echo", a=3)
        assert client.answer_to(3)["result"]["content"][0]["text"] == '{"a": 3}'
        assert "lost" in client.end()[1]
    assert sorted(fates(home)) == ["ambiguous", "done", "done"]


def test_an_output_that_adds_nothing_does_not_wait_for_the_decision_point(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.call(1, "echo", a=1)  # raises the labels of its task as far as its output can
        client.answer_to(1)
        server = server_of(client.process.pid)
        os.kill(server, signal.SIGSTOP)
        running = at_the_server(client, server)
        point = serving(home)
        os.kill(point, signal.SIGSTOP)
        try:
            os.kill(server, signal.SIGCONT)
            assert client.answer_to(running)["result"]["content"][0]["text"] == '{"a": 2}'
        finally:
            os.kill(point, signal.SIGCONT)
        assert client.end() == (0, "")
    assert fates(home)[-1] == "done"


def at_the_server(client: Session, server: int) -> int:
    """Of a call that lies in the pipe to the stopped server, its id. Where the machine stalls for a second it is
    denied, and the next is tried.
    """
    pipe = os.open(f"/proc/{server}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        for number in count(2):
            client.call(number, "echo", a=2)
            ready, _, _ = select.select([pipe, client.process.stdout], [], [], WITHIN_S)
            if pipe in ready:
                return number
            client.answer_to(number)
    finally:
        os.close(pipe)
    raise AssertionError


def server_of(gateway: int) -> int:
    children = Path(f"/proc/{gateway}/task/{gateway}/children").read_text().split()
    (server,) = [pid for pid in children if PLAIN[1].encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(server)


def test_a_decision_point_that_is_stopped_is_started_for_the_next_call(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        stop(home)
        client.call(1, "echo")
        assert "isError" not in client.answer_to(1)["result"]


def test_gateways_that_start_at_once_share_one_decision_point(home: Home) -> None:
    clients = [Session(gateway(home.root)) for _ in range(4)]
    try:
        for number, client in enumerate(clients):
            client.initialize()
            client.call(number, "echo", n=number)
        for number, client in enumerate(clients):
            assert client.answer_to(number)["result"]
    finally:
        for client in clients:
            client.__exit__()
    assert kinds(home).count("opened") == 4


def test_a_server_that_dies_mid_call_leaves_it_ambiguous(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.call(1, "die")
        assert decision(client.answer_to(1))["reason"] == "outcome_unknown"
        assert client.process.wait(WITHIN_S) == 1
    assert fates(home) == ["ambiguous"]


def test_a_cancelled_call_that_is_never_answered_is_ambiguous(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.call(1, "slow")
        client.call(2, "echo")
        client.answer_to(2)
        client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        client.call(3, "echo")
        client.answer_to(3)
        client.end()
    assert sorted(fates(home)) == ["ambiguous", "done", "done"]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("policy/own.cedar", "permit (principal", "own.cedar"),
        ("policy/own.cedar", "permit (principal, action, resource) when { context.nonsense };", "own.cedar"),
        ("forestall.toml", "[serve]\nidle = 3\n", "forestall.toml:2"),
        ("catalogue/plain.toml", "format = 1\n[tools.echo]\neffects = ['nonsense']\n", "plain.toml"),
        ("policy/mandates/default.toml", "purpose = 3\n", "default.toml"),
    ],
)
def test_bad_settings_stop_it_with_a_sentence(home: Home, file: str, text: str, said: str, tmp_path: Path) -> None:
    (home.root / file).write_text(text)
    with Session(gateway(home.root), WIRE=str(tmp_path / "wire")) as client:
        status, sentence = client.end()
    assert status in (69, 78)
    assert said in sentence
    assert not (tmp_path / "wire").exists()


def test_a_mandate_that_is_not_there_stops_it(home: Home) -> None:
    with Session(gateway(home.root, PLAIN, "--mandate", "nobody")) as client:
        status, sentence = client.end()
    assert status == 78
    assert "nobody" in sentence


def test_many_calls_at_once_are_each_decided_once(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        for number in range(60):
            client.call(number, "echo", n=number)
        seen = {client.read()["id"] for _ in range(60)}
        assert seen == set(range(60))
    assert fates(home) == ["done"] * 60
