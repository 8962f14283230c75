"""A proof is for one method, one URL, one token and a short while; a token is for who holds its key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import digest, encode
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import SigningKey
from forestall.proof.possession import (
    MAX_PROOF,
    PROOF_ALGORITHMS,
    SKEW_MS,
    SOCKET_METHOD,
    SOCKET_URL,
    WINDOW_MS,
    Binding,
    Proof,
    make_proof,
    read_binding,
    require_holder,
    verify_proof,
)
from tests.tokens import NOW, SECONDS, key, refused, rsa_key, token, without

URL = "https://forestall.example/token"
TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
HOLDER = key(Algorithm.ES256, "holder")
CLAIMS = {"jti": "e1j3V_bKic8-LAEB", "htm": "POST", "htu": URL, "iat": SECONDS}


def proof(claims: dict[str, Any] = CLAIMS, holder: SigningKey = HOLDER, **header: Any) -> str:
    return token(claims, holder, **{"typ": "dpop+jwt", "kid": None, "jwk": holder.public.bare(), **header})


def check(text: str | bytes, **options: Any) -> Proof:
    given: dict[str, Any] = {"method": "POST", "url": URL, "now": NOW, "access_token": None, "nonces": None}
    return verify_proof(text, **{**given, **options})


def test_the_proof_of_the_standard_is_read() -> None:
    """RFC 9449, 4.1 and 4.2."""
    published = (
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0Rs"
        "cEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2"
        "In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuI"
        "iwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
    )
    found = check(published, url="https://server.example.com/token", now=1562262616_000)
    assert found.thumbprint == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


@pytest.mark.parametrize("algorithm", sorted(PROOF_ALGORITHMS))
@pytest.mark.parametrize(("access_token", "nonce"), [(None, None), (TOKEN, "n-1")])
def test_what_is_made_is_accepted(algorithm: Algorithm, access_token: str | None, nonce: str | None) -> None:
    text = make_proof(
        key(algorithm), method="GET", url=URL + "?a=b", now=NOW, jti="j", access_token=access_token, nonce=nonce
    )
    nonces = None if nonce is None else frozenset({nonce, "other"})
    found = check(text, method="GET", access_token=access_token, nonces=nonces)
    assert found.key.thumbprint == key(algorithm).public.thumbprint
    assert found.issued_at == NOW


def test_a_proof_is_burnt_under_its_key_and_its_number_until_it_is_too_old() -> None:
    one, again = check(proof()), check(proof())
    assert one.once == again.once
    assert check(proof({**CLAIMS, "jti": "other"})).once.id != one.once.id
    assert check(proof(holder=key(Algorithm.ES256, "other"))).once.id != one.once.id
    last = one.once.until - 1
    assert last == NOW + WINDOW_MS + SKEW_MS
    assert check(proof(), now=last).once == one.once
    with refused(Fault.TOO_OLD):
        check(proof(), now=last + 1)


@pytest.mark.parametrize("method", ["GET", "post", "POST ", "", "PO"])
def test_a_proof_for_another_method_is_refused(method: str) -> None:
    with refused(Fault.OTHER_METHOD):
        check(proof(), method=method)


@pytest.mark.parametrize(
    "url",
    [
        "https://forestall.example/Token",
        "https://forestall.example/token/",
        "https://forestall.example/",
        "http://forestall.example/token",
        "https://forestall.example:8443/token",
        "https://forestall.example.evil.example/token",
        "https://evil.example/forestall.example/token",
        "https://forestall.example/%74oken%2F",
    ],
)
def test_a_proof_for_another_url_is_refused(url: str) -> None:
    with refused(Fault.OTHER_URL):
        check(proof({**CLAIMS, "htu": url}))


@pytest.mark.parametrize(
    "url",
    [
        "https://forestall.example:443/token",
        "HTTPS://Forestall.Example/token",
        "https://forestall.example/%74oken",
        URL + "?a=b#c",
    ],
)
def test_a_url_that_is_spelt_otherwise_is_the_same(url: str) -> None:
    assert check(proof({**CLAIMS, "htu": url})) == check(proof())


@pytest.mark.parametrize(
    "url", ["", "token", "https://user@forestall.example/token", "https://forestall.example/a/../token", URL + "\n", 7]
)
def test_what_is_no_url_is_malformed(url: Any) -> None:
    with refused(Fault.MALFORMED):
        check(proof({**CLAIMS, "htu": url}))


def test_a_proof_has_its_time() -> None:
    assert check(proof(), now=NOW - SKEW_MS).issued_at == NOW
    with refused(Fault.CLOCK):
        check(proof(), now=NOW - SKEW_MS - 1)
    with refused(Fault.EXPIRED):
        check(proof({**CLAIMS, "exp": SECONDS - 30}))
    with refused(Fault.NOT_YET_VALID):
        check(proof({**CLAIMS, "nbf": SECONDS + 30}))


def test_a_proof_is_for_the_token_that_it_comes_with() -> None:
    bound = proof({**CLAIMS, "ath": digest(TOKEN.encode())})
    assert digest(TOKEN.encode()) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    assert check(bound, access_token=TOKEN).issued_at == NOW
    for text, access_token in ((bound, TOKEN + "x"), (proof(), TOKEN), (bound, None)):
        with refused(Fault.OTHER_TOKEN):
            check(text, access_token=access_token)


def test_a_nonce_is_one_that_was_given_out() -> None:
    given = proof({**CLAIMS, "nonce": "n-1"})
    assert check(given, nonces=frozenset({"n-1", "n-2"})).issued_at == NOW
    assert check(given, nonces=None).issued_at == NOW
    for text, nonces in (
        (proof(), {"n-1"}),
        (given, {"n-2"}),
        (given, set()),
        (proof({**CLAIMS, "nonce": "é"}), {"n"}),
    ):
        with refused(Fault.NONCE):
            check(text, nonces=frozenset(nonces))


@pytest.mark.parametrize("name", CLAIMS)
def test_a_proof_without_a_claim_is_malformed(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(proof(without(CLAIMS, name)))


@pytest.mark.parametrize(
    ("name", "value"), [("jti", ""), ("jti", "j" * 257), ("jti", 7), ("htm", ["POST"]), ("iat", "now"), ("ath", None)]
)
def test_a_proof_with_a_claim_that_is_none_is_malformed(name: str, value: Any) -> None:
    with refused(Fault.MALFORMED):
        check(proof({**CLAIMS, name: value}))


def test_the_key_is_in_the_header_and_public() -> None:
    with refused(Fault.MALFORMED):
        check(proof(jwk=None))
    with refused(Fault.NOT_PUBLIC):
        check(proof(jwk={**HOLDER.public.bare(), "d": "AQAB"}))
    with refused(Fault.NOT_PUBLIC):
        check(proof(jwk={"kty": "oct", "k": "AQAB"}))
    with refused(Fault.ALGORITHM):
        check(proof(jwk={"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}))
    with refused(Fault.UNKNOWN_HEADER):
        check(proof(kid="k"))
    with refused(Fault.EMBEDDED_KEY):
        check(proof(jku="https://evil.example"))


def test_the_key_has_signed_the_proof() -> None:
    with refused(Fault.BAD_SIGNATURE):
        check(proof(jwk=key(Algorithm.ES256, "other").public.bare()))
    with refused(Fault.ALGORITHM):
        check(proof(jwk=key().public.bare()))


def test_a_proof_is_a_proof() -> None:
    for kind in (None, "JWT", "task-grant+jwt"):
        with refused(Fault.WRONG_TYPE):
            check(proof(typ=kind))
    with refused(Fault.ALGORITHM):
        check(proof(holder=key(Algorithm.ES384)))
    with refused(Fault.TOO_LARGE):
        check("x" * (MAX_PROOF + 1))


@given(data=st.data())
def test_one_changed_character_is_one_refused_proof(data: st.DataObject) -> None:
    text = proof()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=127).filter(lambda character: character != text[at]))
    with pytest.raises(InvalidProof):
        check(text[:at] + other + text[at + 1 :])


# -- what a token is bound to

JKT = HOLDER.public.thumbprint
CERTIFICATE = b"not parsed, only digested"


@pytest.mark.parametrize(
    "claims", [{}, {"cnf": {}}, {"cnf": {"jwk": {}}}, {"cnf": {"kid": "k"}}, {"cnf": {"jkt": JKT, "x5t#S256": JKT}}]
)
def test_a_token_that_is_bound_to_nothing_is_refused(claims: dict[str, Any]) -> None:
    with refused(Fault.NOT_BOUND):
        read_binding(claims)


@pytest.mark.parametrize(
    "cnf",
    [
        None,
        "k",
        [],
        {"jkt": ""},
        {"jkt": JKT[:-1]},
        {"jkt": JKT + "="},
        {"jkt": 7},
        {"jkt": JKT, "kid": "k"},
        {"jkt": encode(b"x" * 31)},
    ],
)
def test_a_binding_that_is_none_is_malformed(cnf: Any) -> None:
    with refused(Fault.MALFORMED):
        read_binding({"cnf": cnf})


def test_a_binding_is_to_exactly_one_thing() -> None:
    for binding in (Binding(key=JKT), Binding(certificate=digest(CERTIFICATE))):
        assert read_binding({"cnf": binding.to_json()}) == binding
    with refused(Fault.NOT_BOUND):
        Binding()
    with refused(Fault.NOT_BOUND):
        Binding(key=JKT, certificate=JKT)


def test_the_holder_shows_the_key_that_the_token_is_bound_to() -> None:
    by_key, by_certificate = Binding(key=JKT), Binding(certificate=digest(CERTIFICATE))
    mine, other = check(proof()), check(proof(holder=key(Algorithm.ES256, "other")))
    assert require_holder(by_key, proof=mine, certificate=None) == by_key
    assert require_holder(by_certificate, proof=None, certificate=CERTIFICATE) == by_certificate
    assert require_holder(by_certificate, proof=other, certificate=CERTIFICATE) == by_certificate
    with refused(Fault.OTHER_KEY):
        require_holder(by_key, proof=other, certificate=CERTIFICATE)
    with refused(Fault.OTHER_KEY):
        require_holder(by_certificate, proof=mine, certificate=CERTIFICATE + b"x")
    with refused(Fault.NO_PROOF):
        require_holder(by_key, proof=None, certificate=CERTIFICATE)
    with refused(Fault.NO_PROOF):
        require_holder(by_certificate, proof=mine, certificate=None)


def test_a_thumbprint_does_not_pass_for_a_certificate() -> None:
    with refused(Fault.NO_PROOF):
        require_holder(Binding(certificate=JKT), proof=check(proof()), certificate=None)


def test_an_rsa_key_that_is_too_short_is_no_key() -> None:
    short = {"kty": "RSA", "n": encode(rsa_key(1024).public_key().public_numbers().n.to_bytes(128, "big")), "e": "AQAB"}
    with refused(Fault.ALGORITHM):
        check(token(CLAIMS, key(Algorithm.RS256), typ="dpop+jwt", kid=None, jwk=short))


def test_a_proof_for_the_socket_is_for_nothing_else() -> None:
    def made(method: str, url: str) -> str:
        return make_proof(key(), method=method, url=url, now=NOW, jti="j", access_token="t", nonce="n")

    def read(text: str, method: str, url: str) -> Proof:
        return verify_proof(text, method=method, url=url, now=NOW, access_token="t", nonces=frozenset({"n"}))

    assert read(made(SOCKET_METHOD, SOCKET_URL), SOCKET_METHOD, SOCKET_URL).nonce == "n"
    with refused(Fault.OTHER_URL):
        read(made(SOCKET_METHOD, "https://forestall.example/"), SOCKET_METHOD, SOCKET_URL)
    with refused(Fault.MALFORMED):
        read(made(SOCKET_METHOD, SOCKET_URL), SOCKET_METHOD, "https://forestall.example/")
