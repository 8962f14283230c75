"""Base64url as tokens use it (RFC 7515, 2): one text for one sequence of bytes, and every other text refused."""

from __future__ import annotations

import base64
import binascii
import hashlib

from forestall.proof.fault import Fault, InvalidProof


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes that `text` stands for.

    Raises:
        InvalidProof: MALFORMED, for padding, a character outside of the alphabet, or bits that stand for nothing.
    """
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidProof(Fault.MALFORMED, "a part is not base64url") from None
    if encode(data) != text:  # the library passes over what it does not know; two texts of one token are two replays
        raise InvalidProof(Fault.MALFORMED, "a part is not base64url in its one form")
    return data


def digest(data: bytes) -> str:
    """The SHA-256 of `data` in base64url: how `ath`, `x5t#S256` and thumbprints are written."""
    return encode(hashlib.sha256(data).digest())
