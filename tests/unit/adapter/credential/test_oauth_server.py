"""What the real provider does not do by itself: certificates of clients, metadata that leads astray, odd nonces."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.credential.http import Unsent
from forestall.adapter.credential.oauth import OAuthBroker
from forestall.adapter.credential.oauth_server import metadata_url
from forestall.core.ask import CannotDo
from forestall.core.model import Lease
from forestall.credentials.oauth import open_broker
from forestall.proof.encoding import decode
from tests.backends.leases import READ, action, context, grant, lease, permit, table
from tests.backends.upstream import write_files, written
from tests.unit.adapter.credential.raw import Peer, Raw
from tests.unit.adapter.credential.test_http import asks_for_a_certificate, pair
from tests.unit.adapter.oidc.site import roots

GOOD = {"access_token": "t-1", "token_type": "Bearer", "expires_in": 30, "scope": "crm.read"}


def opened(folder: Path, **given: str) -> tuple[OAuthBroker, Lease]:
    write_files(folder)
    text = written(**{"introspect": "", "resource": "", **given})
    broker = open_broker(table(folder, text), context(folder))
    return broker, lease(broker.plan(permit(READ), action(), grant()))


def answering(*answers: tuple[str, dict[str, Any], str]) -> Callable[[Peer], None]:
    """One after the other: status, JSON, more headers."""
    left = list(answers)

    def play(peer: Peer) -> None:
        peer.hear()
        status, said, more = left.pop(0)
        body = json.dumps(said).encode()
        peer.say(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body)

    return play


def forms(server: Raw) -> list[str]:
    return [heard.split(b"\r\n\r\n", 1)[1].decode() for heard in server.heard]


def test_a_client_shows_its_certificate_and_nothing_else(tmp_path: Path) -> None:
    pair(tmp_path)
    (tmp_path / "roots.pem").write_text(roots())
    client = '{ id = "forestall", certificate_file = "client.pem.cert", certificate_key_file = "client.key" }'
    (tmp_path / "client.pem").rename(tmp_path / "client.pem.cert")
    with Raw(answering(("200 OK", GOOD, ""), ("200 OK", {}, "")), tls=asks_for_a_certificate()) as server:
        ends = {"token_endpoint": f'"{server.url}/t"', "revocation_endpoint": f'"{server.url}/r"'}
        broker, made = opened(tmp_path, client=client, ca_file='"roots.pem"', **ends)
        broker.revoke(replace(made, secret=broker.issue(made)))
    assert forms(server) == [
        "grant_type=client_credentials&scope=crm.read&client_id=forestall",
        "token=t-1&token_type_hint=access_token&client_id=forestall",
    ]


def test_where_metadata_is() -> None:
    name, older = "oauth-authorization-server", "openid-configuration"
    assert metadata_url("https://a.example/b/", name) == "https://a.example/.well-known/oauth-authorization-server/b"
    assert metadata_url("https://a.example", name) == "https://a.example/.well-known/oauth-authorization-server"
    assert metadata_url("https://a.example/b", older) == "https://a.example/b/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"issuer": "https://a.example"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"token_endpoint": "http://a.example/"}, "not https"),
        ({"token_endpoint": 1}, "not https"),
        ({"revocation_endpoint": "javascript:alert(1)"}, "not https"),
        ({"token_endpoint": None}, "not https"),
    ],
)
def test_metadata_that_leads_astray_is_none(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    said: dict[str, Any] = {}

    def play(peer: Peer) -> None:
        peer.hear()
        peer.answer(json.dumps(said).encode())

    with Raw(play) as server:
        said |= {"issuer": server.url, "token_endpoint": f"{server.url}/t"} | changes
        broker, made = opened(tmp_path, issuer=f'"{server.url}"')
        with pytest.raises(Unsent, match=says):
            broker.issue(made)
    assert len(server.heard) == 1


def test_metadata_that_is_not_there_is_looked_for_where_it_used_to_be(tmp_path: Path) -> None:
    said: dict[str, Any] = {}

    def play(peer: Peer) -> None:
        path = peer.hear().split(b" ")[1].decode()
        known = {"/.well-known/openid-configuration": said, "/t": GOOD}
        peer.answer(json.dumps(known.get(path, {})).encode(), "200 OK" if path in known else "404 Not Found")

    with Raw(play) as server:
        said |= {"issuer": server.url, "token_endpoint": f"{server.url}/t"}
        broker, made = opened(tmp_path, issuer=f'"{server.url}"')
        held = replace(made, secret=broker.issue(made))
        with pytest.raises(CannotDo, match="does not say where to revoke"):
            broker.revoke(held)


NONCE = ("400 Bad Request", {"error": "use_dpop_nonce"}, "DPoP-Nonce: n-1\r\n")


def test_a_nonce_is_brought_once_and_remembered(tmp_path: Path) -> None:
    bound = GOOD | {"token_type": "DPoP"}
    with Raw(answering(NONCE, ("200 OK", bound, "DPoP-Nonce: n-2\r\n"), NONCE, NONCE)) as server:
        broker, made = opened(tmp_path, token_endpoint=f'"{server.url}/t"', unrevocable="true", dpop="true")
        broker.issue(made)
        with pytest.raises(CannotDo, match="use_dpop_nonce"):
            broker.issue(replace(made, name=f"{made.name[:-1]}2"))
    proofs = [
        line.split(": ")[1]
        for heard in server.heard
        for line in heard.decode().split("\r\n")
        if line.startswith("dpop:")
    ]
    claims = [json.loads(decode(proof.split(".")[1])) for proof in proofs]
    assert [each.get("nonce") for each in claims] == [None, "n-1", "n-2", "n-1"]
    assert len({each["jti"] for each in claims}) == 4


def test_a_nonce_that_is_none_is_not_brought(tmp_path: Path) -> None:
    odd = ("400 Bad Request", {"error": "use_dpop_nonce"}, f'DPoP-Nonce: "{"n" * 600}"\r\n')
    with Raw(answering(odd, odd)) as server:
        broker, made = opened(tmp_path, token_endpoint=f'"{server.url}/t"', unrevocable="true", dpop="true")
        with pytest.raises(CannotDo, match="use_dpop_nonce"):
            broker.issue(made)
    assert len(server.heard) == 2


def test_a_token_that_nobody_can_revoke_is_over_when_it_has_expired(tmp_path: Path) -> None:
    with Raw(answering(("200 OK", GOOD, ""))) as server:
        broker, made = opened(tmp_path, token_endpoint=f'"{server.url}/t"', unrevocable="true")
        secret = broker.issue(made)
        with pytest.raises(CannotDo, match="cannot revoke"):
            broker.revoke(replace(made, secret=secret))
        broker.revoke(replace(made, secret=replace(secret, expires_at=1)))


@pytest.mark.parametrize("cnf", [None, "x", {}, {"jkt": 1}, {"jkt": "another"}])
def test_a_token_that_is_bound_to_another_key_is_given_to_nobody(tmp_path: Path, cnf: object) -> None:
    bound = ("200 OK", GOOD | {"token_type": "DPoP"}, "")
    told = ("200 OK", {"active": True, "scope": "crm.read", "cnf": cnf}, "")
    with Raw(answering(bound, told, ("200 OK", {}, ""), ("200 OK", {"active": False}, ""))) as server:
        names = {"token": "t", "revocation": "r", "introspection": "i"}
        ends = {f"{name}_endpoint": f'"{server.url}/{path}"' for name, path in names.items()}
        broker, made = opened(tmp_path, introspect="true", dpop="true", **ends)
        with pytest.raises(CannotDo, match="not bound to the key"):
            broker.issue(made)
    assert [heard.split(b" ")[1] for heard in server.heard] == [b"/t", b"/i", b"/r", b"/i"]
