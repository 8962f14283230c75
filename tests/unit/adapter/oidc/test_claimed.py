"""A token says whose it is, and that chooses a rule: nothing in it is believed for it."""

from __future__ import annotations

import pytest

from forestall.adapter.oidc.claimed import claimed_issuer
from forestall.proof.encoding import encode
from forestall.proof.fault import Fault
from forestall.proof.jws import MAX_TOKEN
from tests.tokens import key, refused, token


def test_it_is_what_the_token_says() -> None:
    made = token({"iss": "https://a.example", "sub": "x"}, key())
    assert claimed_issuer(made) == claimed_issuer(made.encode()) == "https://a.example"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"iss":7}',
        b'{"iss":""}',
        b'{"iss":"a","iss":"b"}',
        b"[" * 5000,
        b'{"iss":"' + b"a" * 2049 + b'"}',
        b"\xff",
    ],
)
def test_what_says_nothing_is_malformed(payload: bytes) -> None:
    with refused(Fault.MALFORMED):
        claimed_issuer(f"e30.{encode(payload)}.AA")


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "a.=.c", "é.é.é", b"\xff.a.b"])
def test_what_has_not_the_form_is_malformed(text: str | bytes) -> None:
    with refused(Fault.MALFORMED):
        claimed_issuer(text)


def test_what_is_too_large_is_not_looked_at() -> None:
    with refused(Fault.TOO_LARGE):
        claimed_issuer("a" * (MAX_TOKEN + 1))
