"""Every way to be somebody, and every way to serve somebody, through the routes: what is believed, and what is not."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.ledger.log import FileLedger
from forestall.clock import Clock
from forestall.core.entry import Entry, Kind, Stream
from forestall.core.model import Assurance, Grant
from forestall.port import Position
from forestall.proof.encoding import digest
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import key_set
from forestall.proof.user import user_id
from forestall.server.oauth.authenticate import SVID_ASSERTION_TYPE
from forestall.testing.authority import Authority, Issued
from tests.desk import IDENTITY, ISSUER, Answer, Desk, desk_at, exchange, keys_of, opening
from tests.tokens import key, token
from tests.unit.adapter.oidc.site import WAIT_S, Asked, Site

ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

IDP = key(seed="the identity provider")
CLUSTER = key(seed="the cluster")
FRONT = key(seed="the front end")

RULES = """\
[[issuers]]
kind = "kubernetes"
issuer = "{site}/cluster"
audience = "https://forestall.example"
trust_domain = "example.org"
algorithms = ["EdDSA"]
jwks = "{site}/cluster"
loopback = true
[[issuers]]
kind = "github"
issuer = "{site}/github"
audience = "https://forestall.example"
trust_domain = "example.org"
algorithms = ["EdDSA"]
jwks = "{site}/cluster"
loopback = true
[[issuers.workloads]]
path = "/ci"
claims = {{ repository_id = "2", repository_owner_id = "1", event_name = "push" }}
[[users]]
issuer = "{site}/idp"
client = "front-end"
tenant = "acme"
algorithms = ["EdDSA"]
jwks = "{site}/idp"
loopback = true
[[grants]]
issuer = "{site}/idp"
audience = "https://forestall.example"
tenant = "acme"
algorithms = ["EdDSA"]
jwks = "{site}/idp"
loopback = true
[[front_ends]]
issuer = "front"
jwks = "front.jwks"
users = ["{site}/idp"]
[[trust_domains]]
name = "spiffe.example"
tenant = "acme"
bundle = "file"
file = "bundle.json"
"""


@dataclass
class World:
    desk: Desk
    site: Site
    authority: Authority

    @property
    def idp(self) -> str:
        return f"{self.site.url}/idp"

    def grant(self, answer: Answer) -> Grant:
        assert answer.status == 200, (answer.body, self.desk.denial(answer))
        found = self.desk.parts.state.find_grant(answer.task)
        assert found is not None
        return found

    def refused(self, answer: Answer, error: str, fault: Fault) -> None:
        assert answer.error == error
        assert set(answer.body) == {"error", "decision"}
        assert fault.value in self.desk.denial(answer)["detail"]
        assert self.desk.parts.state.open_tasks() == []

    def claims(self, **more: Any) -> dict[str, Any]:
        at = self.desk.now // 1000
        return {"iss": self.idp, "sub": "alice", "aud": "front-end", "iat": at, "exp": at + 300, **more}

    def id_token(self, **more: Any) -> str:
        return token(self.claims(**more), IDP)

    def id_jag(self, **more: Any) -> str:
        usual = {"aud": ISSUER, "client_id": "agent-a", "jti": "jag-1"}
        return token(self.claims(**{**usual, **more}), IDP, typ="oauth-id-jag+jwt")

    def said(self, words: str, **more: Any) -> str:
        at = self.desk.now // 1000
        usual = {
            "iss": "front",
            "aud": ISSUER,
            "iat": at,
            "exp": at + 300,
            "jti": "said-1",
            "user": {"iss": self.idp, "sub": "alice"},
            "request": words,
        }
        return token({**usual, **more}, FRONT, typ="task-request+jwt")

    def for_user(self, id_token: str, who: str = "agent-a", **members: Any) -> Answer:
        form = {**opening(**members), **exchange(id_token, ID_TOKEN)}
        return self.desk.agent(who).ask(form)

    def by_jag(self, id_jag: str, who: str = "agent-a", **members: Any) -> Answer:
        form = {**opening(**members), "grant_type": JWT_BEARER, "assertion": id_jag}
        return self.desk.agent(who).ask(form)

    def by_assertion(self, assertion: str, kind: str = "", headers: Any = None) -> Answer:
        agent = self.desk.agent("agent-a")
        form = {"client_assertion_type": kind or f"{JWT_BEARER.replace('grant-type', 'client-assertion-type')}"}
        proof = agent.proof() if headers is None else headers
        return self.desk.post("/token", {**opening(), **form, "client_assertion": assertion}, proof)

    def by_certificate(self, issued: Issued, **form: str) -> Answer:
        return self.desk.post("/token", {**opening(), **form}, {}, certificate=issued.chain[0], chain=issued.chain)


def answer(asked: Asked) -> None:
    keys = {"/idp": IDP, "/cluster": CLUSTER}
    if asked.path in keys:
        asked.say(json.dumps(key_set([keys[asked.path]]).to_json()).encode())
    else:
        asked.say(b"", 404)


@contextmanager
def world_at(root: Path) -> Iterator[World]:
    now = Clock()()
    authority = Authority("spiffe.example", lambda: now)
    root.mkdir()
    (root / "bundle.json").write_bytes(authority.bundle())
    (root / "front.jwks").write_text(keys_of(FRONT))
    with Site(answer, name=None) as site, desk_at(root, identity=IDENTITY + RULES.format(site=site.url)) as desk:
        desk.now = now
        yield World(desk, site, authority)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_at(tmp_path / "home") as found:
        yield found


@pytest.fixture
def heard(world: World) -> World:
    """Once the bundle was read, which a thread of its own does."""
    assert world.desk.parts.tokens is not None
    bundles, limit = world.desk.parts.tokens.verifiers.bundles, time.monotonic() + WAIT_S
    while time.monotonic() < limit:
        try:
            bundles.x509("spiffe.example", world.desk.now)
        except InvalidProof:
            threading.Event().wait(0.01)
        else:
            return world
    raise AssertionError("the bundle was not read")


# -- users


def test_a_task_serves_who_signed_in(world: World) -> None:
    found = world.grant(world.for_user(world.id_token()))
    assert found.user == f"{world.idp}#alice"
    assert found.holder == "agent-a"


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "https://other.example"}, Fault.WRONG_ISSUER),
        ({"aud": "another"}, Fault.WRONG_AUDIENCE),
        ({"exp": 1}, Fault.EXPIRED),
        ({"iat": 10**10}, Fault.CLOCK),
        ({"nbf": 10**10}, Fault.NOT_YET_VALID),
        ({"sub": ""}, Fault.MALFORMED),
    ],
)
def test_a_user_who_is_not_verified_is_not_served(world: World, members: dict[str, Any], fault: Fault) -> None:
    world.refused(world.for_user(world.id_token(**members)), "invalid_request", fault)


def test_a_workload_serves_users_of_its_own_tenant_alone(world: World) -> None:
    world.refused(world.for_user(world.id_token(), who="stranger"), "invalid_request", Fault.WRONG_TENANT)


@pytest.mark.parametrize("while_written", [Kind.USED, Kind.OPENED])
@pytest.mark.parametrize("how", ["id_token", "id_jag"])
def test_a_session_that_is_revoked_while_its_task_is_opened_opens_none(
    world: World, while_written: Kind, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever revokes it ends the tasks that are there, and this one was not."""
    desk = world.desk
    heard, ledger = desk.parts.hear(), desk.parts.ledger
    assert isinstance(ledger, FileLedger)

    def revoke(entry: Entry) -> None:
        if entry.kind is while_written:
            heard.sign_out(user_id(world.idp, "alice"), desk.now, desk.now)

    def append(entry: Entry) -> Position:
        revoke(entry)
        return FileLedger.append(ledger, entry)

    def append_async(entry: Entry, then: Any = None) -> Awaitable[Position]:
        revoke(entry)
        return FileLedger.append_async(ledger, entry, then)

    monkeypatch.setattr(ledger, "append", append)
    monkeypatch.setattr(ledger, "append_async", append_async)
    answer = world.for_user(world.id_token()) if how == "id_token" else world.by_jag(world.id_jag())
    assert answer.error == "invalid_grant"
    assert "access_token" not in answer.body
    assert desk.parts.state.open_tasks() == []
    assert desk.denial(answer)["detail"].endswith("they have to sign in again")
    assert [one["why"] for one in desk.entries(Stream.PERMITS, Kind.CLOSED)] == ["revoked"]


def test_an_issuer_that_is_silent_vouches_for_nobody(world: World) -> None:
    world.site.answer = lambda asked: asked.say(b"", 500)
    world.refused(world.for_user(world.id_token()), "invalid_request", Fault.NO_BUNDLE)


def test_an_id_jag_is_for_one_client_and_counts_once(world: World) -> None:
    world.refused(world.by_jag(world.id_jag(), who="agent-b"), "invalid_grant", Fault.WRONG_SUBJECT)
    jag = world.id_jag(resource=ISSUER, scope="work other")
    assert world.grant(world.by_jag(jag)).user == f"{world.idp}#alice"
    again = world.by_jag(jag)
    assert again.error == "invalid_client"
    assert Fault.REPLAYED.value in world.desk.denial(again)["detail"]


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"exp": 1}, Fault.EXPIRED),
        ({"exp": 10**10}, Fault.TOO_LONG),
        ({"iat": 10**10}, Fault.CLOCK),
        ({"resource": "https://other.example"}, Fault.SCOPE),
        ({"authorization_details": []}, Fault.SCOPE),
        ({"tenant": "other"}, Fault.WRONG_TENANT),
        ({"cnf": {"jkt": "x" * 43}}, Fault.OTHER_KEY),
        ({"cnf": {}}, Fault.NOT_BOUND),
    ],
)
def test_an_id_jag_that_does_not_hold_is_refused(world: World, members: dict[str, Any], fault: Fault) -> None:
    if members == {"cnf": {"jkt": "x" * 43}}:
        members = {"cnf": {"jkt": key(seed="another").public.thumbprint}}
    world.refused(world.by_jag(world.id_jag(**members)), "invalid_grant", fault)


def test_an_id_jag_that_names_other_mandates_is_not_for_this_one(world: World) -> None:
    answer = world.by_jag(world.id_jag(scope="other"))
    assert answer.error == "invalid_scope"


# -- what the user asked for


def test_what_the_user_asked_for_counts_in_the_words_of_the_front_end(world: World) -> None:
    (world.desk.home.policy / "q.cedar").write_text(
        '@id("asked") forbid (principal, action == Action::"forestall/open", resource)\n'
        'unless { context.args.request == "user" };\n'
    )
    world.desk.parts.reload()
    words = "Sort order 4711, please."
    found = world.grant(world.for_user(world.id_token(), signed_request=world.said(words)))
    assert found.request == "sha256:" + hashlib.sha256(words.encode()).hexdigest()
    again = world.for_user(world.id_token(), signed_request=world.said(words))
    assert Fault.REPLAYED.value in world.desk.denial(again)["detail"]
    asserted = world.for_user(world.id_token(), request=words)
    assert asserted.body["reason"] == "unclear_intent"


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "another"}, Fault.WRONG_ISSUER),
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"exp": 1}, Fault.EXPIRED),
        ({"exp": 10**10}, Fault.TOO_LONG),
        ({"user": {"iss": "https://other.example", "sub": "alice"}}, Fault.WRONG_SUBJECT),
        ({"user": "alice"}, Fault.MALFORMED),
        ({"more": 1}, Fault.MALFORMED),
        ({"request": ""}, Fault.MALFORMED),
    ],
)
def test_a_request_that_the_front_end_did_not_sign_like_this_is_refused(
    world: World, members: dict[str, Any], fault: Fault
) -> None:
    answer = world.for_user(world.id_token(), signed_request=world.said("Pay.", **members))
    world.refused(answer, "invalid_authorization_details", fault)


def test_a_request_is_good_for_the_user_who_made_it_alone(world: World) -> None:
    said = world.said("Pay.")
    answer = world.for_user(world.id_token(sub="bob"), signed_request=said)
    world.refused(answer, "invalid_authorization_details", Fault.WRONG_SUBJECT)
    nobody = world.desk.agent("agent-a").open(signed_request=said)
    world.refused(nobody, "invalid_authorization_details", Fault.WRONG_SUBJECT)


# -- workloads


def account(world: World, **more: Any) -> str:
    at = world.desk.now // 1000
    pod = {"name": "p-1", "uid": "pod-uid-1"}
    bound = {"namespace": "shop", "serviceaccount": {"name": "agent", "uid": "u"}, "pod": pod}
    usual = {"iss": f"{world.site.url}/cluster", "sub": "system:serviceaccount:shop:agent", "aud": ISSUER}
    return token({**usual, "iat": at, "exp": at + 600, "kubernetes.io": bound, **more}, CLUSTER)


def test_a_pod_is_an_instance_and_another_pod_is_another(world: World) -> None:
    first = world.grant(world.by_assertion(account(world)))
    assert first.holder == "spiffe://example.org/ns/shop/sa/agent"
    assert first.instance == f"{first.holder}#pod/pod-uid-1"
    bound = {
        "namespace": "shop",
        "serviceaccount": {"name": "agent", "uid": "u"},
        "pod": {"name": "p-2", "uid": "pod-uid-2"},
    }
    second = world.grant(world.by_assertion(account(world, **{"kubernetes.io": bound})))
    assert second.instance == f"{first.holder}#pod/pod-uid-2"


def test_a_run_is_an_instance(world: World) -> None:
    at = world.desk.now // 1000
    job = {
        "iss": f"{world.site.url}/github",
        "sub": "repo:a@1/b@2:ref:refs/heads/main",
        "aud": ISSUER,
        "iat": at,
        "exp": at + 300,
        "repository": "a/b",
        "repository_owner": "a",
        "repository_owner_id": "1",
        "repository_id": "2",
        "event_name": "push",
        "ref": "refs/heads/main",
        "run_id": "77",
        "run_attempt": "2",
    }
    found = world.grant(world.by_assertion(token(job, CLUSTER)))
    assert found.instance == "spiffe://example.org/ci#run/77/2"


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"aud": [ISSUER, "https://other.example"]}, Fault.WRONG_AUDIENCE),
        ({"exp": 1}, Fault.EXPIRED),
        ({"sub": "system:serviceaccount:shop:other"}, Fault.WRONG_SUBJECT),
    ],
)
def test_a_workload_token_that_does_not_hold_is_refused(world: World, members: dict[str, Any], fault: Fault) -> None:
    world.refused(world.by_assertion(account(world, **members)), "invalid_client", fault)


def test_a_workload_token_is_worth_nothing_without_a_key(world: World) -> None:
    world.refused(world.by_assertion(account(world), headers={}), "invalid_dpop_proof", Fault.NO_PROOF)


def test_a_jwt_svid_with_a_proof_opens_a_task(heard: World) -> None:
    found = heard.grant(heard.by_assertion(heard.authority.jwt_svid("/agent", [ISSUER]), SVID_ASSERTION_TYPE))
    assert (found.holder, found.trust_domain) == ("spiffe://spiffe.example/agent", "spiffe.example")
    assert found.instance == found.holder


def test_a_jwt_svid_that_does_not_hold_is_refused(heard: World) -> None:
    def by(svid: str) -> Answer:
        return heard.by_assertion(svid, SVID_ASSERTION_TYPE)

    now = heard.desk.now
    heard.refused(by(heard.authority.jwt_svid("/a", ["another"])), "invalid_client", Fault.WRONG_AUDIENCE)
    heard.refused(by(heard.authority.jwt_svid("/a", [ISSUER], exp=1)), "invalid_client", Fault.EXPIRED)
    foreign = Authority("example.org", lambda: now).jwt_svid("/a", [ISSUER])
    heard.refused(by(foreign), "invalid_client", Fault.WRONG_TRUST_DOMAIN)
    forged = Authority("spiffe.example", lambda: now).jwt_svid("/a", [ISSUER])
    heard.refused(by(forged), "invalid_client", Fault.BAD_SIGNATURE)


def test_an_x509_svid_is_who_it_is_and_the_key_as_well(heard: World) -> None:
    issued = heard.authority.x509_svid("/agent")
    answer = heard.by_certificate(issued)
    found = heard.grant(answer)
    assert found.holder == "spiffe://spiffe.example/agent"
    assert found.key == f"x5t#S256:{digest(issued.chain[0])}"
    assert answer.body["token_type"] == "N_A"
    token = {"token": answer.token}
    other = heard.authority.x509_svid("/agent")  # the same workload, with a certificate that was renewed
    refused = heard.desk.post("/revoke", token, {}, certificate=other.chain[0], chain=other.chain)
    assert Fault.OTHER_KEY.value in heard.desk.denial(refused)["detail"]
    done = heard.desk.post("/revoke", token, {}, certificate=issued.chain[0], chain=issued.chain)
    assert done.status == 200
    assert heard.desk.parts.state.open_tasks() == []


def test_a_certificate_that_names_nobody_here_is_refused(heard: World) -> None:
    now = heard.desk.now
    issued = heard.authority.x509_svid("/agent")
    heard.refused(heard.by_certificate(issued, client_id="another"), "invalid_client", Fault.WRONG_SUBJECT)
    forged = Authority("spiffe.example", lambda: now).x509_svid("/agent")
    heard.refused(heard.by_certificate(forged), "invalid_client", Fault.UNTRUSTED)
    foreign = Authority("other.example", lambda: now).x509_svid("/agent")
    heard.refused(heard.by_certificate(foreign), "invalid_client", Fault.WRONG_TRUST_DOMAIN)


def test_a_bundle_that_went_away_takes_its_workloads_along(heard: World) -> None:
    heard.desk.now += 601_000  # its bound, and nothing more was heard since
    late = Authority("spiffe.example", lambda: heard.desk.now)
    heard.refused(heard.by_certificate(late.x509_svid("/a")), "invalid_client", Fault.NO_BUNDLE)
    svid = late.jwt_svid("/a", [ISSUER])
    heard.refused(heard.by_assertion(svid, SVID_ASSERTION_TYPE), "invalid_client", Fault.NO_BUNDLE)


def test_each_kind_has_its_own_assurance(heard: World) -> None:
    answers = {
        Assurance.SVID: heard.by_certificate(heard.authority.x509_svid("/agent")),
        Assurance.OIDC: heard.by_assertion(account(heard)),
        Assurance.KEY: heard.desk.agent("agent-a").open(),
    }
    opened = {entry["task"]: entry["subject"]["assurance"] for entry in heard.desk.entries(Stream.PERMITS, Kind.OPENED)}
    assert {kind: opened[each.task] for kind, each in answers.items()} == {kind: kind.value for kind in answers}
