"""Permits as tokens: only for servers that demand them, bound to a key that was shown on the connection, never else."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter import issuing
from forestall.cli import main
from forestall.core.entry import Stream
from forestall.home import Home
from forestall.pep.presenting import Presenter
from forestall.server.http.message import Request
from forestall.server.permit_routes import PATH, permit_routes
from forestall.server.point import Point
from forestall_edge import FixedKeys, KeyFile, MemoryBurns, Reason, Verifier, read_trust
from forestall_edge.keys import Trust
from tests.edges import refused
from tests.points import SERVER, Peer, entries, make_home, pin, play
from tests.tokens import stream

AUDIENCE = "https://files.example/mcp"
SETTINGS = f'[permits.{SERVER}]\naudience = "{AUDIENCE}"\ninstance = "one"\n'
ARGUMENTS = {"path": "/srv/a", "content": "x"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path, settings=SETTINGS)


def presenter(point: Point, seed: str = "gateway") -> Presenter:
    return Presenter.make(stream(seed), point.parts.now, lambda: secrets.token_hex(8))


async def greeted(home: Home) -> tuple[Peer, str]:
    """A connection, and its nonce."""
    peer = await Peer.connect(home.socket)
    nonce = await peer.challenge()
    peer.send({"type": "hello", "protocol": 2, "nonce": nonce, "kind": "agent", "server": SERVER, "directory": "/tmp"})
    peer.welcome = await peer.receive()
    assert peer.welcome["type"] == "welcome", peer.welcome
    return peer, nonce


async def bound(home: Home, holder: Presenter) -> Peer:
    peer, nonce = await greeted(home)
    peer.send({"type": "bind", "proof": holder.bind(nonce)})
    return peer


def verifier(trust: Trust, point: Point) -> Verifier:
    burns = MemoryBurns(lambda: 0)
    return Verifier(FixedKeys(trust), AUDIENCE, burns, "one", now=lambda: point.parts.now() / 1000)


def published(home: Home) -> Trust:
    return KeyFile(home.run / "permits.json").trust()


def test_a_permit_for_a_server_that_demands_one_is_a_token_that_it_takes(home: Home) -> None:
    async def scenario(point: Point) -> None:
        holder = presenter(point)
        async with await bound(home, holder) as peer:
            assert peer.welcome["permits"] == {"audience": AUDIENCE}
            answer = await peer.ask(arguments=ARGUMENTS)
            token, shown = answer["permit"]["token"], answer["permit"]
            edge = verifier(published(home), point)
            proof = holder.present(token, AUDIENCE)
            permit = edge.verify(token, proof, f"{SERVER}/write_file", ARGUMENTS, pin=pin("write_file"))
            assert (permit.id, permit.task, permit.pin) == (shown["id"], peer.welcome["task"], shown["pin"])
            assert permit.subject == peer.welcome["subject"]
            assert permit.expires_at * 1000 <= shown["expires_at"]
            assert permit.policy == peer.welcome["policy_digest"]
            assert permit.effects == ("write",)
            assert await peer.performed(answer)
            with refused(Reason.BURNED):
                edge.verify(token, holder.present(token, AUDIENCE), f"{SERVER}/write_file", ARGUMENTS)

    play(home, scenario)


def test_without_a_key_nothing_of_such_a_server_is_permitted(home: Home) -> None:
    async def scenario(_: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            answer = await peer.ask()
            assert (answer["type"], answer["decision"]["reason"]) == ("deny", "unavailable")
            (entry,) = entries(home, Stream.DENIALS)
            assert "shown no key" in entry["detail"]
        async with await Peer.gateway(home.socket, server="other") as peer:  # nor by the name of another
            assert "permits" not in peer.welcome
            assert (await peer.ask())["type"] == "deny"

    play(home, scenario)
    assert "permitted" not in [entry["kind"] for entry in entries(home)]


@pytest.mark.parametrize("wrong", ["nonce", "garbage", "empty", "none", "number", "twice", "large", "grant"])
def test_a_key_that_is_not_shown_ends_the_connection(home: Home, wrong: str) -> None:
    async def scenario(point: Point) -> None:
        holder = presenter(point)
        peer, nonce = await greeted(home)
        frames: dict[str, list[dict[str, Any]]] = {
            "nonce": [{"proof": holder.bind("another")}],
            "garbage": [{"proof": "a.b.c"}],
            "empty": [{"proof": ""}],
            "none": [{}],
            "number": [{"proof": 1}],
            "twice": [{"proof": holder.bind(nonce)}, {"proof": presenter(point, "other").bind(nonce)}],
            "large": [{"proof": "a" * 40_000}],
            "grant": [{"proof": holder._proof("CONNECT", "forestall:socket", "a token", nonce)}],
        }
        for frame in frames[wrong]:
            peer.send({"type": "bind", **frame})
        said = await peer.receive()
        assert said["type"] == "refused"
        assert "a.b.c" not in json.dumps(said)
        assert await peer.ended()
        await peer.close()

    play(home, scenario)


def test_a_token_of_one_connection_is_no_good_with_the_key_of_another(home: Home) -> None:
    async def scenario(point: Point) -> None:
        one, other = presenter(point, "one"), presenter(point, "other")
        async with await bound(home, one) as peer, await bound(home, other):
            answer = await peer.ask(arguments=ARGUMENTS)
            token = answer["permit"]["token"]
            with refused(Reason.OTHER_KEY):
                verifier(published(home), point).verify(
                    token, other.present(token, AUDIENCE), f"{SERVER}/write_file", ARGUMENTS
                )

    play(home, scenario)


def test_an_order_raises_the_epoch_and_voids_what_was_permitted_before(home: Home) -> None:
    async def scenario(point: Point) -> None:
        holder = presenter(point)
        async with await bound(home, holder) as peer, await Peer.cli(home.socket) as person:
            answer = await peer.ask(arguments=ARGUMENTS)
            before = published(home)
            person.request("order", order="suspend", reach="task", name="some-other-task")
            assert (await person.receive())["type"] in {"done", "not_done", "refused"}
            after = published(home)
            assert after.epoch == before.epoch + 1 == point.parts.state.epoch
            token = answer["permit"]["token"]
            with refused(Reason.OLD_EPOCH):
                verifier(after, point).verify(token, holder.present(token, AUDIENCE), f"{SERVER}/write_file", ARGUMENTS)

    play(home, scenario)


def test_a_rotated_key_signs_and_is_published(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(point: Point) -> None:
        holder = presenter(point)
        old = point.parts.permits.keys
        assert old is not None
        issuing.rotate(home.keys, now=point.parts.now(), random=stream("new"), kind=issuing.PERMITS)
        point.parts.reload()
        assert len(published(home).keys) == 2
        async with await bound(home, holder) as peer:
            answer = await peer.ask(arguments=ARGUMENTS)
            token = answer["permit"]["token"]
            edge = verifier(published(home), point)
            assert edge.verify(token, holder.present(token, AUDIENCE), f"{SERVER}/write_file", ARGUMENTS)
            only_old = Trust(
                published(home).issuer, {str(old.current.public.kid): next(iter(edge._keys.trust().keys.values()))}
            )
            with refused(Reason.UNKNOWN_KEY):
                verifier(only_old, point).verify(
                    token, holder.present(token, AUDIENCE), f"{SERVER}/write_file", ARGUMENTS
                )

    play(home, scenario)
    assert main(["keys", "jwks", "--home", str(home.root)]) == 0
    printed = read_trust(capsys.readouterr().out.encode())
    assert (printed.issuer, len(printed.keys)) == (published(home).issuer, 2)
    assert main(["keys", "--permits", "--json", "--home", str(home.root)]) == 0
    assert json.loads(capsys.readouterr().out)["signs"]["kid"] in printed.keys


def test_the_document_is_served(home: Home) -> None:
    async def scenario(point: Point) -> None:
        route = permit_routes(point.parts)["GET", PATH]
        answer = await route(Request("GET", PATH, "", {}, b"", "http://127.0.0.1" + PATH))
        assert read_trust(answer.body).issuer == published(home).issuer

    play(home, scenario)


def test_where_nobody_demands_any_there_is_no_key_no_document_and_no_token(tmp_path: Path) -> None:
    plain = make_home(tmp_path)

    async def scenario(point: Point) -> None:
        assert permit_routes(point.parts) == {}
        holder = presenter(point)
        async with await bound(plain, holder) as peer:  # shown unasked: harmless
            answer = await peer.ask(arguments=ARGUMENTS)
            assert "token" not in answer["permit"]
            await peer.performed(answer)

    play(plain, scenario)
    assert not (plain.keys / "permits.json").exists()
    assert not (plain.run / "permits.json").exists()
    assert main(["keys", "jwks", "--home", str(plain.root)]) == 78
