"""An issuer's document is its own, byte for byte, and sends nobody anywhere but to keys over TLS."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.core.canonical import canonical
from forestall.proof.algorithm import Algorithm
from forestall.proof.discovery import MAX_DOCUMENT, Discovered, discovery_url, read_discovery
from forestall.proof.fault import Fault
from tests.tokens import refused, without

ISSUER = "https://idp.example/tenant"
DOCUMENT = {
    "issuer": ISSUER,
    "jwks_uri": "https://keys.example/jwks?v=1",
    "id_token_signing_alg_values_supported": ["RS256", "ES256", "none"],
    "authorization_endpoint": "https://idp.example/authorize",
}
ALLOWED = frozenset({Algorithm.RS256, Algorithm.EDDSA})


def check(document: Any, issuer: str = ISSUER, *, loopback: bool = False) -> Discovered:
    data = document if isinstance(document, bytes) else canonical(document)
    return read_discovery(data, issuer=issuer, algorithms=ALLOWED, loopback=loopback)


@pytest.mark.parametrize("issuer", [ISSUER, ISSUER + "/"])
def test_the_document_is_below_the_issuer(issuer: str) -> None:
    assert discovery_url(issuer) == "https://idp.example/tenant/.well-known/openid-configuration"


def test_a_document_says_where_the_keys_are() -> None:
    assert check(DOCUMENT) == Discovered("https://keys.example/jwks?v=1", frozenset({Algorithm.RS256}))
    unsaid = without(DOCUMENT, "id_token_signing_alg_values_supported")
    assert check(unsaid).algorithms == ALLOWED


@pytest.mark.parametrize(
    "issuer", ["https://idp.example", ISSUER + "/", "https://IDP.example/tenant", "http://idp.example/tenant"]
)
def test_a_document_of_another_issuer_is_refused(issuer: str) -> None:
    with refused(Fault.WRONG_ISSUER):
        check({**DOCUMENT, "issuer": issuer})
    with refused(Fault.WRONG_ISSUER):
        check(DOCUMENT, issuer)


@pytest.mark.parametrize("algorithms", [[], ["HS256"], ["none"], ["rs256"]])
def test_an_issuer_that_signs_with_nothing_allowed_is_refused(algorithms: list[str]) -> None:
    with refused(Fault.ALGORITHM):
        check({**DOCUMENT, "id_token_signing_alg_values_supported": algorithms})


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'{"issuer":"https://idp.example/tenant","issuer":"https://idp.example/tenant"}',
        without(DOCUMENT, "issuer"),
        without(DOCUMENT, "jwks_uri"),
        {**DOCUMENT, "jwks_uri": ["https://keys.example/"]},
        {**DOCUMENT, "jwks_uri": "http://keys.example/"},
        {**DOCUMENT, "jwks_uri": "http://127.0.0.1/keys"},
        {**DOCUMENT, "jwks_uri": "https://user@keys.example/"},
        {**DOCUMENT, "jwks_uri": "https://keys.example/#a"},
        {**DOCUMENT, "jwks_uri": "file:///etc/passwd"},
        {**DOCUMENT, "jwks_uri": "/jwks"},
        {**DOCUMENT, "id_token_signing_alg_values_supported": "RS256"},
        {**DOCUMENT, "id_token_signing_alg_values_supported": [7]},
    ],
)
def test_a_document_that_cannot_be_followed_is_malformed(document: Any) -> None:
    with refused(Fault.MALFORMED):
        check(document)


def test_a_document_has_a_size() -> None:
    with refused(Fault.TOO_LARGE):
        check(b" " * (MAX_DOCUMENT + 1))


def test_this_machine_has_to_be_asked_for() -> None:
    local = {**DOCUMENT, "jwks_uri": "http://127.0.0.1:8080/jwks"}
    assert check(local, loopback=True).jwks_uri == "http://127.0.0.1:8080/jwks"
    with refused(Fault.MALFORMED):
        check({**DOCUMENT, "jwks_uri": "http://keys.example/"}, loopback=True)
