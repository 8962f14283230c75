"""A grant is for us, for the client that presents it, of the tenant that was configured, and counts once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import digest
from forestall.proof.fault import Fault
from forestall.proof.id_jag import GrantIssuer, IdentityGrant, verify_identity_grant
from forestall.proof.jwk import SigningKey
from forestall.proof.possession import Proof, make_proof, verify_proof
from tests.tokens import NOW, SECONDS, key, keys, refused, token, without

SIGNER = key(Algorithm.RS256)
HOLDER = key(Algorithm.ES256, "holder")
TYPE = "oauth-id-jag+jwt"
URL = "https://forestall.example/token"
ISSUER = GrantIssuer(
    issuer="https://idp.example",
    audience="https://forestall.example",
    algorithms=frozenset({Algorithm.RS256, Algorithm.ES256}),
    tenant="acme",
)
CLAIMS: dict[str, Any] = {
    "iss": ISSUER.issuer,
    "sub": "alice",
    "aud": ISSUER.audience,
    "client_id": "front-end",
    "jti": "j",
    "iat": SECONDS,
    "exp": SECONDS + 300,
    "resource": "https://mcp.example/",
    "scope": "orders.read orders.write",
    "auth_time": SECONDS - 60,
    "acr": "2",
    "amr": ["pwd"],
}


def check(
    claims: dict[str, Any],
    issuer: GrantIssuer = ISSUER,
    *,
    now: int = NOW,
    signer: SigningKey = SIGNER,
    proof: Proof | None = None,
    certificate: bytes | None = None,
    **header: Any,
) -> IdentityGrant:
    return verify_identity_grant(
        token(claims, signer, **{"typ": TYPE, **header}),
        keys(signer),
        issuer,
        client="front-end",
        proof=proof,
        certificate=certificate,
        now=now,
    )


def shown(holder: SigningKey) -> Proof:
    made = make_proof(holder, method="POST", url=URL, now=NOW, jti="p", access_token=None, nonce=None)
    return verify_proof(made, method="POST", url=URL, now=NOW, access_token=None, nonces=None)


def test_a_grant_is_a_user_and_a_client() -> None:
    found = check(CLAIMS)
    assert (found.issuer, found.subject, found.tenant, found.client) == (ISSUER.issuer, "alice", "acme", "front-end")
    assert (found.expires_at, found.signed_in_at, found.context) == (NOW + 300_000, NOW - 60_000, "2")
    assert found.scope == ("orders.read", "orders.write")
    assert found.resources == ("https://mcp.example/",)


def test_a_grant_need_not_limit_anything() -> None:
    found = check(without(CLAIMS, "resource", "scope", "auth_time", "acr", "amr"))
    assert (found.scope, found.resources, found.signed_in_at, found.context) == (None, (), None, None)
    assert check({**CLAIMS, "resource": ["https://a.example", "https://b.example"]}).resources[1] == "https://b.example"


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "https://idp.example/"}, Fault.WRONG_ISSUER),
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"aud": [ISSUER.audience, "https://other.example"]}, Fault.WRONG_AUDIENCE),
        ({"client_id": "other"}, Fault.WRONG_SUBJECT),
        ({"iat": SECONDS + 31}, Fault.CLOCK),
        ({"nbf": SECONDS + 31}, Fault.NOT_YET_VALID),
        ({"exp": SECONDS - 30, "iat": SECONDS - 60}, Fault.EXPIRED),
        ({"exp": SECONDS + 601}, Fault.TOO_LONG),
        ({"tenant": "others"}, Fault.WRONG_TENANT),
        ({"tenant": ""}, Fault.MALFORMED),
        ({"authorization_details": []}, Fault.SCOPE),
        ({"scope": ""}, Fault.MALFORMED),
        ({"scope": "a  b"}, Fault.MALFORMED),
        ({"scope": "a\nb"}, Fault.MALFORMED),
        ({"scope": ["a"]}, Fault.MALFORMED),
        ({"resource": []}, Fault.MALFORMED),
        ({"resource": None}, Fault.MALFORMED),
        ({"resource": ""}, Fault.MALFORMED),
        ({"resource": ["a"] * 33}, Fault.MALFORMED),
        ({"cnf": {}}, Fault.NOT_BOUND),
        ({"cnf": {"jkt": HOLDER.public.thumbprint}}, Fault.NO_PROOF),
        ({"cnf": {"jkt": HOLDER.public.thumbprint, "x": "y"}}, Fault.MALFORMED),
        ({"sub": "a" * 256}, Fault.MALFORMED),
    ],
)
def test_a_grant_that_is_wrong_in_one_way_has_that_fault(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check({**CLAIMS, **members})


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "client_id", "jti", "iat", "exp"])
def test_a_grant_without_a_claim_is_malformed(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(without(CLAIMS, name))


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt", "client-authentication+jwt", "task-grant+jwt"])
def test_only_a_grant_is_one(typ: str | None) -> None:
    with refused(Fault.WRONG_TYPE):
        check(CLAIMS, typ=typ)


def test_a_bound_grant_is_its_holders() -> None:
    bound = {**CLAIMS, "cnf": {"jkt": HOLDER.public.thumbprint}}
    assert check(bound, proof=shown(HOLDER)).subject == "alice"
    with refused(Fault.OTHER_KEY):
        check(bound, proof=shown(key(Algorithm.ES256, "another")))
    certificate = b"the certificate, in DER"
    bound = {**CLAIMS, "cnf": {"x5t#S256": digest(certificate)}}
    assert check(bound, certificate=certificate).subject == "alice"
    with refused(Fault.OTHER_KEY):
        check(bound, certificate=b"another")


def test_one_issuer_of_many_tenants_speaks_for_one_of_them() -> None:
    several = replace(ISSUER, foreign_tenant="t-7")
    assert check({**CLAIMS, "tenant": "t-7"}, several).tenant == "acme"
    for claims in (CLAIMS, {**CLAIMS, "tenant": "t-8"}):
        with refused(Fault.WRONG_TENANT):
            check(claims, several)


def test_it_is_remembered_for_as_long_as_it_would_be_taken() -> None:
    found = check(CLAIMS)
    assert check(CLAIMS, now=found.once.until - 1).once == found.once
    with refused(Fault.EXPIRED):
        check(CLAIMS, now=found.once.until)
    assert check({**CLAIMS, "jti": "k"}).once.id != found.once.id
    assert check({**CLAIMS, "scope": "a"}).once.id == found.once.id


def test_a_client_has_to_be_known() -> None:
    made = token({**CLAIMS, "client_id": ""}, SIGNER, typ=TYPE)
    with pytest.raises(ValueError, match="no client"):
        verify_identity_grant(made, keys(SIGNER), ISSUER, client="", proof=None, certificate=None, now=NOW)


@pytest.mark.parametrize(
    "members",
    [
        {"issuer": "http://idp.example"},
        {"issuer": ISSUER.audience},
        {"audience": ""},
        {"tenant": ""},
        {"foreign_tenant": ""},
        {"algorithms": frozenset()},
        {"max_life_ms": 0},
        {"skew_ms": 60_001},
    ],
)
def test_a_rule_that_would_let_too_much_through_cannot_be_made(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(ISSUER, **members)
