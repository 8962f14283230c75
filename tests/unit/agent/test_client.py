"""What the agent's side sends, and what it makes of the answers: against the real listener, and routes that look."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from forestall.agent import Agent, ClientCertificate, JwtSvid, RegisteredKey, TaskRefused, TokenFile, new_key
from forestall.core.errors import SetupError, Unavailable
from forestall.proof.algorithm import Algorithm
from forestall.proof.client_assertion import ASSERTION_TYPE, Client, verify_client
from forestall.proof.jwk import key_set
from forestall.proof.possession import verify_proof
from forestall.server.http.message import Request, Response, json_response
from forestall.testing.authority import Authority
from tests.tokens import SECONDS, key, token
from tests.unit.adapter.oidc.site import roots
from tests.unit.server.http.test_tls import SETTINGS, write_server
from tests.web import beside

OWN = new_key()
GRANT = token({"task": "t", "exp": SECONDS}, key())


def now() -> int:
    return time.time_ns() // 1_000_000


class Desk:
    """Answers as it is told to, and remembers what it was asked."""

    def __init__(self, *answers: Response | dict[str, Any]) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        return answer if isinstance(answer, Response) else json_response(400 if "error" in answer else 200, answer)

    @property
    def forms(self) -> list[dict[str, Any]]:
        forms = [dict(parse_qsl(request.body.decode(), strict_parsing=True)) for request in self.requests]
        for form in forms:
            if "authorization_details" in form:
                form["authorization_details"] = json.loads(form["authorization_details"])
        return forms

    def ask(self, asking: Callable[[Agent], Any], **more: Any) -> Any:
        routes = {("POST", path): self for path in ("/token", "/revoke", "/introspect")}
        with beside(routes) as url:
            return asking(Agent(url, more.pop("identity", RegisteredKey("support", OWN)), **more))


GRANTED = {"access_token": GRANT, "token_type": "DPoP"}


def test_a_task_is_opened_with_an_assertion_and_a_proof() -> None:
    desk = Desk(GRANTED)
    held = desk.ask(lambda agent: agent.open("refund", parameters={"order": "1"}, purpose="p", lifetime_s=60))
    assert (held.token, held.task) == (GRANT, "t")
    (request,), (form,) = desk.requests, desk.forms
    detail = {"type": "urn:forestall:authorization:task", "mandate": "refund", "parameters": {"order": "1"}}
    assert form["authorization_details"] == [{**detail, "purpose": "p", "expires_in_s": 60}]
    assert form["grant_type"] == "client_credentials"
    issuer = request.url.removesuffix("/token")
    client = Client("support", key_set([OWN]), frozenset({Algorithm.EDDSA}))
    assert verify_client(form["client_assertion"], client, audience=issuer, now=now()).client == "support"
    proof = verify_proof(
        request.headers["dpop"], method="POST", url=request.url, now=now(), access_token=None, nonces=None
    )
    assert proof.thumbprint == held.key.public.thumbprint != OWN.public.thumbprint


def test_each_task_has_a_key_of_its_own_and_each_request_a_proof_of_its_own() -> None:
    desk = Desk(GRANTED, GRANTED)
    one, two = desk.ask(lambda agent: (agent.open("a"), agent.open("a")))
    assert one.key.public.thumbprint != two.key.public.thumbprint
    assert len({request.headers["dpop"] for request in desk.requests}) == 2
    assert len({form["client_assertion"] for form in desk.forms}) == 2


def test_for_a_user() -> None:
    desk = Desk(GRANTED, GRANTED)
    desk.ask(lambda agent: (agent.open("a", user_token="id"), agent.open("a", user_grant="jag")))
    signed_in, asserted = desk.forms
    assert signed_in["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert signed_in["subject_token_type"] == "urn:ietf:params:oauth:token-type:id_token"
    assert signed_in["subject_token"] == "id"
    assert asserted["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert asserted["assertion"] == "jag"


def test_the_life_of_a_task() -> None:
    desk = Desk(GRANTED, {"access_token": "a.b.c", "expires_in": 60}, GRANTED, GRANTED, {}, {"active": True})

    def asking(agent: Agent) -> None:
        held = agent.open("a")
        ticket = agent.delegate(held, to="shipping", tools=["shop/*"], budget={"write": 1})
        assert "a.b.c" not in repr(ticket)
        child = agent.accept(ticket)
        assert child.key is not None
        assert held.key is not None
        assert child.key.public != held.key.public
        assert agent.extend(held, expires_at=5).key is held.key
        agent.complete(held, failed=True)
        assert agent.introspect(child.token) == {"active": True}

    desk.ask(asking)
    _, handed, accepted, longer, ended, shown = desk.forms
    assert handed["requested_token_type"] == "urn:forestall:token-type:delegation"
    narrower = {"type": "urn:forestall:authorization:delegation", "to": "shipping", "tools": ["shop/*"]}
    assert handed["authorization_details"] == [{**narrower, "budget": {"write": 1}}]
    assert (accepted["subject_token"], accepted["subject_token_type"]) == ("a.b.c", handed["requested_token_type"])
    assert longer["authorization_details"] == [{"type": "urn:forestall:authorization:task", "expires_at": 5}]
    assert (ended["token"], ended["outcome"]) == (GRANT, "failed")
    assert shown["token"] == GRANT
    assert [request.path for request in desk.requests] == ["/token"] * 4 + ["/revoke", "/introspect"]


def nonce(value: str) -> Response:
    return json_response(400, {"error": "use_dpop_nonce"}, {"DPoP-Nonce": value})


def test_where_a_nonce_is_wanted_it_is_asked_again_with_it_and_it_is_kept() -> None:
    desk = Desk(nonce("first"), GRANTED, json_response(200, GRANTED, {"DPoP-Nonce": "next"}), GRANTED)
    desk.ask(lambda agent: [agent.open("a") for _ in range(3)])
    shown = []
    for request in desk.requests:
        proof = request.headers["dpop"]
        found = [None, "first", "next"]
        for each in found[1:]:
            try:
                verify_proof(
                    proof, method="POST", url=request.url, now=now(), access_token=None, nonces=frozenset({each or ""})
                )
            except Exception:
                continue
            shown.append(each)
            break
        else:
            shown.append(None)
    assert shown == [None, "first", "first", "next"]
    assert len({form["client_assertion"] for form in desk.forms}) == 4


def test_who_goes_on_asking_for_a_nonce_is_not_asked_for_ever() -> None:
    desk = Desk(nonce("a"), nonce("b"), nonce("c"))
    with pytest.raises(TaskRefused) as caught:
        desk.ask(lambda agent: agent.open("a"))
    assert caught.value.error == "use_dpop_nonce"
    assert len(desk.requests) == 2


def test_a_refusal_says_why_and_where_the_operator_finds_it() -> None:
    said = {
        "error": "access_denied",
        "error_description": "The mandate does not let a task live that long.",
        "reason": "beyond_mandate",
        "retry": "final",
        "decision": "d1",
    }
    with pytest.raises(TaskRefused) as caught:
        Desk(said).ask(lambda agent: agent.open("a"))
    refused = caught.value
    assert (refused.error, refused.reason, refused.retry, refused.decision, refused.exit_code) == (
        "access_denied",
        "beyond_mandate",
        "final",
        "d1",
        77,
    )
    assert str(refused) == (
        "Refused (access_denied: beyond_mandate). The mandate does not let a task live that long. "
        "The operator finds it by d1."
    )
    with pytest.raises(TaskRefused, match=r"identity\.toml"):
        Desk(json_response(401, {"error": "invalid_client"})).ask(lambda agent: agent.open("a"))


@pytest.mark.parametrize(
    "answer",
    [
        Response(200, body=b"no JSON"),
        Response(200, body=b'{"access_token": "a", "access_token": "b"}'),
        Response(200, body=b"[]"),
        json_response(200, {}),
        json_response(200, {"access_token": 1}),
        json_response(200, {"error": "x"}),
        json_response(400, {}),
        Response(500),
        json_response(503, {"error": "temporarily_unavailable"}),
        Response(302, {"Location": "https://elsewhere.example/"}),
        Response(200, body=b" " * 300_000),
    ],
    ids=range(11),
)
def test_what_is_no_answer_is_not_taken_for_one(answer: Response) -> None:
    with pytest.raises(Unavailable):
        Desk(answer).ask(lambda agent: agent.open("a"))


def test_nobody_is_there() -> None:
    with beside({}) as url:
        pass
    with pytest.raises(Unavailable, match="does not answer"):
        Agent(url, RegisteredKey("support", OWN)).open("a")


@pytest.mark.parametrize("url", ["http://forestall.example", "forestall.example", "https://a@b", "https://b/?c", ""])
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(SetupError, match="cannot be a decision point"):
        Agent(url, RegisteredKey("support", OWN))


def test_other_ways_to_say_who_asks(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c\n")
    audiences: list[str] = []

    def supply(audience: str) -> str:
        audiences.append(audience)
        return "d.e.f"

    desk = Desk(GRANTED)
    desk.ask(lambda agent: agent.open("a"), identity=TokenFile(tmp_path / "token"))
    assert desk.forms[0]["client_assertion"] == "a.b.c"
    assert desk.forms[0]["client_assertion_type"] == ASSERTION_TYPE
    desk = Desk(GRANTED)
    desk.ask(lambda agent: agent.open("a"), identity=JwtSvid(supply))
    assert desk.forms[0]["client_assertion"] == "d.e.f"
    assert desk.forms[0]["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
    assert audiences == [desk.requests[0].url.removesuffix("/token")]
    (tmp_path / "token").unlink()
    with pytest.raises(Unavailable):
        Desk(GRANTED).ask(lambda agent: agent.open("a"), identity=TokenFile(tmp_path / "token"))


def test_over_tls_with_a_client_certificate_that_never_touches_the_disk(tmp_path: Path) -> None:
    import ssl

    write_server(tmp_path)
    (tmp_path / "ca.pem").write_text(roots())
    domain = Authority("example.org", now)
    shown = domain.x509_svid("/agent", through=(domain.subordinate(),))
    chain = "".join(map(ssl.DER_cert_to_PEM_cert, shown.chain)).encode()
    private = ssl.DER_cert_to_PEM_cert(shown.key).replace("CERTIFICATE", "PRIVATE KEY").encode()
    desk = Desk(GRANTED)
    more = {"root": tmp_path, "authorities": lambda: (domain.x509_bundle(),)}
    with beside({("POST", "/token"): desk}, more=more, **SETTINGS) as url:
        identity = ClientCertificate(lambda: (chain, private))
        agent = Agent(url, identity, ca_file=tmp_path / "ca.pem", bound_to_certificate=True)
        held = agent.open("a")
        assert held.key is None
        with pytest.raises(Unavailable, match="not who it should be"):
            Agent(url, identity).open("a")
        with pytest.raises(SetupError, match="do not go together"):
            Agent(url, ClientCertificate(lambda: (chain, b"")), ca_file=tmp_path / "ca.pem").open("a")
    (request,) = desk.requests
    assert request.certificate == shown.chain[0]
    assert "dpop" not in request.headers
    assert "client_assertion" not in desk.forms[0]
