"""Conversations with a decision point over its socket: docs/adr/0003-socket-protocol.md, line by line."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from forestall import __version__
from forestall.adapter.ledger import commit
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.entry import Stream
from forestall.core.model import Risk
from forestall.frame import PROTOCOL
from forestall.home import Home
from forestall.server.frames import Peering
from forestall.server.point import Point
from forestall.testing.world import GRANT
from forestall.wire import build, order
from tests.points import (
    POLICY,
    SERVER,
    TOOLS,
    WAIT_S,
    Peer,
    definition,
    entries,
    kinds,
    make_home,
    pin,
    play,
    until_async,
    write_catalogue,
)

PYTHON = str(Path(sys.executable).resolve())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def test_a_hello_opens_a_task_and_its_end_closes_it(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket, client={"name": "inspector", "version": "1"})
        assert peer.welcome["protocol"] == PROTOCOL
        assert peer.welcome["version"] == __version__
        assert peer.welcome["assurance"] == "local"
        assert peer.welcome["policy_digest"].startswith("sha256:")
        await peer.close()
        await until_async(lambda: kinds(home) == ["opened", "closed"])
        opened, closed = entries(home)
        assert opened["task"] == closed["task"] == peer.welcome["task"]
        assert opened["subject"]["instance"].split(":")[:2] == ["unix", str(os.geteuid())]
        assert opened["subject"]["executable"] == {
            "path": PYTHON,
            "digest": "",
            "interpreter": True,
            "same_uid": True,
        }
        said = {name: opened["subject"][name] for name in ("id", "assurance", "asserted_name")}
        assert said == {
            "id": peer.welcome["subject"],
            "assurance": "local",
            "asserted_name": "inspector 1",
        }
        assert opened["user"] == f"uid/{os.geteuid()}"
        assert closed["why"] == "disconnected"

    play(home, scenario)


def test_a_permitted_call_is_recorded_before_it_is_released_and_settled_before_its_output_is(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        answer = await peer.ask("write_file", {"path": "a", "content": "b"})
        assert answer["type"] == "permit"
        assert answer["permit"].keys() == {"id", "tool", "pin", "digest", "expires_at", "start_by", "release"}
        assert answer["permit"]["tool"] == "files/write_file"
        assert answer["permit"]["pin"] == pin("write_file")
        assert kinds(home) == ["opened", "permitted"]
        digest = "sha256:" + "a" * 64
        assert (await peer.performed(answer, digest=digest))["type"] == "release"
        assert kinds(home) == ["opened", "permitted", "settled"]
        settled = entries(home)[-1]
        assert settled["fate"] == "done"
        assert settled["id"] == answer["permit"]["id"]
        assert settled["output"].startswith("sha256:")
        assert settled["output"] != digest, "the ledger keeps a salted digest"
        await peer.close()

    play(home, scenario)


@pytest.mark.parametrize(
    ("tool", "arguments", "reason", "retry"),
    [
        ("delete_file", {"path": "x"}, "no_policy", "final"),
        ("read_file", {"path": "the/secret"}, "forbidden", "final"),
        ("read_file", {"path": 3}, "invalid_arguments", "retryable"),
        ("read_file", {"path": "x", "more": 1}, "invalid_arguments", "retryable"),
        ("read_file", {"path": ".mcp.json"}, "forbidden", "final"),
    ],
)
def test_a_denial_says_what_helps_and_nothing_of_the_policy(
    home: Home, tool: str, arguments: dict[str, object], reason: str, retry: str
) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        answer = await peer.ask(tool, arguments)
        assert answer["type"] == "deny"
        assert answer["decision"].keys() == {"decision", "reason", "decision_id", "retry", "sentence"}
        assert (answer["decision"]["reason"], answer["decision"]["retry"]) == (reason, retry)
        assert kinds(home) == ["opened"]
        (denied,) = entries(home, Stream.DENIALS)
        assert denied["id"] == answer["decision"]["decision_id"]
        assert denied["policy_digest"] == peer.welcome["policy_digest"], "also where policy was not asked"
        await peer.close()

    play(home, scenario)


def test_a_hold_is_answered_as_one_and_nothing_is_permitted(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        answer = await peer.ask("send", {"to": "bob"})
        assert answer["type"] == "hold"
        assert answer["decision"]["reason"] == "needs_approval"
        assert kinds(home, Stream.DENIALS) == ["held"]
        await peer.close()

    play(home, scenario)


@pytest.mark.parametrize("fate", ["not_started", "ambiguous", "failed"])
def test_every_fate_is_settled_as_it_was_reported(home: Home, fate: str) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permit = await peer.ask()
        answer = await peer.performed(permit, fate, detail="why")
        assert answer["type"] == ("release" if fate == "failed" else "withhold")
        assert entries(home)[-1]["fate"] == fate
        await peer.close()

    play(home, scenario)


def test_a_permit_is_reported_on_once_and_on_its_own_connection(home: Home) -> None:
    async def scenario(_: Point) -> None:
        one, other = await Peer.gateway(home.socket), await Peer.gateway(home.socket)
        permit = await one.ask()
        assert (await other.performed(permit))["type"] == "withhold"
        assert (await one.performed(permit))["type"] == "release"
        assert (await one.performed(permit))["type"] == "withhold"
        assert kinds(home).count("settled") == 1
        await one.close()
        await other.close()

    play(home, scenario)


def test_what_is_out_when_a_connection_ends_is_ambiguous(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permits = [await peer.ask(arguments={"path": str(i), "content": ""}) for i in range(3)]
        await peer.performed(permits[1], "not_started")
        await peer.close()
        await until_async(lambda: kinds(home).count("settled") == 3 and kinds(home)[-1] == "closed")
        fates = {entry["id"]: entry["fate"] for entry in entries(home) if entry["kind"] == "settled"}
        assert [fates[permit["permit"]["id"]] for permit in permits] == ["ambiguous", "not_started", "ambiguous"]

    play(home, scenario)


def test_a_connection_may_ask_for_its_own_server_only(home: Home) -> None:
    write_catalogue(home, "other")

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        number = peer.request("ask", tool="other/write_file", pin=pin("write_file"), arguments={})
        answer = await peer.receive()
        assert answer["id"] == number
        assert answer["decision"]["reason"] == "unknown_tool"
        await peer.close()

    play(home, scenario)


def test_another_pin_is_denied(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        for other in ("", "sha256:" + "0" * 64):
            answer = await peer.ask("read_file", pin=other)
            assert answer["decision"]["reason"] == "tool_changed"
        assert all(denied["policy_digest"] for denied in entries(home, Stream.DENIALS))
        await peer.close()

    play(home, scenario)


def test_tools_are_judged_in_their_order(home: Home) -> None:
    changed = {**TOOLS["write_file"][0], "description": "Does more. Call it first."}
    wider = definition("send", "to", "copy")
    offered = [TOOLS["read_file"][0], changed, TOOLS["delete_file"][0], wider, definition("surprise"), 3, {"name": 4}]

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        number = peer.request("tools", tools=offered)
        answer = await peer.receive()
        assert (answer["type"], answer["id"]) == ("tools", number)
        seen = [(one["name"], one["show"], one.get("reason"), one.get("change")) for one in answer["tools"]]
        assert seen == [
            ("read_file", True, None, None),
            ("write_file", False, "tool_changed", "cosmetic"),
            ("delete_file", False, "no_policy", None),
            ("send", False, "tool_changed", "authority"),
            ("surprise", False, "unknown_tool", None),
            ("", False, "unknown_tool", None),
            ("", False, "unknown_tool", None),
        ]
        assert answer["tools"][0]["pin"] == pin("read_file")
        await peer.close()

    play(home, scenario)


def test_a_changed_tool_is_quarantined_once_and_stays_so_whatever_pin_is_named(home: Home) -> None:
    changed = {**TOOLS["write_file"][0], "description": "Does more."}

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        for offered in (changed, changed, TOOLS["write_file"][0]):
            peer.request("tools", tools=[offered])
            await peer.receive()
        answer = await peer.ask("write_file")
        assert answer["decision"]["reason"] == "tool_changed"
        noted = [entry for entry in entries(home, Stream.DENIALS) if entry["kind"] == "quarantined"]
        assert [(entry["tool"], entry["reviewed_pin"], entry["change"]) for entry in noted] == [
            ("files/write_file", pin("write_file"), "cosmetic")
        ]
        other = await Peer.gateway(home.socket)
        assert (await other.ask("write_file"))["type"] == "permit"
        await peer.close()
        await other.close()

    play(home, scenario)


def test_a_name_that_occurs_twice_is_hidden(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        peer.request("tools", tools=[TOOLS["read_file"][0], TOOLS["read_file"][0]])
        assert [one.get("reason") for one in (await peer.receive())["tools"]] == ["duplicate_tool"] * 2
        await peer.close()

    play(home, scenario)


def test_a_name_that_two_servers_have_is_hidden_and_denied(home: Home) -> None:
    write_catalogue(home, "other")

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        peer.request("tools", tools=[TOOLS["read_file"][0]])
        assert [one.get("reason") for one in (await peer.receive())["tools"]] == ["duplicate_tool"]
        assert (await peer.ask("read_file"))["decision"]["reason"] == "duplicate_tool"
        await peer.close()

    play(home, scenario)


def test_an_unknown_method_is_denied_unless_policy_permits_it(home: Home, tmp_path: Path) -> None:
    async def denied(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        number = peer.request("method", method="x/new", direction="client")
        answer = await peer.receive()
        assert (answer["type"], answer["id"]) == ("deny", number)
        assert answer["decision"]["reason"] == "unknown_method"
        await peer.close()

    play(home, denied)
    other = make_home(
        tmp_path / "2",
        'permit (principal, action == Action::"mcp/unknown", resource) when { context.args.method == "x/new" };',
    )

    async def permitted(_: Point) -> None:
        peer = await Peer.gateway(other.socket)
        peer.request("method", method="x/new", direction="server")
        assert (await peer.receive())["type"] == "permit"
        peer.request("method", method="x/old", direction="server")
        assert (await peer.receive())["type"] == "deny"
        assert kinds(other) == ["opened", "permitted", "settled"]
        await peer.close()

    play(other, permitted)


def test_a_method_is_not_asked_for_as_a_tool(tmp_path: Path) -> None:
    home = make_home(tmp_path, "permit (principal, action, resource);")

    async def scenario(_: Point) -> None:
        for server in (SERVER, "mcp"):
            peer = await Peer.gateway(home.socket, server=server)
            peer.request("ask", tool="mcp/unknown", pin="", arguments={"method": "x/y"})
            assert (await peer.receive())["decision"]["reason"] == "unknown_tool"
            await peer.close()

    play(home, scenario)


def test_a_cancel_after_the_permit_is_harmless(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permit = await peer.ask()
        peer.send({"type": "cancel", "id": permit["id"]})
        peer.send({"type": "cancel", "id": 999})
        assert (await peer.performed(permit))["type"] == "release"
        await peer.close()

    play(home, scenario)


def test_a_cancel_before_the_permit_denies(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        number = peer.asks()
        peer.send({"type": "cancel", "id": number})
        answer = await peer.receive()
        assert (answer["type"], answer["id"]) == ("deny", number)
        assert answer["decision"]["reason"] == "cancelled"
        await peer.close()
        await until_async(lambda: kinds(home)[-1] == "closed")
        assert "done" not in [entry.get("fate") for entry in entries(home)]

    play(home, scenario)


def test_many_calls_at_once_are_decided_independently(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        numbers = {peer.asks("write_file", {"path": str(i), "content": ""}): i for i in range(40)}
        permits = [await peer.receive() for _ in numbers]
        assert {permit["id"] for permit in permits} == set(numbers)
        for permit in reversed(permits):
            peer.request("performed", permit=permit["permit"]["id"], fate="done")
        assert {(await peer.receive())["type"] for _ in permits} == {"release"}
        await peer.close()

    play(home, scenario)


def test_more_calls_at_once_than_may_be_are_denied_and_recorded(tmp_path: Path) -> None:
    home = make_home(tmp_path, settings="[serve]\nmax_asks = 2\n")

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permits = [await peer.ask(arguments={"path": str(i), "content": ""}) for i in range(2)]
        answer = await peer.ask()
        assert answer["decision"]["reason"] == "unavailable"
        assert kinds(home, Stream.DENIALS) == ["denied"]
        await peer.performed(permits[0])
        assert (await peer.ask())["type"] == "permit"
        await peer.close()

    play(home, scenario)


def test_a_local_users_tasks_are_ended_by_an_order_that_names_them(home: Home) -> None:
    async def scenario(point: Point) -> None:
        peer = await Peer.gateway(home.socket)
        for user, ended in (("uid/4711", 0), (f"uid/{os.geteuid()}", 1)):
            given = asyncio.create_task(
                point.orders.give(Command(Order.KILL, Target(Reach.USER, user), "gone", "uid/0"))
            )
            if ended:
                told = await peer.receive()
                assert (told["type"], told["reason"]) == ("revoked", "revoked")
                peer.send({"type": "confirmed", "epoch": told["epoch"]})
            assert (await given).tasks_ended == ended
        await peer.close()

    play(home, scenario)


def test_a_budget_is_spent_by_recorded_permits(home: Home) -> None:
    home.mandates.mkdir()
    (home.mandates / "default.toml").write_text(
        'purpose = "x"\ntools = ["files/*"]\neffects = ["read", "write"]\nlifetime_minutes = 5\n[budget]\nwrite = 2\n'
    )

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        answers = [await peer.ask(arguments={"path": str(i), "content": ""}) for i in range(3)]
        assert [answer["type"] for answer in answers] == ["permit", "permit", "deny"]
        assert answers[2]["decision"]["reason"] == "budget"
        assert (await peer.ask("send", {"to": "x"}))["decision"]["reason"] == "out_of_scope"
        await peer.close()

    play(home, scenario)


LIMITED = """\
purpose = "x"
tools = ["files/*"]
effects = ["read", "write"]
lifetime_minutes = 5
[budget]
"""


def test_an_output_that_is_more_than_one_call_may_have_is_withheld_and_counts_all_the_same(home: Home) -> None:
    home.mandates.mkdir()
    (home.mandates / "default.toml").write_text(f"{LIMITED}rows = {{ total = 30, call = 10 }}\n")

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        first = await peer.ask()
        assert first["permit"]["measure"] == ["rows"]
        assert (await peer.performed(first, used={"rows": 4}))["type"] == "release"
        second = await peer.ask()
        told = await peer.performed(second, used={"rows": 17})
        assert (told["type"], told["reason"]) == ("withhold", "budget")
        assert "withheld" in told["sentence"]
        assert (await peer.ask())["decision"]["reason"] == "budget", "4 and 17 of 30 leave no room for one more call"
        assert [(entry["fate"], entry["used"]) for entry in entries(home) if entry["kind"] == "settled"] == [
            ("done", {"rows": 4}),
            ("done", {"rows": 17}),
        ]
        await peer.close()

    play(home, scenario)


def test_an_output_that_nobody_measured_is_withheld_and_counts_as_all_that_was_reserved(home: Home) -> None:
    home.mandates.mkdir()
    (home.mandates / "default.toml").write_text(f"{LIMITED}bytes = {{ total = 20, call = 10 }}\n")

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        for _turn in range(2):
            permit = await peer.ask()
            assert permit["permit"]["measure"] == ["bytes"]
            told = await peer.performed(permit)
            assert (told["type"], told["reason"]) == ("withhold", "budget")
        assert (await peer.ask())["decision"]["reason"] == "budget"
        await peer.close()

    play(home, scenario)


def test_a_call_that_runs_longer_than_one_may_is_given_up(home: Home) -> None:
    home.mandates.mkdir()
    (home.mandates / "default.toml").write_text(f"{LIMITED}seconds = {{ total = 60, call = 0 }}\n")

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permit = await peer.ask()
        assert "measure" not in permit["permit"]
        await until_async(lambda: "settled" in kinds(home))
        assert entries(home)[-1]["fate"] == "ambiguous"
        assert (await peer.performed(permit))["type"] == "withhold"
        await peer.close()

    play(home, scenario)


@pytest.mark.parametrize(
    "used",
    [7, [], {"rows": -1}, {"rows": 1.5}, {"rows": True}, {"rows": 2**53}, {"spend": 1}, {"seconds": 1}, {"x": 1}],
)
def test_a_report_of_what_no_call_uses_ends_the_connection(home: Home, used: object) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permit = await peer.ask()
        peer.request("performed", permit=permit["permit"]["id"], fate="done", used=used)
        assert (await peer.receive())["type"] == "refused"
        assert await peer.ended()
        await peer.close()

    play(home, scenario)
    assert entries(home)[-2]["fate"] == "ambiguous"


def test_a_mandate_that_is_not_there_is_refused_by_name(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        await peer.greet({"kind": "gateway", "server": SERVER, "mandate": "nightly"})
        answer = await peer.receive()
        assert answer["type"] == "refused"
        assert "`nightly`" in answer["sentence"]
        assert await peer.ended()
        await peer.close()

    play(home, scenario)


def test_a_task_that_policy_forbids_is_refused_recorded_and_never_opened(home: Home) -> None:
    forbid = '@id("closed") forbid (principal, action == Action::"forestall/open", resource);'
    (home.policy / "closed.cedar").write_text(forbid)

    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        await peer.greet({"kind": "agent", "server": SERVER})
        answer = await peer.receive()
        (denied,) = entries(home, Stream.DENIALS)
        assert (denied["tool"], denied["reason"]) == ("forestall/open", "forbidden")
        assert denied["policies"] == ["closed"]
        assert answer["type"] == "refused"
        assert denied["id"] in answer["sentence"]
        assert "closed" not in answer["sentence"]
        assert await peer.ended()
        assert kinds(home) == []
        await peer.close()

    play(home, scenario)


def test_an_opened_task_says_which_policy_let_it_and_has_what_that_left(home: Home) -> None:
    permit = '@id("short") @lifetime_minutes("1") permit (principal, action == Action::"forestall/open", resource);'
    (home.policy / "short.cedar").write_text(permit)

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        (opened,) = entries(home)
        assert opened["policies"] == ["forestall:open-task", "short"]
        assert opened["policy_digest"] == peer.welcome["policy_digest"]
        assert opened["expires_at"] - opened["at"] == 60_000
        await peer.close()

    play(home, scenario)


def test_a_task_without_a_purpose_is_refused_and_told_what_is_missing(home: Home) -> None:
    home.mandates.mkdir()
    (home.mandates / "default.toml").write_text(
        'purpose = ""\ntools = ["files/*"]\neffects = ["read"]\nlifetime_minutes = 5\n'
    )

    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        await peer.greet({"kind": "agent", "server": SERVER})
        answer = await peer.receive()
        assert "unclear_intent" in answer["sentence"]
        assert "`purpose` is missing" in answer["sentence"]
        await peer.close()

    play(home, scenario)


AT_LOW_RISK = '@id("calm") forbid (principal, action in Action::"write", resource) unless {{ {low} }};'.format(
    low='context has risk && context.risk == "low"'
)


def test_the_risk_that_a_file_tells_is_in_the_decision_and_a_file_that_went_away_is_missing(tmp_path: Path) -> None:
    settings = '[[risk]]\nname = "desk"\nkind = "file"\npath = "risk.toml"\n'
    home = make_home(tmp_path, f"{POLICY}\n{AT_LOW_RISK}", settings)
    told = home.root / "risk.toml"
    told.write_text('default = "low"\n')

    async def asked(peer: Peer, path: str) -> str:
        """Another path each time: what was just refused would be refused from memory."""
        answer = await peer.ask("write_file", {"path": path, "content": "b"})
        if answer["type"] != "permit":
            return str(answer["decision"]["reason"])
        await peer.performed(answer)
        return "permit"

    async def scenario(point: Point) -> None:
        peer = await Peer.gateway(home.socket)
        (source,) = point.parts.risks.sources
        assert await asked(peer, "a") == "permit"
        assert entries(home)[1]["risk"] == "low"
        told.write_text('default = "high"\n')
        await until_async(lambda: source.read(GRANT, point.parts.now()).risk is Risk.HIGH)
        assert await asked(peer, "b") == "forbidden"
        told.unlink()
        await until_async(lambda: bool(source.problem))
        assert await asked(peer, "c") == "missing_context"
        assert (await peer.ask("read_file", {"path": "a"}))["type"] == "permit", "no policy about risk reaches it"
        assert [entry["reason"] for entry in entries(home, Stream.DENIALS)] == ["forbidden", "missing_context"]
        await peer.close()

    play(home, scenario)


def test_the_risk_that_was_ordered_is_in_the_decision_without_any_source(tmp_path: Path) -> None:
    home = make_home(tmp_path, f"{POLICY}\n{AT_LOW_RISK}")

    async def scenario(point: Point) -> None:
        peer = await Peer.gateway(home.socket)
        answer = await peer.ask("write_file", {"path": "a", "content": "b"})
        assert answer["type"] == "permit"
        await peer.performed(answer)
        target = Target(Reach.EVERYTHING)
        await order(point.parts, Command(Order.RISK, target, "an alarm", "uid/0", Risk.MEDIUM))
        answer = await peer.ask("write_file", {"path": "b", "content": "b"})
        assert answer["decision"]["reason"] == "forbidden"
        (denied,) = entries(home, Stream.DENIALS)
        assert denied["risk"] == "medium"
        await peer.close()

    play(home, scenario)


def test_status_says_what_is_connected(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        peer.send({"type": "client", "client": {"name": "late\x1b[31m name"}})
        await peer.ask()
        await peer.ask("delete_file")
        command = await Peer.cli(home.socket)
        number = command.request("status")
        answer = await command.receive()
        assert (answer["type"], answer["id"]) == ("status", number)
        assert answer["policies"] == 4
        assert answer["assurance"] == "local"
        assert answer["keys_readable_by_agent"] is True
        assert answer["unsettled"] == 1
        assert answer["open_tasks"] == 1
        assert answer["ledger"]["permits"]["bytes"] > 0
        (one,) = answer["connections"]
        assert one["server"] == SERVER
        assert one["client"] == "late[31m name"
        assert (one["asked"], one["permitted"], one["denied"], one["running"]) == (2, 1, 1, 1)
        await peer.close()
        await command.close()

    play(home, scenario)


def test_who_is_let_in_sees_no_more_of_the_status_than_what_is_theirs(home: Home) -> None:
    """An agent's user is let in, and may connect as a command line does."""

    async def scenario(point: Point) -> None:
        owners, command = await Peer.gateway(home.socket), await Peer.cli(home.socket)
        mine, theirs = point._connections
        mine, theirs = (mine, theirs) if mine.hello.kind is Peering.CLI else (theirs, mine)  # type: ignore[union-attr]
        mine.peer = replace(mine.peer, uid=mine.peer.uid + 1)  # as the kernel would say of another user
        command.request("status")
        answer = await command.receive()
        assert answer["type"] == "status"
        assert answer["connections"] == []
        assert theirs.grant is not None
        assert theirs.grant.task not in str(answer)
        told = {"type", "id", "version", "pid", "policy_digest", "http", "connections", "assurance"}
        assert set(answer) == {*told, "keys_readable_by_agent"}
        theirs.peer = replace(theirs.peer, uid=mine.peer.uid)
        command.request("status")
        assert len((await command.receive())["connections"]) == 1
        await owners.close()
        await command.close()

    play(home, scenario)


def test_a_reload_takes_the_new_policy_and_keeps_the_old_where_the_new_does_not_check(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer, command = await Peer.gateway(home.socket), await Peer.cli(home.socket)
        policy = home.policy / "own.cedar"
        before = policy.read_text()
        policy.write_text('permit (principal, action in Action::"raed", resource);')
        command.request("reload")
        answer = await command.receive()
        assert answer["type"] == "refused"
        assert "own.cedar" in answer["sentence"]
        assert "stays in force" in answer["sentence"]
        assert (await peer.ask("read_file"))["type"] == "permit"
        policy.write_text(before.replace('Action::"read"', 'Action::"destructive"'))
        command.request("reload")
        assert (await command.receive())["type"] == "done"
        assert (await peer.ask("read_file"))["decision"]["reason"] == "no_policy"
        assert (await peer.ask("delete_file"))["type"] == "permit"
        await peer.close()
        await command.close()

    play(home, scenario)


def test_stop_settles_what_is_out_and_closes_every_task(home: Home) -> None:
    async def scenario(point: Point) -> None:
        peer, command = await Peer.gateway(home.socket), await Peer.cli(home.socket)
        permit = await peer.ask()
        command.request("stop")
        assert (await command.receive())["type"] == "done"
        assert (await peer.performed(permit))["type"] == "release"
        assert await peer.ended()
        await peer.close()
        await command.close()
        assert point.status(os.geteuid())["unsettled"] == 0

    play(home, scenario)
    assert kinds(home) == ["opened", "permitted", "settled", "closed"]


def test_an_idle_point_that_may_end_does(home: Home) -> None:
    async def scenario(point: Point) -> None:
        await asyncio.wait_for(point._stopping.wait(), WAIT_S)

    play(home, scenario, idle_exit_s=0.1)


class Syncs:
    """How often the disk was waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, fd: int) -> None:
        self.count += 1
        self._real(fd)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("quick", [1000.0, -1.0])
def test_calls_of_many_connections_at_once_share_a_sync(
    home: Home, monkeypatch: pytest.MonkeyPatch, quick: float
) -> None:
    monkeypatch.setattr(commit, "QUICK_S", quick)

    async def scenario(_: Point) -> None:
        peers = [await Peer.gateway(home.socket) for _ in range(20)]
        syncs = Syncs(monkeypatch)
        for peer in peers:
            peer.asks()
        assert {(await peer.receive())["type"] for peer in peers} == {"permit"}
        assert syncs.count <= 2, "what comes while the first is on its way waits for the second"
        for peer in peers:
            await peer.close()

    play(home, scenario)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("quick", [1000.0, -1.0])
def test_calls_of_one_connection_at_once_share_a_sync(
    home: Home, monkeypatch: pytest.MonkeyPatch, quick: float
) -> None:
    monkeypatch.setattr(commit, "QUICK_S", quick)

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        syncs = Syncs(monkeypatch)
        for number in range(20):
            peer.asks(arguments={"path": str(number), "content": ""})
        assert {(await peer.receive())["type"] for _ in range(20)} == {"permit"}
        assert syncs.count <= 2
        await peer.close()

    play(home, scenario)


@pytest.mark.usefixtures("unhurried")
def test_a_call_alone_is_on_disk_when_its_permit_comes_and_no_thread_was_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "QUICK_S", 1000.0)
    parts = build(home)
    handed_over: list[object] = []
    later = parts.ledger.append_async
    monkeypatch.setattr(
        parts.ledger, "append_async", lambda entry, then=None: (handed_over.append(entry), later(entry, then))[1]
    )

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        handed_over.clear()
        syncs = Syncs(monkeypatch)
        for number in range(3):
            permit = await peer.ask(arguments={"path": str(number), "content": ""})
            assert permit["type"] == "permit"
            assert syncs.count == number + 1
        assert handed_over == []
        await peer.close()

    play(home, scenario, parts=parts)
