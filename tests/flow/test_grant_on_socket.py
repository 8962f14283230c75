"""From the token service to a tool call: a grant that was opened over HTTP is what a connection acts in."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from forestall.core.entry import Kind
from forestall.home import Home
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey
from forestall.server.listening import prepare
from forestall.server.point import Point
from tests import points
from tests.desk import CLIENTS, Agent, handing_on, opening, receiving, write_home
from tests.flow.test_token_race import Elsewhere
from tests.points import Peer, play
from tests.tokens import key

PERMITTED = {"path": "orders/4711/list.txt"}


class Here:
    """What an agent needs of a desk: the time."""

    @property
    def now(self) -> int:
        return time.time_ns() // 1_000_000


@pytest.fixture
def place(tmp_path: Path) -> tuple[Home, dict[str, SigningKey]]:
    home = Home(tmp_path / "home")
    prepare(home)
    keys = write_home(home.root, CLIENTS)
    home.config.write_text('[http]\nlisten = "127.0.0.1:0"\n')
    return home, keys


async def status(home: Home) -> dict[str, Any]:
    async with await Peer.cli(home.socket) as peer:
        peer.request("status")
        return await peer.receive()


async def elsewhere(home: Home, keys: dict[str, SigningKey], name: str, seed: str = "") -> Elsewhere:
    url = (await status(home))["http"]
    return Elsewhere(url, name, keys[name], key(Algorithm.ES256, seed or name))


async def asked(agent: Elsewhere, form: dict[str, str]) -> dict[str, Any]:
    code, body = await asyncio.to_thread(agent.ask, form)
    assert code == 200, body
    return body


async def on_socket(home: Home, agent: Elsewhere, token: str) -> dict[str, Any] | Peer:
    """The connection; or, where it was refused, the frame that says so."""
    peer = await Peer.connect(home.socket)
    nonce = await peer.challenge()
    proof = Agent(Here(), agent.name, agent.signing, agent.holding).on_socket(token, nonce)  # type: ignore[arg-type]
    hello = {"kind": "agent", "server": points.SERVER, "directory": "/tmp", "grant": token, "proof": proof}
    peer.send({"type": "hello", "protocol": points.PROTOCOL, "nonce": nonce, **hello})
    answer = await peer.receive()
    if answer["type"] == "welcome":
        peer.welcome = answer
        return peer
    await peer.close()
    return answer


async def acting(home: Home, agent: Elsewhere, token: str) -> Peer:
    found = await on_socket(home, agent, token)
    assert isinstance(found, Peer), found
    return found


def test_a_grant_from_the_service_is_acted_in_on_the_socket_and_outlives_the_connection(
    place: tuple[Home, dict[str, SigningKey]],
) -> None:
    home, keys = place

    async def scenario(_: Point) -> None:
        agent = await elsewhere(home, keys, "agent-a")
        grant = await asked(agent, opening())
        for _ in range(2):
            async with await acting(home, agent, grant["access_token"]) as peer:
                assert (peer.welcome["task"], peer.welcome["subject"]) == (grant["task"], "agent-a")
                permit = await peer.ask("read_file", PERMITTED)
                assert permit["type"] == "permit", permit
                await peer.performed(permit)
                outside = await peer.ask("read_file", {"path": "orders/4712/list.txt"})
                assert outside["decision"]["reason"] == "out_of_scope"

    play(home, scenario)
    entries = points.entries(home)
    assert [entry["kind"] for entry in entries].count(Kind.OPENED) == 1
    assert {entry["subject"]["id"] for entry in entries if entry["kind"] == Kind.PERMITTED} == {"agent-a"}
    assert Kind.CLOSED not in {entry["kind"] for entry in entries}
    points.verify_ledger(home)


def test_a_child_dies_with_its_parent_on_the_socket_too(place: tuple[Home, dict[str, SigningKey]]) -> None:
    home, keys = place

    async def scenario(_: Point) -> None:
        a, b = await elsewhere(home, keys, "agent-a"), await elsewhere(home, keys, "agent-b")
        root = await asked(a, opening())
        ticket = await asked(a, handing_on(root["access_token"], "agent-b", effects=["read"]))
        child = await asked(b, receiving(ticket["access_token"]))
        async with await acting(home, b, child["access_token"]) as peer:
            permit = await peer.ask("read_file", PERMITTED)
            await peer.performed(permit)
            denied = await peer.ask("write_file", {**PERMITTED, "content": "x"})
            assert denied["decision"]["reason"] == "out_of_scope"
            async with await acting(home, a, root["access_token"]) as above:
                assert (await above.ask("read_file", PERMITTED))["type"] == "permit"
        stolen = await on_socket(home, await elsewhere(home, keys, "agent-b", "another key"), child["access_token"])
        assert isinstance(stolen, dict)

    play(home, scenario)
    assert "agent-b" in {entry["subject"]["id"] for entry in points.entries(home) if entry["kind"] == Kind.OPENED}


def test_a_grant_is_there_after_a_restart_and_two_keys_of_one_identity_are_told(
    place: tuple[Home, dict[str, SigningKey]],
) -> None:
    home, keys = place
    home.config.write_text('[http]\nlisten = "127.0.0.1:0"\nissuer = "http://127.0.0.1:1"\n')
    held: dict[str, Any] = {}

    async def first(point: Point) -> None:
        port = point._http.address.port  # type: ignore[union-attr]
        agent = Elsewhere("http://127.0.0.1:1", "agent-a", keys["agent-a"], key(Algorithm.ES256, "agent-a"))
        held["agent"] = agent
        held["grant"] = await asked_at(port, agent)
        assert (await status(home))["shared_identities"] == []
        await asked_at(port, Elsewhere(agent.url, agent.name, agent.signing, key(Algorithm.ES256, "second")))
        (shared,) = (await status(home))["shared_identities"]
        assert (shared["id"], shared["workloads"]) == ("agent-a", 2)

    async def second(_: Point) -> None:
        async with await acting(home, held["agent"], held["grant"]["access_token"]) as peer:
            assert (await peer.ask("read_file", PERMITTED))["type"] == "permit"

    play(home, first)
    play(home, second)


async def asked_at(port: int, agent: Elsewhere) -> dict[str, Any]:
    """As `asked`, of a service whose name is another than where it listens."""
    code, body = await asyncio.to_thread(agent.ask, opening(), port)
    assert code == 200, body
    return body


def test_what_one_task_is_refused_says_nothing_about_another(place: tuple[Home, dict[str, SigningKey]]) -> None:
    home, keys = place
    other = {"path": "orders/4712/list.txt"}

    async def scenario(_: Point) -> None:
        a, b = await elsewhere(home, keys, "agent-a"), await elsewhere(home, keys, "agent-b")
        one, two = await asked(a, opening()), await asked(b, opening(parameters={"order": "4712"}))
        async with await acting(home, a, one["access_token"]) as outside:
            assert (await outside.ask("read_file", other))["decision"]["reason"] == "out_of_scope"
            async with await acting(home, b, two["access_token"]) as inside:
                assert (await inside.ask("read_file", other))["type"] == "permit"

    play(home, scenario)


@pytest.mark.parametrize("left", ['[[trust_domains]]\nname = "other.example"\ntenant = "other"\n', ""])
def test_a_trust_domain_that_is_taken_out_stops_who_is_connected(
    place: tuple[Home, dict[str, SigningKey]], left: str
) -> None:
    home, keys = place

    async def scenario(_: Point) -> None:
        agent = await elsewhere(home, keys, "agent-a")
        grant = await asked(agent, opening())
        async with await acting(home, agent, grant["access_token"]) as peer, await Peer.cli(home.socket) as command:
            assert (await peer.ask("read_file", PERMITTED))["type"] == "permit"
            (home.root / "identity.toml").write_text(left)
            command.request("reload")
            assert (await command.receive())["type"] == "done"
            assert (await peer.receive())["reason"] == "revoked"
            assert (await peer.ask("read_file", PERMITTED))["decision"]["reason"] == "revoked"

    play(home, scenario)
