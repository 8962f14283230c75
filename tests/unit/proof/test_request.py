"""What a user asked for is believed in a registered front end's words alone, for minutes, and once."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault
from forestall.proof.request import CLAIMS, MAX_LIFE_MS, MAX_REQUEST, SKEW_MS, TYPE, UserRequest, verify_request
from tests.tokens import NOW, SECONDS, key, keys, refused, token, without

OURS = key()
BODY: dict[str, Any] = {
    "iss": "front",
    "aud": "https://forestall.example",
    "iat": SECONDS,
    "exp": SECONDS + 300,
    "jti": "j",
    "user": {"iss": "https://idp.example", "sub": "alice"},
    "request": "Refund order 4711.",
}


def check(text: str, **options: Any) -> UserRequest:
    given: dict[str, Any] = {
        "issuer": "front",
        "audience": "https://forestall.example",
        "users": ("https://idp.example",),
        "algorithms": frozenset({Algorithm.EDDSA}),
        "now": NOW,
    }
    return verify_request(text, options.pop("keyring", keys(OURS)), **{**given, **options})


def signed(typ: str = TYPE, **members: Any) -> str:
    return token({**BODY, **members}, OURS, typ=typ)


def test_a_request_says_who_wants_what() -> None:
    found = check(signed())
    assert (found.front_end, found.user, found.text) == ("front", "https://idp.example#alice", BODY["request"])
    assert BODY["request"] not in repr(found)


def test_a_request_counts_for_as_long_as_it_is_remembered() -> None:
    text, end = signed(), NOW + 300_000
    assert check(text, now=end + SKEW_MS - 1).once.until >= end + SKEW_MS
    with refused(Fault.EXPIRED):
        check(text, now=end + SKEW_MS)
    assert check(text).once.id != check(signed(jti="k")).once.id


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_a_request_without_a_claim_is_refused(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(token(without(BODY, name), OURS, typ=TYPE))


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"typ": "JWT"}, Fault.WRONG_TYPE),
        ({"iss": "another"}, Fault.WRONG_ISSUER),
        ({"aud": ["https://forestall.example", "x"]}, Fault.WRONG_AUDIENCE),
        ({"exp": SECONDS + MAX_LIFE_MS // 1000 + 1}, Fault.TOO_LONG),
        ({"iat": SECONDS + 31}, Fault.CLOCK),
        ({"user": {"iss": "https://other.example", "sub": "alice"}}, Fault.WRONG_SUBJECT),
        ({"user": {"iss": "https://idp.example"}}, Fault.MALFORMED),
        ({"user": {**BODY["user"], "email": "a"}}, Fault.MALFORMED),
        ({"request": "x" * (MAX_REQUEST + 1)}, Fault.MALFORMED),
        ({"more": 1}, Fault.MALFORMED),
    ],
)
def test_a_request_that_is_wrong_in_one_way_has_that_fault(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check(signed(**members))


def test_a_request_under_another_key_or_algorithm_is_refused() -> None:
    with refused(Fault.UNKNOWN_KEY):
        check(signed(), keyring=keys(key(seed="another")))
    with refused(Fault.ALGORITHM):
        check(signed(), algorithms=frozenset({Algorithm.ES256}))
