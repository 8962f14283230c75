"""A client is who signed an assertion for us, now, once, with a key that was registered for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.client_assertion import MAX_LIFE_MS, Authenticated, Client, make_assertion, verify_client
from forestall.proof.fault import Fault
from forestall.proof.jwk import KeySet, SigningKey
from tests.tokens import NOW, SECONDS, key, keys, refused, token, unsigned, without

SIGNER = key(Algorithm.ES256)
AUDIENCE = "https://forestall.example"
CLIENT = Client("spiffe://example.org/agent", keys(SIGNER), frozenset({Algorithm.ES256}))
CLAIMS: dict[str, Any] = {
    "iss": CLIENT.id,
    "sub": CLIENT.id,
    "aud": AUDIENCE,
    "iat": SECONDS,
    "exp": SECONDS + 60,
    "jti": "j",
}


def check(
    claims: dict[str, Any], client: Client = CLIENT, now: int = NOW, signer: SigningKey = SIGNER, **header: Any
) -> Authenticated:
    return verify_client(token(claims, signer, **header), client, audience=AUDIENCE, now=now)


def test_a_client_is_who_signed() -> None:
    found = check(CLAIMS)
    assert (found.client, found.expires_at) == (CLIENT.id, NOW + 60_000)


@pytest.mark.parametrize("typ", [None, "JWT", "client-authentication+jwt", "application/client-authentication+jwt"])
def test_older_clients_call_it_a_jwt(typ: str | None) -> None:
    assert check(CLAIMS, typ=typ) == check(CLAIMS)


def test_what_we_make_is_what_we_take() -> None:
    made = make_assertion(SIGNER, client=CLIENT.id, audience=AUDIENCE, now=NOW, jti="j")
    assert verify_client(made, CLIENT, audience=AUDIENCE, now=NOW) == check(CLAIMS)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "another"}, Fault.WRONG_ISSUER),
        ({"sub": "another"}, Fault.WRONG_SUBJECT),
        ({"iss": "another", "sub": "another"}, Fault.WRONG_ISSUER),
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"aud": AUDIENCE + "/token"}, Fault.WRONG_AUDIENCE),
        ({"aud": [AUDIENCE, "https://other.example"]}, Fault.WRONG_AUDIENCE),
        ({"iat": SECONDS + 11, "exp": SECONDS + 60}, Fault.CLOCK),
        ({"nbf": SECONDS + 11}, Fault.NOT_YET_VALID),
        ({"iat": SECONDS - 60, "exp": SECONDS - 10}, Fault.EXPIRED),
        ({"exp": SECONDS + 301}, Fault.TOO_LONG),
        ({"jti": ""}, Fault.MALFORMED),
        ({"jti": "j" * 257}, Fault.MALFORMED),
        ({"jti": 7}, Fault.MALFORMED),
    ],
)
def test_an_assertion_that_is_wrong_in_one_way_has_that_fault(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check({**CLAIMS, **members})


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "iat", "exp", "jti"])
def test_an_assertion_without_a_claim_is_malformed(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(without(CLAIMS, name))


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ({"typ": "at+jwt"}, Fault.WRONG_TYPE),
        ({"typ": "dpop+jwt"}, Fault.WRONG_TYPE),
        ({"typ": "oauth-id-jag+jwt"}, Fault.WRONG_TYPE),
        ({"typ": "task-grant+jwt"}, Fault.WRONG_TYPE),
        ({"alg": "HS256"}, Fault.ALGORITHM),
        ({"alg": "none"}, Fault.UNSIGNED),
        ({"jwk": SIGNER.public.bare()}, Fault.EMBEDDED_KEY),
        ({"x5t": "AA"}, Fault.UNKNOWN_HEADER),
        ({"kid": "other"}, Fault.UNKNOWN_KEY),
    ],
)
def test_a_header_that_is_wrong_in_one_way_has_that_fault(header: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check(CLAIMS, **header)


def test_another_clients_key_is_no_key_of_this_one() -> None:
    other = key(Algorithm.ES256, "other")
    with refused(Fault.UNKNOWN_KEY):
        check(CLAIMS, signer=other)
    with refused(Fault.BAD_SIGNATURE):
        check(CLAIMS, signer=other, kid=SIGNER.public.kid)
    with refused(Fault.UNSIGNED):
        verify_client(unsigned({"alg": "none"}), CLIENT, audience=AUDIENCE, now=NOW)


def test_it_is_remembered_for_as_long_as_it_would_be_taken() -> None:
    found = check(CLAIMS)
    assert check(CLAIMS, now=found.once.until - 1).once == found.once
    with refused(Fault.EXPIRED):
        check(CLAIMS, now=found.once.until)


def test_only_the_same_assertion_is_the_same() -> None:
    first = check(CLAIMS).once.id
    assert check({**CLAIMS, "exp": SECONDS + 61}).once.id == first
    assert check({**CLAIMS, "jti": "k"}).once.id != first
    other = replace(CLIENT, id="other")
    assert check({**CLAIMS, "iss": "other", "sub": "other"}, other).once.id != first


@pytest.mark.parametrize(
    "members",
    [
        {"id": ""},
        {"id": "a" * 2049},
        {"keys": KeySet(())},
        {"algorithms": frozenset()},
        {"max_life_ms": 0},
        {"skew_ms": -1},
        {"skew_ms": 60_001},
    ],
)
def test_a_client_that_would_let_too_much_through_cannot_be_made(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a client has"):
        replace(CLIENT, **members)


@pytest.mark.parametrize("life_ms", [0, -1000, 999, 1001, MAX_LIFE_MS + 1000])
def test_an_assertion_of_ours_is_for_a_short_while(life_ms: int) -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        make_assertion(SIGNER, client="a", audience="b", now=NOW, jti="j", life_ms=life_ms)
