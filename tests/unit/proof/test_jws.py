"""A signed token has one reading, or none. The tests follow the rules in the docstring of `forestall.proof.jws`."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.canonical import canonical
from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import decode, encode
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet, PublicKey, SigningKey, key_set
from forestall.proof.jws import MAX_TOKEN, MEMBERS, Verified, read, sign, sign_with, verify
from tests.tokens import key, keys, refused, rsa_key, stream, token, unsigned

ALL = frozenset(Algorithm)
TYPES: frozenset[str | None] = frozenset({"jwt"})
CLAIMS = {"iss": "https://issuer.example", "sub": "agent"}
OURS = key()
KEYS = keys(OURS)


def check(text: str | bytes, keyring: KeySet = KEYS, **options: Any) -> Verified:
    return verify(text, keyring, **{"algorithms": ALL, "types": TYPES, **options})


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_a_key_signs_verifies_with_it(algorithm: Algorithm) -> None:
    signing = key(algorithm)
    verified = check(sign(CLAIMS, signing, typ="JWT"), keys(signing))
    assert verified.claims() == CLAIMS
    assert verified.header == {"alg": algorithm.value, "kid": signing.public.kid, "typ": "JWT"}
    assert verified.key == signing.public


def test_text_and_bytes_are_one_token() -> None:
    text = sign(CLAIMS, OURS, typ="JWT")
    assert check(text) == check(text.encode())


# 1. Nothing is read of a token that is too large.


def test_a_token_that_is_too_large_is_not_looked_at() -> None:
    with refused(Fault.TOO_LARGE):
        check("x" * (MAX_TOKEN + 1))
    with refused(Fault.TOO_LARGE):
        check(sign(CLAIMS, OURS, typ="JWT"), max_bytes=100)
    with refused(Fault.MALFORMED):
        check("x" * MAX_TOKEN)


# 2. Three parts of base64url in its one form; the header an object without duplicate members.


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", "é..", "....", b"\xff.."])
def test_what_does_not_have_three_parts_is_malformed(text: str | bytes) -> None:
    with refused(Fault.MALFORMED):
        check(text)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("change", ["=", "+", "/", " ", "\n", "\x00", "é", "%3D"])
def test_nothing_is_added_to_a_part(part: int, change: str) -> None:
    parts = sign(CLAIMS, OURS, typ="JWT").split(".")
    for changed in (parts[part] + change, change + parts[part]):
        with refused(Fault.MALFORMED):
            check(".".join([*parts[:part], changed, *parts[part + 1 :]]))


def test_bits_that_stand_for_nothing_are_refused() -> None:
    head, body, tail = sign(CLAIMS, OURS, typ="JWT").split(".")
    assert len(decode(tail)) % 3 == 1
    stray = tail[:-1] + chr(ord(tail[-1]) + 1)
    with refused(Fault.MALFORMED):
        check(f"{head}.{body}.{stray}")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b'"alg"',
        b"null",
        b"{",
        b"{}",
        b'{"alg":"EdDSA","alg":"EdDSA"}',
        b'{"alg":"EdDSA","typ":"JWT","typ":"JWT"}',
        b'{"alg":null}',
        b'{"alg":["EdDSA"]}',
        b'{"alg":"EdDSA","kid":null}',
        b'{"alg":"EdDSA","kid":7}',
        b'{"alg":"EdDSA","kid":""}',
        b'{"alg":"EdDSA","kid":"' + b"k" * 513 + b'"}',
        b'{"alg":"EdDSA","typ":null}',
        b'{"alg":"EdDSA","typ":{}}',
        b'{"alg":"EdDSA","kid":"\\ud800"}',
        b'\xef\xbb\xbf{"alg":"EdDSA"}',
        b'{"alg":"EdDSA"}{}',
        b"[" * 5000,
    ],
)
def test_a_header_that_is_not_one_object_is_malformed(header: bytes) -> None:
    with refused(Fault.MALFORMED):
        check(f"{encode(header)}.e30.AA")


# 3. `alg` is one that the caller names.


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
def test_an_unsigned_token_is_refused_even_where_everything_is_allowed(name: str) -> None:
    with refused(Fault.UNSIGNED):
        check(unsigned({"alg": name, "typ": "JWT"}, canonical(CLAIMS)))


@pytest.mark.parametrize(
    "name", ["HS256", "HS384", "HS512", "", "es256", "ES256K", "Ed25519", "RSA-OAEP", "dir", " RS256"]
)
def test_an_algorithm_that_is_not_in_the_list_is_refused(name: str) -> None:
    with refused(Fault.ALGORITHM):
        check(unsigned({"alg": name, "typ": "JWT"}, canonical(CLAIMS)))


@pytest.mark.parametrize("algorithm", Algorithm)
def test_an_algorithm_that_the_caller_does_not_name_is_refused(algorithm: Algorithm) -> None:
    signing = key(algorithm)
    with refused(Fault.ALGORITHM):
        check(sign(CLAIMS, signing, typ="JWT"), keys(signing), algorithms=ALL - {algorithm})
    with refused(Fault.ALGORITHM):
        check(sign(CLAIMS, signing, typ="JWT"), keys(signing), algorithms=frozenset())


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    """The classic confusion: HS256 with the text of the RSA key that everybody has."""
    public = rsa_key().public_key()
    signing = key(Algorithm.RS256)
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.PKCS1),
    ):
        signed = unsigned({"alg": "HS256", "kid": signing.public.kid, "typ": "JWT"}, canonical(CLAIMS))[:-1]
        forged = f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
        with refused(Fault.ALGORITHM):
            check(forged, keys(signing))


# 4. A key inside of the token is refused; so is every header member that the caller does not name.


@pytest.mark.parametrize("name", ["jwk", "jku", "x5c", "x5u"])
def test_a_token_brings_no_key_along(name: str) -> None:
    with refused(Fault.EMBEDDED_KEY):
        check(token(CLAIMS, OURS, **{name: OURS.public.bare()}))
    with refused(Fault.EMBEDDED_KEY):
        check(token(CLAIMS, OURS, **{name: None} | {"x5c": ["AA"]}))


def test_a_caller_can_ask_for_a_key_in_the_header_and_no_other_way_to_bring_one() -> None:
    members = MEMBERS | {"jwk"}
    assert check(token(CLAIMS, OURS, jwk=OURS.public.bare()), members=members).claims() == CLAIMS
    with refused(Fault.EMBEDDED_KEY):
        check(token(CLAIMS, OURS, jwk=OURS.public.bare(), jku="https://a.example"), members=members)


@pytest.mark.parametrize(
    "extra",
    [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"zip": "DEF"}, {"cty": "JWT"}, {"x5t": "AA"}, {"Alg": "none"}],
)
def test_a_header_member_without_a_meaning_is_refused(extra: dict[str, Any]) -> None:
    with refused(Fault.UNKNOWN_HEADER):
        check(token(CLAIMS, OURS, **extra))


# 5. `typ` is one that the caller names.


@pytest.mark.parametrize("kind", ["jwt", "JWT", "application/jwt", "Application/JWT"])
def test_one_media_type_has_several_spellings(kind: str) -> None:
    assert check(token(CLAIMS, OURS, typ=kind)).claims() == CLAIMS


@pytest.mark.parametrize("kind", [None, "", "at+jwt", "dpop+jwt", "text/jwt", "application/application/jwt", " jwt"])
def test_a_token_of_another_kind_is_refused(kind: str | None) -> None:
    with refused(Fault.WRONG_TYPE):
        check(token(CLAIMS, OURS, typ=kind))


def test_a_token_without_a_type_passes_only_where_asked() -> None:
    assert check(token(CLAIMS, OURS, typ=None), types=frozenset({None})).claims() == CLAIMS
    with refused(Fault.WRONG_TYPE):
        check(token(CLAIMS, OURS), types=frozenset({None}))
    with refused(Fault.WRONG_TYPE):
        check(token(CLAIMS, OURS), types=frozenset())


# 6. The key is the one that `kid` names, and its own kind and `alg` go with the token's.


def test_a_key_that_nobody_knows_is_refused() -> None:
    other = key(seed="other")
    for text in (token(CLAIMS, other), token(CLAIMS, OURS, kid="else")):
        with refused(Fault.UNKNOWN_KEY):
            check(text)
    with refused(Fault.UNKNOWN_KEY):
        check(token(CLAIMS, OURS), KeySet(()))


def test_a_token_that_names_a_key_is_not_tried_with_the_others() -> None:
    other = key(seed="other")
    with refused(Fault.BAD_SIGNATURE):
        check(token(CLAIMS, OURS, kid=other.public.kid), keys(OURS, other))
    nameless = KeySet((PublicKey.of(OURS.public.key),))
    with refused(Fault.UNKNOWN_KEY):
        check(token(CLAIMS, OURS), nameless)


def test_a_token_that_names_no_key_is_checked_with_the_only_one() -> None:
    assert check(token(CLAIMS, OURS, kid=None)).claims() == CLAIMS
    with refused(Fault.UNKNOWN_KEY):
        check(token(CLAIMS, OURS, kid=None), keys(OURS, key(seed="other")))


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("claimed", Algorithm)
def test_the_algorithm_is_the_keys_own(algorithm: Algorithm, claimed: Algorithm) -> None:
    signing = key(algorithm)
    text = token(CLAIMS, signing, alg=claimed.value)
    if claimed is algorithm:
        assert check(text, keys(signing)).claims() == CLAIMS
    else:
        with refused(Fault.ALGORITHM):
            check(text, keys(signing))


def test_a_key_without_an_algorithm_of_its_own_still_has_a_kind() -> None:
    anything = KeySet((PublicKey.of(key(Algorithm.ES256).public.key, kid="k"),))
    assert check(token(CLAIMS, key(Algorithm.ES256), kid="k"), anything).claims() == CLAIMS
    for claimed in ALL - {Algorithm.ES256}:
        with refused(Fault.ALGORITHM):
            check(token(CLAIMS, key(Algorithm.ES256), kid="k", alg=claimed.value), anything)


# 7. The signature holds; and only then can the claims be read at all.


def test_there_are_no_claims_before_the_signature() -> None:
    opened = read(token(CLAIMS, OURS), algorithms=ALL, types=TYPES)
    assert not hasattr(opened, "claims")
    assert "agent" not in repr(opened)
    assert opened.verify(OURS.public).claims() == CLAIMS
    with refused(Fault.BAD_SIGNATURE):
        opened.verify(key(seed="other").public)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_signature_of_another_length_is_refused(algorithm: Algorithm) -> None:
    signing = key(algorithm)
    head, body, tail = token(CLAIMS, signing).split(".")
    signature = decode(tail)
    for changed in (b"", signature[:-1], signature + b"\0", b"\0" + signature, signature * 2, b"\0" * len(signature)):
        with refused(Fault.BAD_SIGNATURE):
            check(f"{head}.{body}.{encode(changed)}", keys(signing))


def test_a_signature_in_der_is_refused() -> None:
    signing = key(Algorithm.ES256)
    head, body, tail = token(CLAIMS, signing).split(".")
    raw = decode(tail)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    with refused(Fault.BAD_SIGNATURE):
        check(f"{head}.{body}.{encode(der)}", keys(signing))


@pytest.mark.parametrize("number", [0, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551])
def test_a_signature_of_nothing_is_refused(number: int) -> None:
    """CVE-2022-21449: zero, or the order of the curve, for both halves."""
    signing = key(Algorithm.ES256)
    head, body, _ = token(CLAIMS, signing).split(".")
    with refused(Fault.BAD_SIGNATURE):
        check(f"{head}.{body}.{encode(number.to_bytes(32, 'big') * 2)}", keys(signing))


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"1", b'{"a":1,"a":1}', b'{"a":NaN}', b"\xff", b'{"a":' * 40 + b"1" + b"}" * 40]
)
def test_claims_are_one_object(payload: bytes) -> None:
    header = {"alg": "EdDSA", "kid": OURS.public.kid, "typ": "JWT"}
    verified = check(sign_with(header, payload, OURS))
    assert verified.payload == payload
    with refused(Fault.MALFORMED):
        verified.claims()


@pytest.mark.parametrize("algorithm", [Algorithm.EDDSA, Algorithm.ES256, Algorithm.RS256, Algorithm.PS256])
@given(data=st.data())
def test_one_changed_character_is_one_refused_token(algorithm: Algorithm, data: st.DataObject) -> None:
    signing = key(algorithm)
    text = token(CLAIMS, signing)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[at]))
    with pytest.raises(InvalidProof):
        check(text[:at] + other + text[at + 1 :], keys(signing)).claims()


@given(bit=st.integers(min_value=0))
def test_one_changed_bit_is_one_refused_token(bit: int) -> None:
    text = bytearray(token(CLAIMS, OURS).encode())
    bit %= 8 * len(text)
    text[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(InvalidProof):
        check(bytes(text))


@given(bit=st.integers(min_value=0))
def test_one_changed_bit_of_what_is_inside_is_one_refused_token(bit: int) -> None:
    parts = [decode(part) for part in token(CLAIMS, OURS).split(".")]
    bit %= 8 * sum(map(len, parts))
    for index, part in enumerate(parts):
        if bit < 8 * len(part):
            flipped = bytearray(part)
            flipped[bit // 8] ^= 1 << (bit % 8)
            parts[index] = bytes(flipped)
            break
        bit -= 8 * len(part)
    with pytest.raises(InvalidProof):
        check(".".join(map(encode, parts)))


@given(
    claims=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 9), max_size=4),
    kid=st.sampled_from([OURS.public.kid, None, "other"]),
)
def test_nobody_elses_signature_counts(claims: dict[str, Any], kid: str | None) -> None:
    with pytest.raises(InvalidProof):
        check(token(claims, key(seed="other"), kid=kid))


def test_an_error_holds_nothing_of_the_token() -> None:
    secret = "c2VjcmV0"
    for text in (
        f"{secret}.{secret}.{secret}",
        f"{secret}.{secret}",
        unsigned({"alg": secret}),
        unsigned({"alg": "EdDSA", secret: secret}),
        unsigned({"alg": "EdDSA", "typ": secret}),
        unsigned({"alg": "EdDSA", "typ": "JWT", "kid": secret}),
    ):
        with pytest.raises(InvalidProof) as caught:
            check(text)
        assert secret not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert secret not in repr(check(token({"a": secret}, OURS)))


def test_a_header_of_ours_has_three_members_and_the_claims_are_canonical() -> None:
    head, body, _ = sign({"b": 1, "a": "é"}, OURS, typ="task-grant+jwt").split(".")
    assert decode(head) == f'{{"alg":"EdDSA","kid":"{OURS.public.kid}","typ":"task-grant+jwt"}}'.encode()
    assert decode(body) == '{"a":"é","b":1}'.encode()


def test_a_curve_is_the_one_that_the_algorithm_names() -> None:
    p384 = SigningKey.of(ec.derive_private_key(7, ec.SECP384R1()), Algorithm.ES384)
    with refused(Fault.ALGORITHM):
        check(token(CLAIMS, p384, alg="ES256"), key_set([p384]))
    koblitz = ec.derive_private_key(7, ec.SECP256K1())
    with pytest.raises(ValueError, match="not the key's"):
        SigningKey.of(koblitz, Algorithm.ES256)
    with pytest.raises(InvalidProof):
        PublicKey.of(koblitz.public_key())


def test_the_same_random_bytes_make_the_same_key() -> None:
    for algorithm in (Algorithm.EDDSA, Algorithm.ES256, Algorithm.ES384, Algorithm.ES512):
        one, same, other = (SigningKey.generate(algorithm, stream(seed)) for seed in ("a", "a", "b"))
        assert one == same
        assert one != other
