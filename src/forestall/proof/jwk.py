"""Keys in JSON (RFC 7517, RFC 8037): whose signatures count, by their ids, and the keys that are our own.

A set of public keys that holds a private or a symmetric one is refused whole: whoever published it has lost that key,
and a symmetric one would let every reader sign. A key of a kind, a use or a size that is not known here verifies
nothing and is passed over, as RFC 7517, 5 has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from forestall.core.canonical import canonical, parse
from forestall.core.errors import InvalidInput
from forestall.proof.algorithm import CURVES, Algorithm, Private, Public, fitting
from forestall.proof.encoding import decode, digest, encode
from forestall.proof.fault import Fault, InvalidProof

MAX_SET = 262_144
"""Bytes of a key set; those of large issuers, with a chain of certificates to each key, have about 20,000."""

MAX_KEYS = 128
MAX_KID = 512
"""Characters."""

MIN_RSA, MAX_RSA = 2048, 8192
"""Bits. NIST SP 800-131A for the least; the most keeps one check below a millisecond or so."""

SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
"""Members that only a private or a symmetric key has (RFC 7518, 6)."""

SIGNING = frozenset({"sig", None})
"""Values of `use` that a key for signatures has; None is a key without one."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that can verify, and what with."""

    key: Public = field(repr=False, compare=False)
    thumbprint: str
    """RFC 7638, SHA-256, base64url."""
    algorithms: frozenset[Algorithm]
    """What fits its kind, narrowed to its own `alg` where it has one."""
    kid: str | None = None

    @classmethod
    def of(cls, key: Public, *, kid: str | None = None, algorithms: frozenset[Algorithm] | None = None) -> Self:
        """A key that did not come as JSON. Raises InvalidProof: ALGORITHM, for a curve that is not known here."""
        fit = fitting(key)
        return cls(key, _thumbprint(_members(key)), fit if algorithms is None else fit & algorithms, kid)

    def bare(self) -> dict[str, str]:
        """The key and nothing about it: what a proof carries, and what the thumbprint is taken of."""
        return _members(self.key)

    def to_json(self) -> dict[str, str]:
        """What a key set holds of it; `alg` where there is only one."""
        members = {**self.bare(), "use": "sig"}
        if self.kid is not None:
            members["kid"] = self.kid
        if len(self.algorithms) == 1:
            members["alg"] = next(iter(self.algorithms)).value
        return members


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys of one issuer. No two have the same `kid`."""

    keys: tuple[PublicKey, ...]

    def find(self, kid: str | None) -> PublicKey:
        """The key that a token names; without a name, the only one there is. Nothing is ever tried.

        Raises:
            InvalidProof: UNKNOWN_KEY.
        """
        found = self.keys if kid is None else [key for key in self.keys if key.kid == kid]
        if len(found) != 1:
            raise InvalidProof(Fault.UNKNOWN_KEY)
        return found[0]

    def to_json(self) -> dict[str, list[dict[str, str]]]:
        return {"keys": [key.to_json() for key in self.keys]}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of our own: signs with one algorithm, under one id."""

    private: Private = field(repr=False, compare=False)
    algorithm: Algorithm
    public: PublicKey

    @classmethod
    def of(cls, private: Private, algorithm: Algorithm, *, kid: str | None = None) -> Self:
        """A key that was kept somewhere. Its id is its thumbprint unless it has another.

        Raises:
            ValueError: the algorithm does not go with the key, or the key is too short.
        """
        if algorithm not in fitting(private):
            raise ValueError("the algorithm is not the key's")
        if isinstance(private, rsa.RSAPrivateKey) and not MIN_RSA <= private.key_size <= MAX_RSA:
            raise ValueError(f"an RSA key has {MIN_RSA} to {MAX_RSA} bits")
        public = PublicKey.of(private.public_key(), kid=kid, algorithms=frozenset({algorithm}))
        return cls(private, algorithm, public if kid else replace(public, kid=public.thumbprint))

    @classmethod
    def generate(cls, algorithm: Algorithm, random: Callable[[int], bytes], *, kid: str | None = None) -> Self:
        """A new key. `random` gives that many bytes that nobody can guess, as `secrets.token_bytes` does.

        For RSA alone the library draws its own: there is no way to hand it any.
        """
        if algorithm is Algorithm.EDDSA:
            return cls.of(Ed25519PrivateKey.from_private_bytes(random(32)), algorithm, kid=kid)
        for curve in CURVES.values():
            if curve.algorithm is algorithm:
                # FIPS 186-5, A.2.1: 64 bits more than the order, so that the remainder favours no key
                number = int.from_bytes(random(curve.size + 8), "big") % (curve.curve.group_order - 1) + 1
                return cls.of(ec.derive_private_key(number, curve.curve), algorithm, kid=kid)
        return cls.of(rsa.generate_private_key(65537, 3072), algorithm, kid=kid)


def parse_set(data: bytes | str, *, uses: frozenset[str | None] = SIGNING, max_bytes: int = MAX_SET) -> KeySet:
    """The keys of a JWK Set that are for one of `uses`.

    Raises:
        InvalidProof: TOO_LARGE, MALFORMED, NOT_PUBLIC.
    """
    if len(data) > max_bytes:
        raise InvalidProof(Fault.TOO_LARGE, "the key set")
    try:
        document = parse(data, max_bytes=max_bytes)
    except InvalidInput:
        raise InvalidProof(Fault.MALFORMED, "the key set is not JSON with one meaning") from None
    if not isinstance(document, dict):
        raise InvalidProof(Fault.MALFORMED, "the key set is not an object")
    return read_set(document, uses=uses)


def read_set(document: Mapping[str, Any], *, uses: frozenset[str | None] = SIGNING) -> KeySet:
    """As `parse_set`, of a document that was parsed already."""
    members = document.get("keys")
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise InvalidProof(Fault.MALFORMED, f"the key set has no list of at most {MAX_KEYS} keys")
    keys = tuple(key for member in members if (key := read_key(member, uses=uses)) is not None)
    kids = [key.kid for key in keys if key.kid is not None]
    if len(set(kids)) != len(kids):
        raise InvalidProof(Fault.MALFORMED, "two keys of the set have one id")
    return KeySet(keys)


def read_key(member: object, *, uses: frozenset[str | None] = SIGNING) -> PublicKey | None:
    """One public key; None where it is for something else, or of a kind or a size that is not known here.

    Raises:
        InvalidProof: MALFORMED; NOT_PUBLIC, where it holds anything secret.
    """
    if not isinstance(member, dict):
        raise InvalidProof(Fault.MALFORMED, "a key is not an object")
    if not SECRET.isdisjoint(member) or member.get("kty") == "oct":
        raise InvalidProof(Fault.NOT_PUBLIC)
    kind, kid, operations = _text(member, "kty"), _text(member, "kid"), member.get("key_ops", ["verify"])
    if kind is None or (kid is not None and not 0 < len(kid) <= MAX_KID):
        raise InvalidProof(Fault.MALFORMED, "a key has no kind, or an id that is empty or too long")
    if not isinstance(operations, list):
        raise InvalidProof(Fault.MALFORMED, "a key's `key_ops` is not a list")
    if _text(member, "use") not in uses or "verify" not in operations:
        return None
    key = _read(kind, member)
    algorithm = _text(member, "alg")
    if key is None:
        return None
    algorithms = frozenset(fit for fit in fitting(key) if algorithm is None or fit.value == algorithm)
    return PublicKey(key, _thumbprint(_members(key)), algorithms, kid) if algorithms else None


def _read(kind: str, member: Mapping[str, Any]) -> Public | None:
    try:
        if kind == "RSA":
            n, e = _number(member, "n"), _number(member, "e")
            # an even or tiny exponent is no key; one beyond 32 bits is only there to make checks slow
            fits = MIN_RSA <= n.bit_length() <= MAX_RSA and e % 2 == 1 and 3 <= e < 2**32
            return rsa.RSAPublicNumbers(e, n).public_key() if fits else None
        if kind == "EC" and (curve := CURVES.get(_text(member, "crv") or "")) is not None:
            x, y = _bytes(member, "x", curve.size), _bytes(member, "y", curve.size)
            numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve.curve)
            return numbers.public_key()
        if kind == "OKP" and _text(member, "crv") == "Ed25519":
            return Ed25519PublicKey.from_public_bytes(_bytes(member, "x", 32))
    except ValueError:
        raise InvalidProof(Fault.MALFORMED, "a key's numbers are not a key") from None
    return None


def _members(key: Public) -> dict[str, str]:
    """The members that RFC 7638, 3.2 and RFC 8037, 2 call required."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _unsigned(numbers.n), "e": _unsigned(numbers.e)}
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_numbers()
        for name, curve in CURVES.items():
            if curve.curve.name == key.curve.name:
                x, y = (encode(number.to_bytes(curve.size, "big")) for number in (point.x, point.y))
                return {"kty": "EC", "crv": name, "x": x, "y": y}
        raise InvalidProof(Fault.ALGORITHM, "a curve that is not known here")
    return {"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_bytes_raw())}


def _thumbprint(members: Mapping[str, str]) -> str:
    return digest(canonical(dict(members)))


def _unsigned(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _text(member: Mapping[str, Any], name: str) -> str | None:
    value = member.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidProof(Fault.MALFORMED, "a member of a key is not a string")
    return value


def _bytes(member: Mapping[str, Any], name: str, size: int) -> bytes:
    data = decode(_text(member, name) or "")
    if len(data) != size:
        raise InvalidProof(Fault.MALFORMED, "a coordinate does not have its curve's length")
    return data


def _number(member: Mapping[str, Any], name: str) -> int:
    text = _text(member, name) or ""
    data = decode(text) if len(text) <= MAX_RSA // 4 else b""
    if not data or data[0] == 0:  # RFC 7518, 2: no leading zeros; a second spelling would be a second thumbprint
        raise InvalidProof(Fault.MALFORMED, "a key's number is missing, too long, or has leading zeros")
    return int.from_bytes(data, "big")


def key_set(keys: Iterable[SigningKey]) -> KeySet:
    """What is published of our own keys."""
    return KeySet(tuple(key.public for key in keys))
