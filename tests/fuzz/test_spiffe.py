"""Whatever arrives where SPIFFE is read, it is a value or the one error that says so, and nothing else is raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forestall.adapter.workload.endpoint import Endpoint
from forestall.adapter.workload.stubs import target_of
from forestall.core.errors import SetupError
from forestall.proof.bundle import MAX_REVOCATIONS, parse_bundle, parse_jwt_bundle, parse_x509_bundle
from forestall.proof.chain import parse_certificate, parse_revocations, split_certificates
from forestall.proof.fault import InvalidProof
from forestall.proof.spiffe_id import parse_spiffe_id
from forestall.proof.svid import read_leaf, verify_jwt_svid, verify_x509_svid
from tests.unit.proof.trust import NOW, Held, authority

# cryptography warns of names and numbers that are not as they should be, and reads on; here they come by the hundred
pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length", "ignore:Parsed a serial number")

SOURCE = authority()
BUNDLES = Held(SOURCE)
DOMAIN = SOURCE.trust_domain
DOMAINS = frozenset({DOMAIN})
AUDIENCE = "https://forestall.example"
CHAIN = SOURCE.x509_svid("/agent", through=[SOURCE.subordinate()]).chain
TOKEN = SOURCE.jwt_svid("/agent", [AUDIENCE]).encode()
REVOCATIONS = SOURCE.revocations([CHAIN[0]])

spots = st.integers(min_value=0)
pieces = st.binary(max_size=6)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` with some bytes replaced, put in, or cut off."""

    def damage(at: int, put: bytes, over: int, cut: int) -> bytes:
        at %= len(whole) + 1
        changed = whole[:at] + put + whole[at + over :]
        return changed[: len(changed) - cut % 5]

    return st.builds(damage, spots, pieces, st.integers(0, 6), spots)


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except InvalidProof:
        return True
    return False


texts = st.text(max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(["kty", "use", "kid", "x5c", "crv", "x", "y", "n", "e", "alg", "key_ops", "d", "k"])
jwks = st.dictionaries(
    members, values | st.sampled_from(["EC", "RSA", "OKP", "P-256", "x509-svid", "jwt-svid", "AQAB"]), max_size=8
)
documents = st.fixed_dictionaries(
    {"keys": st.lists(jwks, max_size=3)}, optional={"spiffe_sequence": values, "spiffe_refresh_hint": values}
)


@given(st.binary(max_size=200) | damaged(SOURCE.bundle()) | documents.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    refused(lambda: parse_bundle(data, DOMAIN))
    refused(lambda: parse_jwt_bundle(data, DOMAIN))


@given(st.binary(max_size=200) | damaged(SOURCE.x509_bundle()))
@example(b"\x30\x80")
@example(b"\x30\x83\xff\xff\xff")
def test_any_bytes_are_a_row_of_certificates_or_refused(data: bytes) -> None:
    refused(lambda: parse_x509_bundle(data, DOMAIN))
    if not refused(lambda: split_certificates(data, most=4)):
        assert b"".join(split_certificates(data, most=4)) == data


@given(st.binary(max_size=200) | damaged(CHAIN[0]))
def test_any_bytes_are_a_certificate_or_refused(data: bytes) -> None:
    refused(lambda: read_leaf(parse_certificate(data)))
    outcome = refused(lambda: verify_x509_svid([data, CHAIN[1]], BUNDLES, trust_domains=DOMAINS, now=NOW))
    assert outcome or data == CHAIN[0]


@given(damaged(CHAIN[1]))
def test_a_chain_through_a_damaged_certificate_is_refused(data: bytes) -> None:
    outcome = refused(lambda: verify_x509_svid([CHAIN[0], data], BUNDLES, trust_domains=DOMAINS, now=NOW))
    assert outcome or data == CHAIN[1]


@given(st.binary(max_size=200) | damaged(REVOCATIONS))
def test_any_bytes_are_a_revocation_list_or_refused(data: bytes) -> None:
    class Listed(Held):
        def x509(self, trust_domain: str, now: int) -> Any:
            return parse_x509_bundle(SOURCE.x509_bundle(), trust_domain, (data,))

    refused(lambda: parse_revocations(data, max_bytes=MAX_REVOCATIONS))
    refused(lambda: verify_x509_svid(CHAIN, Listed(SOURCE), trust_domains=DOMAINS, now=NOW))


@given(st.binary(max_size=200) | damaged(TOKEN))
def test_any_bytes_are_a_jwt_svid_or_refused(data: bytes) -> None:
    outcome = refused(
        lambda: verify_jwt_svid(data, BUNDLES, audience=AUDIENCE, trust_domains=DOMAINS, now=NOW, skew_ms=0)
    )
    assert outcome or data == TOKEN


@given(st.text(max_size=80) | st.text(max_size=40).map("spiffe://".__add__))
def test_any_text_is_a_spiffe_id_or_refused(text: str) -> None:
    if not refused(lambda: parse_spiffe_id(text)):
        assert str(parse_spiffe_id(text)) == text
        assert text.isascii()


@given(st.text(max_size=60) | st.builds("".join, st.tuples(st.sampled_from(["unix://", "tcp://", "https://"]), texts)))
def test_any_text_is_an_address_or_a_setup_error(text: str) -> None:
    for read in (target_of, Endpoint):
        with suppress(SetupError):
            assert read(text)
