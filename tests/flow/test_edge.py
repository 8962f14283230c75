"""A resource that demands permits, end to end: decision point, gateway, a server on the MCP SDK; nothing is simulated.

The server is reached by whoever starts it: through the gateway, and around it. Both are the same audience, with one
store of burns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forestall.core.entry import Stream
from forestall.home import Home
from forestall.pep.mcp.presented import PERMIT, PROOF
from forestall.pep.presenting import Presenter
from forestall.proof.algorithm import Algorithm
from forestall_edge import SqliteBurns
from tests.mcpkit.home import home_of, stop
from tests.mcpkit.session import Session, decision, gateway
from tests.points import entries
from tests.tokens import key

pytestmark = pytest.mark.slow

AUDIENCE = "urn:example:files"
SERVER = [sys.executable, str(Path(__file__).parents[1] / "mcpkit" / "edge_server.py")]
TEE = str(Path(__file__).parents[1] / "mcpkit" / "tee.py")
SETTINGS = f'[permits.files]\naudience = "{AUDIENCE}"\n'
POLICY = """\
@id("all") permit (principal, action, resource)
unless { context has args && context.args has path && context.args.path == "/never" };
"""


@dataclass
class Place:
    home: Home
    folder: Path

    @property
    def server(self) -> list[str]:
        return [*SERVER, AUDIENCE, str(self.home.run / "permits.json"), str(self.folder / "burns")]

    @property
    def ran(self) -> list[str]:
        file = self.folder / "ran"
        return file.read_text().splitlines() if file.exists() else []

    def through(self, *options: str) -> Session:
        """The gateway's way; what the server gets is kept."""
        command = [sys.executable, TEE, str(self.folder / "wire"), *self.server]
        return Session(gateway(self.home.root, command, *options, name="files"), RAN=str(self.folder / "ran"))

    def around(self) -> Session:
        return Session(self.server, RAN=str(self.folder / "ran"))

    def captured(self) -> list[dict[str, Any]]:
        """The calls that the server got."""
        lines = map(json.loads, (self.folder / "wire.in").read_bytes().splitlines())
        return [line["params"] for line in lines if line.get("method") == "tools/call"]


@pytest.fixture(scope="module")
def prepared() -> Iterator[Home]:
    with home_of({"files": SERVER}, POLICY) as home:
        yield home


@pytest.fixture
def place(prepared: Home, tmp_path: Path) -> Iterator[Place]:
    with home_of({}, POLICY, settings=SETTINGS) as home:
        for file in prepared.catalogue.iterdir():
            (home.catalogue / file.name).write_bytes(file.read_bytes())
        SqliteBurns(tmp_path / "burns", lambda: time.time() - 60).close()  # the audience's store is not new
        yield Place(home, tmp_path)


def call(client: Session, number: int, params: dict[str, Any]) -> Any:
    client.send({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
    return client.answer_to(number)


def permitted(place: Place, **arguments: Any) -> dict[str, Any]:
    """A call through the gateway; what of it reached the server."""
    with place.through() as client:
        client.initialize()
        client.call(1, "write", **arguments)
        answer = client.answer_to(1)
        assert "isError" not in answer["result"] or answer["result"]["isError"] is False, answer
        client.end()
    return place.captured()[-1]


def test_a_call_through_the_gateway_runs_once_and_is_recorded(place: Place) -> None:
    sent = permitted(place, path="/srv/a", text="x")
    assert place.ran == ["write /srv/a x"]
    assert set(sent["_meta"]) >= {PERMIT, PROOF}
    stop(place.home)
    kinds = [entry["kind"] for entry in entries(place.home)]
    assert kinds == ["opened", "permitted", "settled", "closed"]


def test_a_call_around_the_gateway_is_refused_by_the_resource(place: Place) -> None:
    """No permit; a captured one; one for other arguments, another tool, another key, or that has run out."""
    with place.around() as client:
        client.initialize()
        sent = permitted(place, path="/srv/a", text="x")  # now, since it runs out soon
        stolen = sent["_meta"]
        thief = Presenter(key(Algorithm.ES256, "thief"), lambda: time.time_ns() // 1_000_000, lambda: "jti")
        own = {PERMIT: stolen[PERMIT], PROOF: thief.present(stolen[PERMIT], AUDIENCE)}
        for number, params in enumerate(
            [
                {"name": "write", "arguments": {"path": "/srv/b"}},
                sent,
                {**sent, "arguments": {"path": "/srv/b", "text": "x"}},
                {**sent, "name": "remove", "arguments": {"path": "/srv/a"}},
                {**sent, "_meta": own},
                {**sent, "_meta": {PERMIT: stolen[PERMIT]}},
                {**sent, "_meta": {**stolen, PERMIT: stolen[PROOF]}},
            ]
        ):
            answer = call(client, number, params)
            assert answer["error"]["code"] == -32010, params
            assert stolen[PERMIT] not in json.dumps(answer)
        client.send({"jsonrpc": "2.0", "id": 99, "method": "tools/list"})
        assert len(client.answer_to(99)["result"]["tools"]) == 2
        client.send({"jsonrpc": "2.0", "id": 100, "method": "resources/list"})
        assert client.answer_to(100)["error"]["code"] == -32010
        said = client.end()[1]
    for reason in ("missing", "burned", "other_arguments", "other_tool", "other_key", "wrong_type"):
        assert f"refused: {reason}" in said
    assert stolen[PERMIT] not in said
    assert place.ran == ["write /srv/a x"]


def test_what_a_client_calls_a_permit_never_reaches_the_server(place: Place) -> None:
    with place.through() as client:
        client.initialize()
        meta = {PERMIT: "mine", PROOF: "mine", "other": 1}
        answer = call(client, 1, {"name": "write", "arguments": {"path": "/srv/a"}, "_meta": meta})
        assert "error" not in answer
        client.end()
    (sent,) = place.captured()
    assert sent["_meta"]["other"] == 1
    assert "mine" not in (sent["_meta"][PERMIT], sent["_meta"][PROOF])


def test_a_denied_call_has_no_permit(place: Place) -> None:
    with place.through() as client:
        client.initialize()
        client.call(1, "write", path="/never")
        assert decision(client.answer_to(1))["decision"] == "deny"
        client.end()
    assert place.captured() == []
    stop(place.home)
    assert [entry["reason"] for entry in entries(place.home, Stream.DENIALS)][-1] == "no_policy"


def test_a_server_that_demands_nothing_gets_nothing(place: Place, tmp_path: Path) -> None:
    place.home.config.unlink()
    with Session(
        gateway(place.home.root, [sys.executable, TEE, str(tmp_path / "wire"), *SERVER], name="files"),
        RAN=str(tmp_path / "ran"),
    ) as client:
        client.initialize()
        client.call(1, "write", path="/srv/a")
        assert "error" not in client.answer_to(1)
        client.end()
    (sent,) = place.captured()
    assert PERMIT not in sent.get("_meta", {})
    assert not (place.home.keys / "permits.json").exists()
    assert not (place.home.run / "permits.json").exists()


def test_many_calls_at_once_each_have_a_permit(place: Place) -> None:
    with place.through() as client:
        client.initialize()
        for number in range(20):
            client.call(number, "write", path=f"/srv/{number}")
        answers = [client.read() for _ in range(20)]
        said = client.end()[1]
    assert [answer for answer in answers if "error" in answer] == [], said
    assert sorted(place.ran) == sorted(f"write /srv/{number} " for number in range(20))
    assert len({sent["_meta"][PERMIT] for sent in place.captured()}) == 20
