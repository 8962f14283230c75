"""Tokens that are bound to a key, at a real authorization server and a resource that checks each proof: what is sent,
what a thief gets, and where the key never is.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from forestall.cli import main
from forestall.clock import Clock
from forestall.core.effects import Effect
from forestall.core.place import Place, Where
from forestall.credentials.oauth import open_broker
from forestall.home import Home
from forestall.pep.credential import Sought, lent
from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import encode
from forestall.proof.possession import make_proof
from forestall.server.placing import credential_json
from tests.backends.leases import READ, action, context, grant, lease, permit, table
from tests.backends.resource import Resource, resource
from tests.backends.upstream import Upstream, write_files, written
from tests.flow.test_remote import FULL, LENT, PER_CALL, gateway, served
from tests.identity.conftest import installed
from tests.mcpkit.home import home_of, stop
from tests.mcpkit.session import Session
from tests.points import entries, until
from tests.tokens import key

pytestmark = pytest.mark.slow

__all__ = ["installed"]

SCOPES = ", ".join(f'{effect} = ["crm.read"]' for effect in Effect)
CLASS = """\
[credentials.api]
backend = "oauth"
scope = "{scope}"
lifetime_s = 60
issuer = "{issuer}"
grant = "client_credentials"
resource = ["https://crm.example"]
introspect = true
dpop = {dpop}
scopes = {{ {scopes} }}
client = {{ id = "forestall", key_file = "client.pem" }}
place = {{ where = "header", name = "Authorization", template = "{scheme} {{token}}" }}
{server}
"""


@pytest.fixture(scope="module")
def shared(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    upstream = Upstream(tmp_path_factory.mktemp("upstream") / "log")
    yield upstream
    upstream.stop()


@contextmanager
def world(
    upstream: Upstream, policy: str, *, scope: str = "action", dpop: bool = True, server: str = ""
) -> Iterator[tuple[Home, Resource]]:
    """A home whose class `api` is for a server behind a resource that checks what comes."""
    with home_of({"full": FULL}, policy) as home, served("events") as url:
        write_files(home.root)
        scheme, issuer = "DPoP" if dpop else "Bearer", upstream.start().issuer
        text = CLASS.format(
            scope=scope, issuer=issuer, dpop=str(dpop).lower(), scheme=scheme, server=server, scopes=SCOPES
        )
        home.credentials.write_text(text)
        with resource(upstream, url.removesuffix("/mcp")) as before:
            yield home, before


def echo(client: Session, number: int) -> dict[str, Any]:
    client.call(number, "echo", text="hello")
    answer: dict[str, Any] = client.answer_to(number)["result"]
    assert "isError" not in answer or answer["isError"] is False, answer
    return answer


def everything(home: Home) -> bytes:
    return b"".join(file.read_bytes() for file in home.root.rglob("*") if file.is_file())


def up_to(far: Resource, verb: str) -> list[dict[str, Any]]:
    """All that came until one of this verb has: `GET` asks for the server's own stream, after which the gateway says
    nothing by itself; `DELETE` ends the session.
    """
    came: list[dict[str, Any]] = []

    def heard() -> bool:
        came.extend(far.seen())
        return any(one["verb"] == verb for one in came)

    until(heard)
    return came


def claims(proof: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(proof.split(".")[1] + "=="))
    return found


def send(one: Resource, verb: str, headers: dict[str, str], path: str = "/mcp") -> int:
    """As a thief: anything."""
    with closing(http.client.HTTPConnection("127.0.0.1", urlsplit(one.url).port, timeout=30)) as connection:
        connection.request(verb, path, b"{}", headers)
        return connection.getresponse().status


def test_every_message_of_a_task_has_a_proof_of_its_own_and_the_stream_and_the_end_too(shared: Upstream) -> None:
    with world(shared, LENT, scope="task", server='server = "full"') as (home, far):
        with Session(gateway(home, f"{far.url}/mcp?tenant=a")) as client:
            client.initialize()
            assert echo(client, 1)["content"][0]["text"]
            came = up_to(far, "GET")
            assert client.end()[0] == 0
        came += up_to(far, "DELETE")
        assert [one["why"] for one in came] == [""] * len(came)
        assert {"POST", "GET", "DELETE"} == {one["verb"] for one in came}
        assert {claims(one["dpop"])["htu"] for one in came} == {f"{far.url}/mcp"}
        assert len({claims(one["dpop"])["jti"] for one in came}) == len(came)
        (authorization,) = {one["authorization"] for one in came}
        scheme, token = authorization.split(" ")
        stop(home)
        assert scheme == "DPoP"
        assert token.encode() not in everything(home)
        kinds = [entry["kind"] for entry in entries(home)]
        assert kinds.count("leased") == kinds.count("revoked") == 1
        assert shared.told(token) == {"active": False}


@pytest.mark.parametrize("dpop", [True, False])
def test_a_token_of_a_call_goes_with_that_call_alone_under_its_own_scheme(shared: Upstream, dpop: bool) -> None:
    with world(shared, PER_CALL, dpop=dpop) as (home, far):
        far.seen(open=True)
        with Session(gateway(home, f"{far.url}/mcp")) as client:
            client.initialize()
            assert echo(client, 1)["content"]
            assert echo(client, 2)["content"]
            client.end()
        came = far.seen()
        stop(home)
    assert {one["why"] for one in came} == {""}
    sent = [one for one in came if one["authorization"] is not None]
    tokens = [one["authorization"].split(" ") for one in sent]
    assert [scheme for scheme, _ in tokens] == ["DPoP" if dpop else "Bearer"] * 2
    assert len({token for _, token in tokens}) == 2
    assert [one["dpop"] is not None for one in sent] == [dpop] * 2
    assert [one["dpop"] for one in came if one["authorization"] is None] == [None] * (len(came) - 2)


def test_a_nonce_is_brought_when_it_is_demanded_and_kept_for_the_next(shared: Upstream) -> None:
    with world(shared, LENT, scope="task", server='server = "full"') as (home, far):
        far.seen(nonce="first")
        with Session(gateway(home, f"{far.url}/mcp")) as client:
            client.initialize()
            came = far.seen(nonce="second")
            assert [one["why"] for one in came[:2]] == ["nonce", ""]
            assert "nonce" not in claims(came[0]["dpop"])
            assert echo(client, 1)["content"][0]["text"]
            client.end()
        came += far.seen()
    assert {claims(one["dpop"])["nonce"] for one in came if not one["why"]} == {"first", "second"}
    assert {one["why"] for one in came} == {"", "nonce"}
    refused = [claims(one["dpop"]).get("nonce") for one in came if one["why"]]
    assert set(refused) <= {None, "first"}
    assert len({one["dpop"] for one in came}) == len(came)


def test_a_thief_of_token_and_proof_gets_nothing(shared: Upstream) -> None:
    with (
        world(shared, LENT, scope="task", server='server = "full"') as (home, far),
        Session(gateway(home, f"{far.url}/mcp")) as client,
    ):
        client.initialize()
        assert echo(client, 1)["content"]
        (stolen, *_) = [one for one in up_to(far, "GET") if one["verb"] == "POST"]
        authorization, proof = stolen["authorization"], stolen["dpop"]
        token = authorization.split(" ")[1]
        own = key(Algorithm.ES256, "a thief's")
        mine = make_proof(
            own,
            method="POST",
            url=f"{far.url}/mcp",
            now=Clock()(),
            jti="one",
            access_token=token,
            nonce=None,
        )
        tries = {
            "0 proofs": ("POST", {"Authorization": authorization}, "/mcp"),
            "under the scheme Bearer": ("POST", {"Authorization": f"Bearer {token}", "DPoP": proof}, "/mcp"),
            "used before": ("POST", {"Authorization": authorization, "DPoP": proof}, "/mcp"),
            "another url": ("POST", {"Authorization": authorization, "DPoP": proof}, "/other"),
            "another method": ("DELETE", {"Authorization": authorization, "DPoP": proof}, "/mcp"),
            "another key": ("POST", {"Authorization": authorization, "DPoP": mine}, "/mcp"),
        }
        for verb, headers, path in tries.values():
            assert send(far, verb, headers, path) == 401
        assert [one["why"] for one in far.seen()] == list(tries)
        assert echo(client, 2)["content"], "and the token counts all the time"
        client.end()


def test_a_kill_ends_what_a_session_was_lent(shared: Upstream) -> None:
    with world(shared, LENT, scope="task", server='server = "full"') as (home, far):
        with Session(gateway(home, f"{far.url}/mcp")) as client:
            client.initialize()
            assert echo(client, 1)["content"]
            assert main(["kill", "--home", str(home.root), "--everything", "--why", "test"]) == 0
            client.end()
        token = far.seen()[0]["authorization"].split(" ")[1]
        stop(home)
        assert shared.told(token) == {"active": False}


def test_a_function_makes_proofs_and_never_has_the_key(shared: Upstream, tmp_path: Path) -> None:
    numbers = itertools.count(1)
    drawn: list[bytes] = []

    def random(size: int) -> bytes:
        drawn.append(hashlib.sha512(str(next(numbers)).encode()).digest()[:size])
        return drawn[-1]

    write_files(tmp_path)
    issuer = shared.start().issuer
    broker = open_broker(
        table(tmp_path, written(issuer=f'"{issuer}"', dpop="true")), replace(context(tmp_path), random=random)
    )
    with closing(broker), resource(shared, "http://127.0.0.1:9") as far:
        made = lease(broker.plan(permit(READ), action(), grant()))
        secret = broker.issue(made)
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        (d,) = [(int.from_bytes(one, "big") % (order - 1) + 1).to_bytes(32, "big") for one in drawn if len(one) == 40]
        place = Place(Where.HEADER, "Authorization", "DPoP {token}")
        whole = replace(made, place=place, secret=secret)
        credential = lent(whole, sought := Sought(), Clock()())
        frame = credential_json(whole)
        assert frame["bound"] == made.name
        shown = repr((secret, whole, credential, dict(credential), frame, sought._wanted, vars(broker)))
        for form in (d.hex(), encode(d), base64.b64encode(d).decode(), str(int.from_bytes(d, "big"))):
            assert form not in shown
        assert set(credential) == {"token"}
        for number in range(2):
            headers = {"Authorization": credential.value, "DPoP": credential.proof("POST", f"{far.url}/mcp?a={number}")}
            send(far, "POST", headers)
        far.seen(nonce="n")
        assert (
            send(far, "POST", {"Authorization": credential.value, "DPoP": credential.proof("POST", f"{far.url}/mcp")})
            == 401
        )
        with_nonce = credential.proof("POST", f"{far.url}/mcp", "n")
        send(far, "POST", {"Authorization": credential.value, "DPoP": with_nonce})
        assert [one["why"] for one in far.seen()] == ["nonce", ""]
