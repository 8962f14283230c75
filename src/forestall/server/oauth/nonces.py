"""Nonces for DPoP proofs (RFC 9449, 8): nobody can foresee one, and nothing has to be remembered of them."""

from __future__ import annotations

import hashlib
import hmac

from forestall.proof.encoding import encode

PERIOD_MS = 60_000
"""How long one is handed out. It counts until the next one's time is over as well."""


class Nonces:
    def __init__(self, secret: bytes) -> None:
        """`secret`: 32 random bytes, of this process alone."""
        self._secret = secret

    def current(self, now: int) -> str:
        return self._of(now // PERIOD_MS)

    def good(self, now: int) -> frozenset[str]:
        return frozenset({self._of(now // PERIOD_MS), self._of(now // PERIOD_MS - 1)})

    def _of(self, period: int) -> str:
        return encode(hmac.digest(self._secret, period.to_bytes(8), hashlib.sha256))
