"""Payloads that stand encrypted beside their entries: AES-256-GCM, bound to the entry by its leaf hash."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from forestall.adapter.ledger.frames import MAX_SEALED
from forestall.core.errors import InvalidInput, Tampered

KEY = 32
"""Bytes of the key."""

NONCE = 12
"""Bytes. Random: one key may seal 2^32 payloads (NIST SP 800-38D, 8.3), more than a log will ever hold."""


class Sealer:
    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "Sealer"

    def seal(self, payload: bytes, leaf: bytes) -> bytes:
        """The frame's body: nonce, ciphertext, tag. `leaf` is the hash of the entry that it stands beside."""
        if len(payload) > MAX_SEALED:
            raise InvalidInput(f"What is to be sealed is {len(payload)} bytes; the ledger holds {MAX_SEALED}.")
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, payload, leaf)

    def unseal(self, body: bytes, leaf: bytes) -> bytes | None:
        """What was sealed, or None where it was erased: everything after the nonce is zero.

        Raises:
            Tampered: the payload is not the one that was sealed beside this entry with this key.
        """
        sealed = body[NONCE:]
        if not any(sealed):
            return None
        try:
            return self._cipher.decrypt(body[:NONCE], sealed, leaf)
        except InvalidTag:
            raise Tampered("A payload does not open: it was changed, moved, or sealed with another key.") from None
