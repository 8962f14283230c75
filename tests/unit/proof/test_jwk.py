"""A set of public keys holds public keys for signatures, each under one id; what is not known verifies nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from forestall.core.canonical import canonical
from forestall.proof.algorithm import RSA, Algorithm
from forestall.proof.encoding import encode
from forestall.proof.fault import Fault
from forestall.proof.jwk import MAX_KEYS, MAX_SET, KeySet, PublicKey, SigningKey, key_set, parse_set, read_key, read_set
from tests.tokens import key, refused, rsa_key, stream

ED = key().public.bare()
EC = key(Algorithm.ES256).public.bare()
RS = key(Algorithm.RS256).public.bare()


def read(*members: Any, **options: Any) -> KeySet:
    return parse_set(canonical({"keys": list(members)}), **options)


@pytest.mark.parametrize(
    ("jwk", "thumbprint"),
    [
        (
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
        (
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
                "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
            },
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
        ),
    ],
    ids=["RFC 8037, A.3", "RFC 9449, 6.1"],
)
def test_a_thumbprint_is_the_published_one(jwk: dict[str, str], thumbprint: str) -> None:
    for members in (jwk, {**jwk, "kid": "k", "use": "sig", "alg": "EdDSA" if jwk["kty"] == "OKP" else "ES256"}):
        found = read_key(members)
        assert found is not None
        assert found.thumbprint == thumbprint
        assert found.bare() == jwk


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_is_published_is_read_back(algorithm: Algorithm) -> None:
    signing = key(algorithm)
    published = key_set([signing]).to_json()
    assert parse_set(json.dumps(published)).keys == (signing.public,)
    assert published["keys"][0]["alg"] == algorithm.value
    assert published["keys"][0]["use"] == "sig"
    assert signing.public.kid == signing.public.thumbprint


def test_a_key_without_alg_is_good_for_all_that_fits_its_kind() -> None:
    assert [each.algorithms for each in read(ED, EC, RS).keys] == [{Algorithm.EDDSA}, {Algorithm.ES256}, RSA]
    assert [each.algorithms for each in read({**RS, "alg": "PS256"}).keys] == [{Algorithm.PS256}]


@pytest.mark.parametrize("name", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
@pytest.mark.parametrize("other", [{}, {"use": "enc"}, {"kty": "unknown"}, {"key_ops": ["sign"]}])
def test_a_set_that_gives_away_a_secret_is_refused_whole(name: str, other: dict[str, Any]) -> None:
    with refused(Fault.NOT_PUBLIC):
        read(RS, {**EC, **other, name: "AQAB"})


def test_a_symmetric_key_is_never_public() -> None:
    with refused(Fault.NOT_PUBLIC):
        read(ED, {"kty": "oct"})
    with refused(Fault.NOT_PUBLIC):
        read({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"})


@pytest.mark.parametrize(
    "member",
    [
        {**ED, "use": "enc"},
        {**ED, "use": "jwt-svid"},
        {**ED, "use": ""},
        {**ED, "key_ops": ["encrypt"]},
        {**ED, "key_ops": []},
        {**ED, "alg": "ES256"},
        {**ED, "alg": "eddsa"},
        {**EC, "alg": "ES384"},
        {**EC, "alg": "ECDH-ES"},
        {**RS, "alg": "RSA-OAEP"},
        {**RS, "alg": "HS256"},
        {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": ED["x"]},
        {"kty": "OKP", "crv": "Ed448", "x": ED["x"]},
        {"kty": "EC", "crv": "secp256k1", "x": EC["x"], "y": EC["y"]},
        {"kty": "EC", "crv": "p-256", "x": EC["x"], "y": EC["y"]},
        {"kty": "rsa", "n": RS["n"], "e": RS["e"]},
        {**RS, "e": "Ag"},
        {**RS, "e": "AQ"},
        {**RS, "e": encode((2**32 + 1).to_bytes(5, "big"))},
        {**RS, "n": encode(b"\xff" * 128)},
        {**RS, "n": encode(b"\xff" * 1025)},
    ],
)
def test_a_key_for_something_else_is_passed_over(member: dict[str, Any]) -> None:
    assert read(member).keys == ()
    assert len(read(member, ED).keys) == 1


@pytest.mark.parametrize(
    "member",
    [
        None,
        "key",
        {},
        {"kty": 7},
        {"kty": "OKP", "crv": "Ed25519"},
        {"kty": "OKP", "crv": 7, "x": ED["x"]},
        {**ED, "x": ED["x"] + "="},
        {**ED, "x": ED["x"][:-1]},
        {**ED, "x": ""},
        {**ED, "x": None},
        {**ED, "kid": 7},
        {**ED, "kid": ""},
        {**ED, "kid": "k" * 513},
        {**ED, "use": ["sig"]},
        {**ED, "alg": 7},
        {**ED, "key_ops": "verify"},
        {**EC, "y": EC["x"]},
        {**EC, "x": encode(b"\0" * 32), "y": encode(b"\0" * 32)},
        {**EC, "x": encode(b"\xff" * 32)},
        {**EC, "x": encode(b"\0" + b"\1" * 32)},
        {**EC, "crv": "P-384"},
        {**RS, "n": ""},
        {**RS, "e": None},
        {**RS, "e": "AAEAAQ"},
        {**RS, "n": encode(b"\0" + b"\xff" * 256)},
        {**RS, "n": "_" * 4096},
    ],
)
def test_a_key_that_is_none_is_malformed(member: Any) -> None:
    with refused(Fault.MALFORMED):
        read(ED, member)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"keys":{}}', b'{"keys":null}', b'{"keys":[],"keys":[]}', b"\xff"]
)
def test_what_is_no_set_is_malformed(data: bytes) -> None:
    with refused(Fault.MALFORMED):
        parse_set(data)


def test_a_set_has_a_size() -> None:
    with refused(Fault.TOO_LARGE):
        parse_set(b" " * (MAX_SET + 1))
    with refused(Fault.MALFORMED):
        read_set({"keys": [ED] * (MAX_KEYS + 1)})


def test_one_id_is_one_key() -> None:
    with refused(Fault.MALFORMED):
        read({**ED, "kid": "k"}, {**EC, "kid": "k"})
    assert len(read({**ED, "kid": "k"}, {**EC, "kid": "k", "use": "enc"}).keys) == 1


def test_an_empty_set_is_one_that_trusts_nobody() -> None:
    keys = read()
    for kid in (None, "k"):
        with refused(Fault.UNKNOWN_KEY):
            keys.find(kid)


def test_a_key_is_found_by_its_id_alone() -> None:
    keys = read({**ED, "kid": "a"}, {**EC, "kid": "b"}, RS)
    assert keys.find("a").kid == "a"
    assert keys.find("b").kid == "b"
    for kid in (None, "", "c", "A"):
        with refused(Fault.UNKNOWN_KEY):
            keys.find(kid)


def test_other_uses_are_asked_for_by_name() -> None:
    member = {**EC, "use": "jwt-svid", "kid": "k"}
    assert read(member, EC, uses=frozenset({"jwt-svid"})).keys == (read_key(member, uses=frozenset({"jwt-svid"})),)


def test_a_private_key_is_never_shown() -> None:
    for algorithm in (Algorithm.EDDSA, Algorithm.ES256, Algorithm.RS256):
        signing = key(algorithm)
        shown = f"{signing!r} {signing} {signing.public.to_json()} {vars(type(signing.public))}"
        assert "private=" not in repr(signing)
        assert "PrivateKey object" not in shown
        assert not {"d", "p", "q"} & set(signing.public.to_json())


def test_a_short_key_of_our_own_is_refused() -> None:
    with pytest.raises(ValueError, match="2048 to 8192 bits"):
        SigningKey.of(rsa.generate_private_key(65537, 1024), Algorithm.RS256)
    with pytest.raises(ValueError, match="not the key's"):
        SigningKey.of(rsa_key(), Algorithm.ES256)


def test_a_new_rsa_key_is_long_enough() -> None:
    made = SigningKey.generate(Algorithm.RS256, stream("unused"))
    assert isinstance(made.private, rsa.RSAPrivateKey)
    assert made.private.key_size == 3072


def test_a_new_key_of_a_curve_comes_from_the_bytes_that_were_given() -> None:
    order = ec.SECP256R1().group_order
    for given, number in ((0, 1), (order - 2, order - 1), (order - 1, 1)):
        made = SigningKey.generate(Algorithm.ES256, lambda count, given=given: given.to_bytes(count, "big"))  # type: ignore[misc]
        assert isinstance(made.private, ec.EllipticCurvePrivateKey)
        assert made.private.private_numbers().private_value == number


def test_keys_are_the_same_by_what_they_are() -> None:
    assert PublicKey.of(key().public.key) == PublicKey.of(key().public.key)
    assert PublicKey.of(key().public.key) != PublicKey.of(key(seed="other").public.key)
