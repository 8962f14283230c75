"""Connections that act in a task of elsewhere: real tokens, the decision point, and its socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.server.listening import prepare
from forestall.server.point import Point
from tests.desk import Desk, desk_at
from tests.points import SERVER, Peer, entries, kinds, play, until_async, verify_ledger

PATH = {"path": "orders/4711/x"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path / "home") as found:
        prepare(found.home)
        yield found


def converse(desk: Desk, scenario: Callable[[Point], Awaitable[None]]) -> None:
    play(desk.home, scenario, parts=desk.parts)


def done(desk: Desk) -> list[str]:
    """What the ledger holds, the ids that were burnt aside."""
    return [kind for kind in kinds(desk.home) if kind != "used"]


async def enter(desk: Desk, token: str, **changes: Any) -> tuple[Peer, dict[str, Any]]:
    """A connection, and the answer to its hello."""
    peer = await Peer.connect(desk.home.socket)
    nonce = await peer.challenge()
    agent = desk.agent(changes.pop("agent", "agent-a"))
    proof = agent.on_socket(token, **{"nonce": nonce, **changes})
    hello = {"type": "hello", "protocol": 2, "nonce": nonce, "kind": "agent", "server": SERVER, "directory": "/tmp"}
    peer.send({**hello, "grant": token, "proof": proof})
    return peer, await peer.receive()


def test_it_acts_in_the_task_as_its_holder_and_leaves_it_open(desk: Desk) -> None:
    opened = desk.agent("agent-a").open()

    async def scenario(point: Point) -> None:
        first, welcome = await enter(desk, opened.token)
        second, also = await enter(desk, opened.token)
        assert (welcome["type"], welcome["task"], welcome["subject"]) == ("welcome", opened.task, "agent-a")
        assert (also["task"], welcome["assurance"]) == (opened.task, "key")
        assert (await first.ask("read_file", PATH))["type"] == "permit"
        assert (await first.ask("read_file", {"path": "orders/1/x"}))["decision"]["reason"] == "out_of_scope"
        await first.close()
        await until_async(lambda: len(point.parts.state.unsettled()) == 0)
        assert (await second.ask("read_file", PATH))["type"] == "permit"
        await second.close()

    converse(desk, scenario)
    assert done(desk) == ["opened", "permitted", "settled", "permitted", "settled"]
    permitted = next(entry for entry in entries(desk.home) if entry["kind"] == "permitted")
    assert permitted["subject"]["id"] == "agent-a"
    assert permitted["subject"]["process"].startswith("unix:")
    assert permitted["subject"]["executable"]["interpreter"] is True
    verify_ledger(desk.home)


@pytest.mark.parametrize("changes", [{"nonce": "another"}, {"nonce": None}, {"method": "POST"}, {"access_token": "x"}])
def test_a_proof_for_another_connection_or_thing_is_refused_and_not_told_why(
    desk: Desk, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    token = desk.agent("agent-a").open().token

    async def scenario(_: Point) -> None:
        peer, answer = await enter(desk, token, **changes)
        assert answer == {"type": "refused", "sentence": "This connection is refused: invalid_proof."}
        assert await peer.ended()
        await peer.close()

    converse(desk, scenario)
    assert "A grant at the socket is refused (invalid_proof): grant: " in capsys.readouterr().err
    assert done(desk) == ["opened"]


def test_what_its_proof_was_heard_with_is_good_for_no_other_connection(desk: Desk) -> None:
    token = desk.agent("agent-a").open().token

    async def scenario(_: Point) -> None:
        first = await Peer.connect(desk.home.socket)
        nonce = await first.challenge()
        proof = desk.agent("agent-a").on_socket(token, nonce)
        other = await Peer.connect(desk.home.socket)
        await other.greet({"kind": "agent", "server": SERVER, "grant": token, "proof": proof})
        assert (await other.receive())["sentence"] == "This connection is refused: invalid_proof."
        for peer in (first, other):
            await peer.close()

    converse(desk, scenario)


def test_a_task_that_is_over_is_entered_by_nobody_and_acts_for_nobody(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    opened = agent.open()

    async def scenario(_: Point) -> None:
        peer, welcome = await enter(desk, opened.token)
        assert welcome["type"] == "welcome"
        assert (await asyncio.to_thread(agent.revoke, opened.token)).status == 200
        told = await peer.receive()
        assert (told["type"], told["reason"]) == ("revoked", "task_ended")
        assert (await peer.ask("read_file", PATH))["decision"]["reason"] == "no_grant"
        late, answer = await enter(desk, opened.token)
        assert answer["sentence"] == "This connection is refused: task_ended."
        for one in (peer, late):
            await one.close()

    converse(desk, scenario)


def test_a_task_that_was_extended_goes_on(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    opened = agent.open(expires_in_s=60)

    async def scenario(_: Point) -> None:
        peer, _welcome = await enter(desk, opened.token)
        longer = await asyncio.to_thread(agent.extend, opened.token, desk.now + 600_000)
        assert longer.status == 200, longer.body
        desk.now += 120_000
        assert (await peer.ask("read_file", PATH))["type"] == "permit"
        late, stale = await enter(desk, opened.token)
        assert stale["sentence"] == "This connection is refused: invalid_proof."
        fresh, welcome = await enter(desk, longer.token)
        assert welcome["task"] == opened.task
        for one in (peer, late, fresh):
            await one.close()

    converse(desk, scenario)


def test_what_an_instance_has_seen_comes_with_it_into_the_task(desk: Desk) -> None:
    """And what it reads there is known in its other tasks."""
    file = desk.home.catalogue / "files.toml"
    told = 'integrity = "trusted", confidentiality = "public"'
    file.write_text(file.read_text().replace(told, 'integrity = "untrusted", confidentiality = "internal"'))
    (desk.home.policy / "p.cedar").write_text('@id("all") permit (principal, action, resource);')
    mandate = (desk.home.mandates / "work.toml").read_text().partition("[parameters")[0].replace("depth = 2\n", "")
    (desk.home.mandates / "default.toml").write_text(mandate)
    desk.parts.reload()
    one, other = desk.agent("agent-a").open(), desk.agent("agent-b").open()

    async def scenario(_: Point) -> None:
        reader, _welcome = await enter(desk, one.token)
        permit = await reader.ask("read_file", PATH)
        assert (await reader.performed(permit))["type"] == "release"
        writer, _welcome = await enter(desk, other.token, agent="agent-b")
        permit = await writer.ask("read_file", PATH)
        assert (await writer.performed(permit))["type"] == "release"
        own = await Peer.gateway(desk.home.socket)
        for peer in (reader, writer, own):
            await peer.close()

    converse(desk, scenario)
    seen = [(entry["task"], entry["seen"]["integrity"]) for entry in entries(desk.home) if entry["kind"] == "permitted"]
    assert seen == [(one.task, "trusted"), (other.task, "untrusted")]
    assert [entry["seen"]["integrity"] for entry in entries(desk.home) if entry["kind"] == "opened"][-1] == "untrusted"
