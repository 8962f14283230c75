"""A user is who signed in at this issuer for this client; a token for another client, sign-in or token is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault
from forestall.proof.jwk import SigningKey
from forestall.proof.user import User, UserIssuer, at_hash, verify_user
from tests.tokens import NOW, SECONDS, key, keys, refused, token, without

SIGNER = key(Algorithm.RS256)
ISSUER = UserIssuer(
    issuer="https://idp.example",
    client="front-end",
    algorithms=frozenset({Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA}),
    tenant="acme",
    max_age_ms=3_600_000,
)
CLAIMS: dict[str, Any] = {
    "iss": ISSUER.issuer,
    "sub": "alice",
    "aud": "front-end",
    "iat": SECONDS,
    "exp": SECONDS + 600,
    "auth_time": SECONDS - 60,
    "acr": "2",
    "nonce": "n-1",
}
ACCESS = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"


def check(
    claims: dict[str, Any], signer: SigningKey = SIGNER, now: int = NOW, typ: str | None = "JWT", **given: Any
) -> User:
    options: dict[str, Any] = {"nonce": None, "access_token": None, **given}
    return verify_user(token(claims, signer, typ=typ), keys(signer), ISSUER, now=now, **options)


def test_a_user_is_an_issuer_and_a_subject() -> None:
    assert check(CLAIMS) == User("https://idp.example", "alice", "acme", NOW + 600_000, NOW - 60_000, "2", NOW)
    bare = check(without(CLAIMS, "auth_time", "acr", "nonce"))
    assert (bare.signed_in_at, bare.context) == (None, None)
    assert (check(CLAIMS).vouched_at, bare.vouched_at) == (NOW - 60_000, NOW)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "https://idp.example/"}, Fault.WRONG_ISSUER),
        ({"aud": "other"}, Fault.WRONG_AUDIENCE),
        ({"aud": ["front-end", "other"]}, Fault.WRONG_AUDIENCE),
        ({"aud": ["front-end", "other"], "azp": "other"}, Fault.WRONG_AUDIENCE),
        ({"azp": "other"}, Fault.WRONG_AUDIENCE),
        ({"azp": None}, Fault.MALFORMED),
        ({"exp": SECONDS - 30}, Fault.EXPIRED),
        ({"iat": SECONDS + 31}, Fault.CLOCK),
        ({"nbf": SECONDS + 31}, Fault.NOT_YET_VALID),
        ({"iat": SECONDS - 3631}, Fault.TOO_OLD),
        ({"sub": ""}, Fault.MALFORMED),
        ({"sub": "a" * 256}, Fault.MALFORMED),
        ({"acr": 2}, Fault.MALFORMED),
        ({"auth_time": "now"}, Fault.MALFORMED),
    ],
)
def test_a_token_that_is_wrong_in_one_way_has_that_fault(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check({**CLAIMS, **members})


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "iat", "exp"])
def test_a_token_without_a_claim_is_malformed(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(without(CLAIMS, name))


def test_several_audiences_need_an_authorized_party() -> None:
    claims = {**CLAIMS, "aud": ["front-end", "other"], "azp": "front-end"}
    assert check(claims).subject == "alice"


def test_a_nonce_is_the_one_that_the_sign_in_began_with() -> None:
    assert check(CLAIMS, nonce="n-1").subject == "alice"
    for claims, nonce in ((CLAIMS, "n-2"), (without(CLAIMS, "nonce"), "n-1")):
        with refused(Fault.NONCE):
            check(claims, nonce=nonce)


@pytest.mark.parametrize("algorithm", sorted(ISSUER.algorithms))
def test_an_access_token_is_the_one_that_came_with_it(algorithm: Algorithm) -> None:
    signer = key(algorithm)
    half = at_hash({"alg": algorithm.value}, ACCESS)
    assert check({**CLAIMS, "at_hash": half}, signer, access_token=ACCESS).subject == "alice"
    assert check(CLAIMS, signer, access_token=ACCESS).subject == "alice"
    with refused(Fault.OTHER_TOKEN):
        check({**CLAIMS, "at_hash": half}, signer, access_token=ACCESS + "x")


def test_a_half_hash_is_the_published_one() -> None:
    """OpenID Connect Core 1.0, A.3."""
    assert at_hash({"alg": "RS256"}, ACCESS) == "77QmUPtjPfzWtF2AnpK9RQ"
    assert len(at_hash({"alg": "EdDSA"}, ACCESS)) == 43


def test_a_sign_in_may_have_to_be_recent() -> None:
    assert check(CLAIMS, max_sign_in_age_ms=60_000).subject == "alice"
    with refused(Fault.TOO_OLD):
        check({**CLAIMS, "auth_time": SECONDS - 91}, max_sign_in_age_ms=60_000)
    with refused(Fault.MALFORMED):
        check(without(CLAIMS, "auth_time"), max_sign_in_age_ms=60_000)


@pytest.mark.parametrize("kind", ["at+jwt", "dpop+jwt", "logout+jwt", "task-grant+jwt"])
def test_only_an_id_token_is_one(kind: str) -> None:
    with refused(Fault.WRONG_TYPE):
        check(CLAIMS, typ=kind)
    assert check(CLAIMS, typ=None) == check(CLAIMS)


def test_a_key_of_the_issuer_has_signed_it() -> None:
    with refused(Fault.UNKNOWN_KEY):
        verify_user(token(CLAIMS, key(Algorithm.ES256)), keys(SIGNER), ISSUER, now=NOW, nonce=None, access_token=None)
    with refused(Fault.ALGORITHM):
        check(CLAIMS, key(Algorithm.PS256))


@pytest.mark.parametrize(
    "members",
    [
        {"issuer": "http://idp.example"},
        {"client": ""},
        {"tenant": ""},
        {"algorithms": frozenset()},
        {"max_age_ms": 0},
        {"skew_ms": 60_001},
    ],
)
def test_a_rule_that_would_let_too_much_through_cannot_be_made(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(ISSUER, **members)
