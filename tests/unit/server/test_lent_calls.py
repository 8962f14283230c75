"""A call with a credential at the decision point: who is told of it, what is written, and what a leak does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from forestall.core.ask import Issue, Plan, Revoke
from forestall.core.errors import SetupError
from forestall.core.model import Lease, Risk, Scope, Secret
from forestall.core.place import Place, Where
from forestall.home import Home
from forestall.rules import load_rules
from forestall.server import answers
from tests.points import SERVER, TOOLS, entries, make_home, pin, verify_ledger
from tests.unit.server.hand import Hand, play

SECRET = "pX7/w+Zq-93_kLmN"
POLICY = """\
@id("lent") @credential("key") permit (principal, action == Action::"files/write_file", resource);
@id("reads") permit (principal, action in Action::"read", resource);
"""
PLACE = Place(Where.ARGUMENT, "content", "{token}")


class Backend:
    """Says yes, and remembers what it was asked."""

    def __init__(self, place: Place = PLACE) -> None:
        self.place = place
        self.alive: set[str] = set()
        self.revoked: list[str] = []

    def plan(self, ask: Plan) -> Lease:
        permit = ask.permit
        assert permit.credential is not None
        return Lease(
            name=f"forestall-00000000-{permit.id}",
            credential=permit.credential,
            backend="test",
            task=permit.task,
            permit=permit.id,
            scope=Scope.ACTION,
            rights={},
            expires_at=permit.expires_at,
            place=self.place,
        )

    def issue(self, ask: Issue) -> Secret:
        self.alive.add(ask.lease.name)
        return Secret({"token": SECRET, "user": "somebody"})

    def revoke(self, ask: Revoke) -> None:
        self.alive.discard(ask.lease.name)
        self.revoked.append(ask.lease.name)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    backend, real = Backend(), answers.handlers

    def handlers(*args: Any, **kwargs: Any) -> Mapping[type, Any]:
        own = {Plan: backend.plan, Issue: backend.issue, Revoke: backend.revoke}
        return {**real(*args, **kwargs), **own}

    monkeypatch.setattr(answers, "handlers", handlers)
    return backend


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = hidden(make_home(tmp_path, POLICY))
    home.credentials.write_text('[credentials.key]\nbackend = "static"\nsecrets = { token = "file:key" }\n')
    return home


def hidden(home: Home) -> Home:
    """The content of a file is what a credential fills in."""
    file = home.catalogue / f"{SERVER}.toml"
    file.write_text(file.read_text().replace('content = ["content"]', 'content = []\nhidden = ["content"]'))
    return home


def ask(number: int, **more: str) -> dict[str, Any]:
    arguments = {"path": "a.txt", **more}
    frame = {"type": "ask", "id": number, "tool": f"{SERVER}/write_file", "pin": pin("write_file")}
    return {**frame, "arguments": arguments}


def performed(number: int, permit: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "performed", "id": number, "permit": permit["permit"]["id"], "fate": "done", **more}


async def until(hand: Hand, holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await hand.rest()
    raise AssertionError("it did not happen")


def risk_of(hand: Hand, connection: Any) -> Risk:
    return hand.parts.state.risk(connection.grant)


async def permit_of(hand: Hand, connection: Any, frame: dict[str, Any]) -> dict[str, Any]:
    connection.handle(frame)
    sent = hand.sent(connection)
    await until(hand, lambda: sent[-1].get("id") == frame["id"])
    return sent[-1]


def run(home: Home, scenario: Callable[[Hand], Awaitable[None]]) -> None:
    play(home, scenario)
    verify_ledger(home)
    for file in home.root.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_it_goes_to_the_connection_that_asked_and_nowhere_else(home: Home, backend: Backend) -> None:
    async def scenario(hand: Hand) -> None:
        asks, other = await hand.connect(), await hand.connect()
        heard = len(hand.sent(other))
        permit = await permit_of(hand, asks, ask(1))
        assert permit["credential"] == {
            "placed": [{"where": "argument", "name": "content", "value": SECRET}],
            "scrub": [SECRET],
        }
        assert len(backend.alive) == 1
        assert (await hand.report(asks, 2, permit["permit"]["id"]))["type"] == "release"
        assert backend.alive == set()
        assert SECRET not in repr(hand.sent(other)[heard:])

    run(home, scenario)
    assert [entry["kind"] for entry in entries(home) if entry["kind"] in {"leased", "revoked", "permitted"}] == [
        "permitted",
        "leased",
        "revoked",
    ]


def test_a_call_without_one_has_none(home: Home, backend: Backend) -> None:
    async def scenario(hand: Hand) -> None:
        connection = await hand.connect()
        frame = {"type": "ask", "id": 1, "tool": f"{SERVER}/read_file", "pin": pin("read_file")}
        permit = await permit_of(hand, connection, {**frame, "arguments": {"path": "a"}})
        assert permit["type"] == "permit"
        assert "credential" not in permit
        await hand.report(connection, 2, permit["permit"]["id"])

    run(home, scenario)


@pytest.mark.parametrize("name", ["content", "Content"])
def test_whoever_gives_the_hidden_argument_is_refused(home: Home, backend: Backend, name: str) -> None:
    async def scenario(hand: Hand) -> None:
        connection = await hand.connect()
        denial = await permit_of(hand, connection, ask(1, **{name: "mine"}))
        assert (denial["type"], denial["decision"]["reason"]) == ("deny", "invalid_arguments")
        assert backend.alive == set()

    run(home, scenario)


def test_where_it_cannot_be_put_in_place_nothing_is_begun_and_it_is_over(home: Home, backend: Backend) -> None:
    backend.place = Place(Where.ARGUMENT, "path", "{token}")

    async def scenario(hand: Hand) -> None:
        connection = await hand.connect()
        denial = await permit_of(hand, connection, ask(1))
        assert (denial["type"], denial["decision"]["reason"]) == ("deny", "unavailable")
        assert backend.alive == set()
        assert len(backend.revoked) == 1

    run(home, scenario)
    (settled,) = [entry for entry in entries(home) if entry["kind"] == "settled"]
    assert settled["fate"] == "not_started"
    assert "`hidden`" in settled["detail"]


def test_a_leak_is_withheld_recorded_and_raises_the_risk_of_the_task(home: Home, backend: Backend) -> None:
    async def scenario(hand: Hand) -> None:
        connection = await hand.connect()
        permit = await permit_of(hand, connection, ask(1))
        connection.handle(performed(2, permit, leaked=True))
        sent = hand.sent(connection)
        await until(hand, lambda: sent[-1].get("id") == 2)
        assert (sent[-1]["type"], sent[-1]["reason"]) == ("withhold", "leaked")
        assert backend.alive == set()
        await until(hand, lambda: risk_of(hand, connection) is Risk.HIGH)

    run(home, scenario)
    (settled,) = [entry for entry in entries(home) if entry["kind"] == "settled"]
    assert (settled["fate"], settled["leaked"]) == ("done", True)
    (ordered,) = [entry for entry in entries(home) if entry["kind"] == "ordered"]
    assert (ordered["order"], ordered["level"], ordered["by"]) == ("risk", "high", "forestall")
    assert ordered["why"] == "a credential came back in the output of files/write_file"


def test_a_leak_outside_of_calls_raises_it_too_and_a_flood_of_them_once(home: Home, backend: Backend) -> None:
    async def scenario(hand: Hand) -> None:
        connection = await hand.connect()
        for _ in range(50):
            connection.handle({"type": "leaked", "where": "notifications/message"})
            await hand.rest()
        await until(hand, lambda: risk_of(hand, connection) is Risk.HIGH)
        assert not connection.closed

    run(home, scenario)
    (ordered,) = [entry for entry in entries(home) if entry["kind"] == "ordered"]
    assert ordered["why"] == "a credential came back in notifications/message"


@pytest.mark.parametrize("frame", [{"type": "leaked"}, {"type": "leaked", "where": "x" * 600}])
def test_a_malformed_leak_ends_the_connection(home: Home, frame: dict[str, Any]) -> None:
    async def scenario(hand: Hand) -> None:
        connection = await hand.connect()
        connection.buffer_updated(_into(connection, frame))
        await hand.rest()
        assert connection.closed

    run(home, scenario)


def _into(connection: Any, frame: dict[str, Any]) -> int:
    from forestall.frame import encode

    data = encode(frame)
    connection.get_buffer(-1)[: len(data)] = data
    return len(data)


def test_the_verdict_on_a_tool_says_what_of_it_is_hidden(home: Home, backend: Backend) -> None:
    async def scenario(hand: Hand) -> None:
        connection = await hand.connect()
        await connection._judge(7, [TOOLS["write_file"][0], TOOLS["read_file"][0]])
        write, read = hand.sent(connection)[-1]["tools"]
        assert write["hide"] == ["content"]
        assert write["pin"] == pin("write_file")
        assert "hide" not in read

    run(home, scenario)


def test_policy_knows_of_no_hidden_argument(tmp_path: Path) -> None:
    speaks = 'permit (principal, action == Action::"files/write_file", resource) when { context.args.content == "" };'
    with pytest.raises(SetupError, match="content"):
        load_rules(hidden(make_home(tmp_path, f'@id("x") {speaks}')))
