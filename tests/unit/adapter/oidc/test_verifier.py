"""A token comes to the rule of its issuer and of its kind, and to no other; all rules of an issuer share its keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from forestall.adapter.oidc.checking import Check, check_blocking
from forestall.adapter.oidc.verifier import Verifier
from forestall.adapter.oidc.web import Request
from forestall.core.errors import Unavailable
from forestall.home import Home
from forestall.identities import load_identities
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault
from forestall.proof.id_jag import TYPE
from forestall.proof.jwk import SigningKey
from tests.tokens import NOW, SECONDS, key, keys, refused, token

T = TypeVar("T")

IDP, OTHER, AUDIENCE = "https://idp.example", "https://other.example/realm", "https://forestall.example"
SIGNERS = {IDP: key(Algorithm.ES256, "idp"), OTHER: key(Algorithm.ES256, "other")}

RULES = f"""
[[trust_domains]]
name = "example.org"
tenant = "acme"

[[issuers]]
kind = "listed"
issuer = "{IDP}"
audience = "{AUDIENCE}"
trust_domain = "example.org"
[[issuers.workloads]]
path = "/agents/billing"
claims = {{ sub = "a" }}

[[issuers]]
kind = "listed"
issuer = "{OTHER}"
audience = "{AUDIENCE}"
trust_domain = "example.org"
[[issuers.workloads]]
path = "/agents/shipping"
claims = {{ sub = "a" }}

[[users]]
issuer = "{IDP}"
client = "front-end"
tenant = "acme"

[[grants]]
issuer = "{IDP}"
audience = "{AUDIENCE}"
tenant = "acme"
"""


class World:
    def __init__(self, root: Path, rules: str = RULES) -> None:
        (root / "identity.toml").write_text(rules)
        self.asked: list[str] = []
        self.published = dict(SIGNERS)
        self.down: set[str] = set()
        self.more: dict[str, list[str]] = {}
        self.verifier = Verifier(load_identities(Home(root)), fetch=self.fetch)

    def fetch(self, request: Request) -> bytes:
        self.asked.append(request.url)
        for issuer, signer in self.published.items():
            if issuer in self.down and request.url.startswith(issuer):
                raise Unavailable("It does not answer.")
            if request.url == issuer + "/.well-known/openid-configuration":
                return json.dumps({"issuer": issuer, "jwks_uri": issuer + "/jwks", **self.more}).encode()
            if request.url == issuer + "/jwks":
                return json.dumps(keys(signer).to_json()).encode()
        raise Unavailable("There is no such place.")

    def check(self, check: Check[T]) -> T:
        return check_blocking(check, wait_s=60)

    def workload(self, text: str, now: int = NOW) -> str:
        return str(self.check(self.verifier.workload(text, now=now)).id)

    def user(self, text: str) -> str:
        check = self.verifier.user(text, now=NOW, nonce="n", access_token=None, max_sign_in_age_ms=60_000)
        return self.check(check).subject

    def grant(self, text: str, client: str = "front-end") -> str:
        check = self.verifier.grant(text, client=client, proof=None, certificate=None, now=NOW)
        return self.check(check).subject


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.verifier.close()


def made(issuer: str, signer: SigningKey | None = None, *, typ: str = "JWT", **claims: Any) -> str:
    members = {"iss": issuer, "sub": "a", "aud": AUDIENCE, "iat": SECONDS, "exp": SECONDS + 60, "jti": "j", **claims}
    return token(members, signer or SIGNERS[issuer], typ=typ)


def test_the_same_claims_of_two_issuers_are_two_workloads(world: World) -> None:
    assert world.workload(made(IDP)) == "spiffe://example.org/agents/billing"
    assert world.workload(made(OTHER)) == "spiffe://example.org/agents/shipping"
    assert len(world.asked) == 4


def test_all_rules_of_an_issuer_share_its_keys(world: World) -> None:
    assert world.workload(made(IDP)) == "spiffe://example.org/agents/billing"
    assert world.user(made(IDP, aud="front-end", nonce="n", auth_time=SECONDS)) == "a"
    assert world.grant(made(IDP, typ=TYPE, client_id="front-end")) == "a"
    assert len(world.asked) == 2


def test_an_issuer_vouches_for_what_its_rules_say_and_no_more(world: World) -> None:
    with refused(Fault.WRONG_ISSUER):
        world.user(made(OTHER, aud="front-end", nonce="n", auth_time=SECONDS))
    with refused(Fault.WRONG_ISSUER):
        world.grant(made(OTHER, typ=TYPE, client_id="front-end"))
    with refused(Fault.WRONG_ISSUER):
        world.workload(made("https://nobody.example", key()))
    assert world.asked == []


def test_a_token_of_one_kind_is_none_of_another(world: World) -> None:
    with refused(Fault.WRONG_TYPE):
        world.workload(made(IDP, typ=TYPE, client_id="front-end"))
    with refused(Fault.WRONG_TYPE):
        world.grant(made(IDP, client_id="front-end"))
    with refused(Fault.WRONG_AUDIENCE):
        world.user(made(IDP, nonce="n", auth_time=SECONDS))


def test_a_grant_is_its_clients(world: World) -> None:
    with refused(Fault.WRONG_SUBJECT):
        world.grant(made(IDP, typ=TYPE, client_id="front-end"), client="another")


def test_what_a_user_is_asked_for_is_asked_for(world: World) -> None:
    with refused(Fault.NONCE):
        world.user(made(IDP, aud="front-end", nonce="m", auth_time=SECONDS))
    with refused(Fault.TOO_OLD):
        world.user(made(IDP, aud="front-end", nonce="n", auth_time=SECONDS - 600))


def test_another_issuers_key_signs_nothing_in_this_ones_name(world: World) -> None:
    with refused(Fault.UNKNOWN_KEY):
        world.workload(made(IDP, SIGNERS[OTHER]))
    assert {url.removeprefix(IDP) for url in world.asked} == {"/.well-known/openid-configuration", "/jwks"}


def test_one_issuer_that_is_silent_silences_no_other(world: World) -> None:
    world.down.add(OTHER)
    with refused(Fault.NO_BUNDLE):
        world.workload(made(OTHER))
    assert world.workload(made(IDP)) == "spiffe://example.org/agents/billing"
    (problem,) = world.verifier.problems
    assert OTHER in problem


def test_only_a_key_that_is_unknown_is_asked_for(world: World) -> None:
    assert world.workload(made(IDP)) == "spiffe://example.org/agents/billing"
    later = NOW + 20_000
    for wrong in (made(IDP, sub="b"), made(IDP)[:-4] + "AAAA", made(IDP, aud="x")):
        with pytest.raises(Exception, match=r"wrong_subject|bad_signature|wrong_audience"):
            world.workload(wrong, later)
    assert len(world.asked) == 2
    world.published[IDP] = key(Algorithm.ES256, "rotated")
    assert world.workload(made(IDP, world.published[IDP]), later) == "spiffe://example.org/agents/billing"
    assert len(world.asked) == 4


def test_an_issuer_may_sign_with_what_any_of_its_rules_allows(tmp_path: Path) -> None:
    rules = RULES.replace('client = "front-end"', 'client = "front-end"\nalgorithms = ["EdDSA"]')
    world = World(tmp_path, rules)
    try:
        signer = world.published[IDP] = key(Algorithm.EDDSA, "idp")
        world.more = {"id_token_signing_alg_values_supported": ["EdDSA"]}
        assert world.user(made(IDP, signer, aud="front-end", nonce="n", auth_time=SECONDS)) == "a"
        with refused(Fault.ALGORITHM):
            world.workload(made(IDP, signer))
    finally:
        world.verifier.close()
