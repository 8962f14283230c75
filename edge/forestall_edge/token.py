"""A compact JWS (RFC 7515, 7.1), ES256 and nothing else, read in its one form or not at all."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from forestall_edge.canonical import NotJson, canonical, parse
from forestall_edge.refusal import Reason, Refused

ALGORITHM = "ES256"

NUMBER = 32
"""Bytes of each of a signature's two numbers, and of a point's coordinates (RFC 7518, 3.4)."""

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")

_ES256 = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Token:
    """Its form is good; nothing of it counts before `require_signed`."""

    head: str = field(repr=False)
    """The header as it came: equal texts are equal headers."""
    _body: str = field(repr=False)
    _signed: bytes = field(repr=False)
    _signature: bytes = field(repr=False)

    def header(self) -> Mapping[str, Any]:
        """Raises Refused: malformed."""
        return _object(self.head)

    def require_signed(self, key: ec.EllipticCurvePublicKey) -> Mapping[str, Any]:
        """The claims, if the key signed them. Raises Refused: bad_signature, malformed."""
        r, s = int.from_bytes(self._signature[:NUMBER], "big"), int.from_bytes(self._signature[NUMBER:], "big")
        try:
            key.verify(encode_dss_signature(r, s), self._signed, _ES256)
        except InvalidSignature:
            raise Refused(Reason.BAD_SIGNATURE) from None
        return _object(self._body)


def read(text: str, *, max_bytes: int) -> Token:
    """Raises Refused: too_large, malformed."""
    if len(text) > max_bytes:
        raise Refused(Reason.TOO_LARGE)
    parts = text.split(".")
    if len(parts) != 3 or not text.isascii():
        raise Refused(Reason.MALFORMED, "not three parts of ASCII")
    head, body, last = parts
    signature = decode(last)
    if len(signature) != 2 * NUMBER:
        raise Refused(Reason.MALFORMED, "not a signature of ES256")
    return Token(head, body, text[: -len(last) - 1].encode("ascii"), signature)


def require_type(header: Mapping[str, Any], kind: str, members: frozenset[str]) -> None:
    """The header says this kind and our algorithm, and nothing that we do not know. Raises Refused: wrong_type."""
    if header.get("typ") != kind or header.get("alg") != ALGORITHM or header.keys() != members:
        raise Refused(Reason.WRONG_TYPE)


def read_key(member: object) -> tuple[ec.EllipticCurvePublicKey, str]:
    """A public key of P-256 as a JWK has it, and its thumbprint (RFC 7638).

    Raises:
        Refused: malformed; it is of another kind, holds something secret, or is no point of the curve.
    """
    if not isinstance(member, dict) or member.get("kty") != "EC" or member.get("crv") != "P-256" or "d" in member:
        raise Refused(Reason.MALFORMED, "not a public key of P-256")
    x, y = (decode(member[name]) if isinstance(member.get(name), str) else b"" for name in ("x", "y"))
    if len(x) != NUMBER or len(y) != NUMBER:
        raise Refused(Reason.MALFORMED, "a coordinate does not have 32 bytes")
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        key = numbers.public_key()
    except ValueError:
        raise Refused(Reason.MALFORMED, "not a point of the curve") from None
    bare = {"crv": "P-256", "kty": "EC", "x": member["x"], "y": member["y"]}
    return key, encode(hashlib.sha256(canonical(bare)).digest())


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return _encoded(data).decode("ascii")


def decode(text: str) -> bytes:
    """Raises Refused: malformed; also where another text stands for the same bytes."""
    try:
        given = text.encode("ascii")
        data = binascii.a2b_base64(given.translate(_FROM_URL) + b"=" * (-len(given) % 4))
    except (UnicodeEncodeError, binascii.Error):
        raise Refused(Reason.MALFORMED, "not base64url") from None
    if _encoded(data) != given:
        raise Refused(Reason.MALFORMED, "not base64url in its one form")
    return data


def _encoded(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL)


def _object(part: str) -> Mapping[str, Any]:
    data = decode(part)
    try:
        value = parse(data, max_bytes=len(data))
    except NotJson:
        raise Refused(Reason.MALFORMED, "not JSON with one meaning") from None
    if not isinstance(value, dict):
        raise Refused(Reason.MALFORMED, "not an object")
    return value
