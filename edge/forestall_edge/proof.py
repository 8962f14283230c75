"""That whoever presents a permit holds the key that it is bound to: a DPoP proof (RFC 9449, 4.3) for this one use.

It needs no burning of its own: it names the permit (`ath`), and a permit is used once.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from forestall_edge.refusal import Reason, Refused
from forestall_edge.token import encode, read, read_key, require_type

TYPE = "dpop+jwt"

MAX_PROOF = 4096
"""Bytes. One has about 550."""

WINDOW_S = 30
"""How old a proof may be. It is made when the call is forwarded."""

MAX_JTI = 256

_HEADER = frozenset({"typ", "alg", "jwk"})
_CLAIMS = frozenset({"jti", "htm", "htu", "iat", "ath"})


class Presenters:
    """The keys of those who presented permits before, by the header of their proofs: a gateway has one for its life."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._known: OrderedDict[str, tuple[ec.EllipticCurvePublicKey, str]] = OrderedDict()

    def require_proof(self, text: str, *, permit: str, key: str, method: str, url: str, now: float, skew: int) -> None:
        """Return only if `text` proves that the holder of `key` presents `permit` with this request, now.

        Raises:
            Refused: too_large, bad_proof, other_key, other_permit, other_request, stale_proof.
        """
        token = read(text, max_bytes=MAX_PROOF)
        public, thumbprint = self._known.get(token.head) or _key(token.header())
        if not hmac.compare_digest(thumbprint.encode(), key.encode()):
            raise Refused(Reason.OTHER_KEY)
        try:
            claims = token.require_signed(public)
        except Refused:
            raise Refused(Reason.BAD_PROOF, "its signature does not hold") from None
        self._remember(token.head, public, thumbprint)
        if claims.keys() != _CLAIMS:
            raise Refused(Reason.BAD_PROOF, "a claim is missing, or unknown")
        ath, jti, iat = claims["ath"], claims["jti"], claims["iat"]
        if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI or type(iat) is not int:
            raise Refused(Reason.BAD_PROOF, "`jti` or `iat` is of another type")
        if not isinstance(ath, str) or not hmac.compare_digest(_hash(permit), ath.encode("utf-8", "surrogatepass")):
            raise Refused(Reason.OTHER_PERMIT)
        if claims["htm"] != method or claims["htu"] != url:
            raise Refused(Reason.OTHER_REQUEST)
        if not now - WINDOW_S - skew <= iat <= now + skew:
            raise Refused(Reason.STALE_PROOF)

    def _remember(self, head: str, key: ec.EllipticCurvePublicKey, thumbprint: str) -> None:
        """Only what has proved something; the least lately added goes first."""
        if head not in self._known:
            self._known[head] = (key, thumbprint)
            while len(self._known) > self._most:
                self._known.popitem(last=False)


def _key(header: Mapping[str, Any]) -> tuple[ec.EllipticCurvePublicKey, str]:
    jwk = header.get("jwk")
    if isinstance(jwk, dict) and jwk.keys() == {"kty", "crv", "x", "y"}:
        with suppress(Refused):
            require_type(header, TYPE, _HEADER)
            return read_key(jwk)
    raise Refused(Reason.BAD_PROOF, "its header is not a proof's")


def _hash(permit: str) -> bytes:
    return encode(hashlib.sha256(permit.encode()).digest()).encode()
