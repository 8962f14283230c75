"""Signed tokens in the compact form (RFC 7515, 7.1; RFC 8725): one reading, or none.

The rules, in the order in which they are applied:

 1. Nothing is read of a token that is too large.
 2. Three parts of base64url in its one form; the header an object without duplicate members.
 3. `alg` is one that the caller names. There is no default, and no way to ask for `none` or an HMAC.
 4. A key inside of the token is refused, unless the caller asks for one (DPoP); so is every header member, `crit`
    among them, that the caller does not name.
 5. `typ` is one that the caller names: a token of one kind is never taken for another kind's.
 6. The key is the one that `kid` names, and its own kind, `use`, `key_ops` and `alg` go with the token's.
 7. The signature holds; and only then can the claims be read at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.canonical import canonical, parse
from forestall.core.errors import InvalidInput
from forestall.proof import algorithm as signature
from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import decode, encode
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import MAX_KID, KeySet, PublicKey, SigningKey

MAX_TOKEN = 16_384
"""Bytes. Servers cut a header line at 8 or 16 KiB, so that nobody's token is larger."""

MEMBERS = frozenset({"alg", "kid", "typ"})
"""Header members that every token of ours and of SPIFFE may have, and no others."""

EMBEDDED = frozenset({"jwk", "jku", "x5c", "x5u"})
"""Header members that bring a key along, or say where to fetch one."""

MAX_HEADER_DEPTH, MAX_CLAIMS_DEPTH = 4, 32


@dataclass(frozen=True, slots=True)
class Verified:
    """What a known key has signed."""

    header: Mapping[str, Any] = field(repr=False)
    payload: bytes = field(repr=False)
    key: PublicKey

    def claims(self) -> dict[str, Any]:
        """The payload as a JWT's claims (RFC 7519, 4).

        Raises:
            InvalidProof: MALFORMED; not a JSON object, or one that two readers would read differently.
        """
        return _object(self.payload, MAX_CLAIMS_DEPTH)


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token whose form is good, and of which nothing but the header may be looked at yet."""

    header: Mapping[str, Any] = field(repr=False)
    algorithm: Algorithm
    kid: str | None
    _payload: bytes = field(repr=False)
    _signed: bytes = field(repr=False)
    _signature: bytes = field(repr=False)

    def verify(self, key: PublicKey) -> Verified:
        """Raises InvalidProof: ALGORITHM, BAD_SIGNATURE."""
        if self.algorithm not in key.algorithms:
            raise InvalidProof(Fault.ALGORITHM, "the algorithm is not the key's")
        signature.verify(key.key, self.algorithm, self._signature, self._signed)
        return Verified(self.header, self._payload, key)


def verify(
    token: str | bytes,
    keys: KeySet,
    *,
    algorithms: frozenset[Algorithm],
    types: frozenset[str | None],
    members: frozenset[str] = MEMBERS,
    max_bytes: int = MAX_TOKEN,
) -> Verified:
    """The token's header and payload, if a key of `keys` has signed them.

    Args:
        token: the compact form, as it came.
        keys: the issuer's; which issuer it is has to be known from elsewhere.
        algorithms: those that this issuer is known to use.
        types: values of `typ` (without `application/`, in lower case); None lets a token without one through.
        members: header members that may occur.
        max_bytes: above it, the token is not looked at.

    Raises:
        InvalidProof: TOO_LARGE, MALFORMED, UNSIGNED, ALGORITHM, EMBEDDED_KEY, UNKNOWN_HEADER, WRONG_TYPE,
            UNKNOWN_KEY, BAD_SIGNATURE.
    """
    opened = read(token, algorithms=algorithms, types=types, members=members, max_bytes=max_bytes)
    return opened.verify(keys.find(opened.kid))


def read(
    token: str | bytes,
    *,
    algorithms: frozenset[Algorithm],
    types: frozenset[str | None],
    members: frozenset[str] = MEMBERS,
    max_bytes: int = MAX_TOKEN,
) -> Unverified:
    """As `verify`, up to the key: for who has to find it by the header. Raises as `verify` does, as far as it goes."""
    if len(token) > max_bytes:
        raise InvalidProof(Fault.TOO_LARGE)
    head, body, tail = _parts(token)
    header = _object(decode(head), MAX_HEADER_DEPTH)
    chosen = _algorithm(header.get("alg"), algorithms)
    if not (EMBEDDED - members).isdisjoint(header):
        raise InvalidProof(Fault.EMBEDDED_KEY)
    if not members.issuperset(header):
        raise InvalidProof(Fault.UNKNOWN_HEADER)
    kid, kind = header.get("kid"), header.get("typ")
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise InvalidProof(Fault.MALFORMED, "`kid` is not a string, is empty, or is too long")
    if "typ" in header and not isinstance(kind, str):
        raise InvalidProof(Fault.MALFORMED, "`typ` is not a string")
    if _media_type(kind) not in types:
        raise InvalidProof(Fault.WRONG_TYPE)
    return Unverified(header, chosen, kid, decode(body), f"{head}.{body}".encode("ascii"), decode(tail))


def sign(claims: Mapping[str, Any], key: SigningKey, *, typ: str) -> str:
    """A token of ours: these claims in canonical form, under this `typ`, with the key's algorithm and id.

    Raises:
        InvalidInput: the claims have no canonical form.
    """
    header = {"alg": key.algorithm.value, "kid": key.public.kid, "typ": typ}
    return sign_with(header, canonical(dict(claims)), key)


def sign_with(header: Mapping[str, Any], payload: bytes, key: SigningKey) -> str:
    """As `sign`, with a header of the caller's: for the proofs (DPoP) that have to carry their key."""
    signed = f"{encode(canonical(dict(header)))}.{encode(payload)}"
    return f"{signed}.{encode(signature.sign(key.private, key.algorithm, signed.encode('ascii')))}"


def _parts(token: str | bytes) -> tuple[str, str, str]:
    try:
        text = token.decode("ascii") if isinstance(token, bytes) else token
    except UnicodeDecodeError:
        raise InvalidProof(Fault.MALFORMED, "the token is not ASCII") from None
    parts = text.split(".")
    if len(parts) != 3:
        raise InvalidProof(Fault.MALFORMED, "the token does not have three parts")
    return parts[0], parts[1], parts[2]


def _object(data: bytes, depth: int) -> dict[str, Any]:
    try:
        value = parse(data, max_bytes=len(data), max_depth=depth)
    except InvalidInput:
        raise InvalidProof(Fault.MALFORMED, "a part is not JSON with one meaning") from None
    if not isinstance(value, dict):
        raise InvalidProof(Fault.MALFORMED, "a part is not a JSON object")
    return value


def _algorithm(name: object, algorithms: frozenset[Algorithm]) -> Algorithm:
    if not isinstance(name, str):
        raise InvalidProof(Fault.MALFORMED, "`alg` is missing, or not a string")
    if name.lower() == "none":
        raise InvalidProof(Fault.UNSIGNED)
    for algorithm in algorithms:
        if algorithm.value == name:
            return algorithm
    raise InvalidProof(Fault.ALGORITHM, "not one that is allowed here")


def _media_type(kind: str | None) -> str | None:
    """RFC 7515, 4.1.9: letters of either case, and `application/` may be left out."""
    return None if kind is None else kind.lower().removeprefix("application/")
