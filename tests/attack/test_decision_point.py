"""What a hostile peer, or a fault of our own, could make the decision point do: forget a denial, or answer nobody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.store.state import open_state
from forestall.core.entry import Stream
from forestall.core.label import WORST
from forestall.home import Home
from forestall.server import connection, deciding
from forestall.server.point import Point
from forestall.wire import Parts, build
from tests.points import Peer, entries, kinds, make_home, play

REFUSED = {"reason": "invalid_message", "detail": "A member occurs twice in one object."}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


async def refused(peer: Peer, **changes: Any) -> Any:
    number = peer.request("refused", **{**REFUSED, **changes})
    answer = await peer.receive()
    assert answer["id"] == number
    return answer


def denials(home: Home) -> list[Any]:
    return list(entries(home, Stream.DENIALS))


# -- what the gateway refused for its form


def test_a_message_that_was_refused_for_its_form_is_a_recorded_denial(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        answer = await refused(peer)
        (entry,) = denials(home)
        assert answer["type"] == "deny"
        assert answer["decision"]["decision_id"] == entry["id"]
        assert (entry["kind"], entry["reason"], entry["tool"]) == ("denied", "invalid_message", "mcp/message")
        assert (entry["detail"], entry["task"]) == (REFUSED["detail"], peer.welcome["task"])
        await peer.close()

    play(home, scenario)


def test_it_is_bounded_and_counted(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        for _ in range(20):
            await refused(peer)
        await refused(peer, detail="x\n\x1b[2J" * 1000)
        one, other = denials(home)
        assert one["detail"] == REFUSED["detail"], "the same is counted, another is another"
        assert len(other["detail"]) == 512
        assert other["detail"].isprintable()
        await peer.close()

    play(home, scenario)


@pytest.mark.parametrize("changes", [{"reason": "no_policy"}, {"reason": 1}, {"detail": ["x"]}])
def test_one_that_says_something_else_ends_the_connection(home: Home, changes: dict[str, Any]) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        peer.request("refused", **{**REFUSED, **changes})
        assert (await peer.receive())["type"] == "refused"
        assert await peer.ended()
        await peer.close()

    play(home, scenario)
    assert denials(home) == []


# -- what is forgotten when a connection ends

WARY = """\
@id("while-trusted") permit (principal, action, resource)
when { context.labels.integrity == "trusted" && context.labels.confidentiality == "public" };
"""


def unattested(home: Home) -> Parts:
    """Where nobody can say which process connects. Else its instance is known: tests/flow/test_instances.py."""
    parts = build(home)
    parts.attestor = None
    return parts


def test_what_a_client_has_seen_is_not_forgotten_with_its_connection(tmp_path: Path) -> None:
    """Else whoever makes a gateway lose its decision point is clean again."""
    home = make_home(tmp_path, WARY)

    async def scenario(_: Point) -> None:
        first, second = await Peer.gateway(home.socket), await Peer.gateway(home.socket, again=True)
        assert (await first.ask())["type"] == "permit"
        assert (await second.ask())["decision"]["reason"] == "no_policy"
        await first.close()
        await second.close()

    play(home, scenario, parts=unattested(home))
    seen = [entry["seen"] for entry in entries(home) if entry["kind"] == "opened"]
    assert seen == [
        {"integrity": "trusted", "confidentiality": "public"},
        {"integrity": "untrusted", "confidentiality": "secret"},
    ]


def test_it_is_not_forgotten_by_a_restart_either(tmp_path: Path) -> None:
    home = make_home(tmp_path, WARY)
    task = ""

    async def scenario(point: Point) -> None:
        nonlocal task
        peer = await Peer.gateway(home.socket, again=True)
        task = peer.welcome["task"]
        assert point.parts.state.labels(task) == WORST
        rebuilt = open_state(tmp_path / "other.sqlite", point.parts.ledger)
        assert rebuilt.labels(task) == WORST
        rebuilt.close()
        await peer.close()

    play(home, scenario, parts=unattested(home))


# -- who may end it


@pytest.mark.parametrize("command", ["stop", "reload"])
def test_an_agent_of_another_user_neither_stops_it_nor_changes_its_rules(
    home: Home, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    ours = os.geteuid()

    async def scenario(point: Point) -> None:
        rules = point.parts.rules
        peer = await Peer.cli(home.socket)
        with monkeypatch.context() as other:
            other.setattr(os, "geteuid", lambda: ours + 1)
            peer.request(command)
            answer = await peer.receive()
        assert answer["type"] == "refused"
        assert "user" in answer["sentence"]
        assert await peer.ended()
        assert point.parts.rules is rules
        await peer.close()
        async with await Peer.gateway(home.socket) as next_one:
            assert (await next_one.ask())["type"] == "permit"

    play(home, scenario)


# -- faults of our own


def test_a_flow_that_raises_is_a_recorded_denial(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(_action: object) -> Any:
        raise RuntimeError("the value of an argument")
        yield

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        with monkeypatch.context() as broken:
            broken.setattr(deciding, "govern", raises)
            answer = await peer.ask()
        assert (answer["type"], answer["decision"]["reason"]) == ("deny", "unavailable")
        (entry,) = denials(home)
        assert entry["id"] == answer["decision"]["decision_id"]
        assert "RuntimeError" in entry["detail"]
        assert "value" not in entry["detail"]
        assert (await peer.ask())["type"] == "permit", "the next is decided as ever"
        await peer.close()

    play(home, scenario)


def test_a_flow_that_raises_after_its_permit_withholds_the_output(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    govern = deciding.govern

    def raises(action: Any) -> Any:
        yield from govern(action)
        raise RuntimeError

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        monkeypatch.setattr(deciding, "govern", raises)
        answer = await peer.ask()
        assert answer["type"] == "permit"
        assert (await peer.performed(answer))["type"] == "withhold"
        await peer.close()

    play(home, scenario)
    assert denials(home) == []
    assert kinds(home).count("settled") == 1


def test_a_list_that_cannot_be_judged_ends_its_connection(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> Any:
        raise RuntimeError

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        monkeypatch.setattr(connection, "judge", raises)
        peer.request("tools", tools=[])
        assert (await peer.receive())["type"] == "refused"
        assert await peer.ended()
        await peer.close()

    play(home, scenario)
