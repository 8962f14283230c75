from __future__ import annotations

import pytest

from forestall.adapter.ledger.frames import MAX_SEALED
from forestall.adapter.ledger.seal import NONCE, Sealer
from forestall.core.errors import InvalidInput, Tampered

KEY, LEAF = bytes(range(32)), b"l" * 32
SEALER = Sealer(KEY)


def test_what_is_sealed_opens_beside_its_entry_alone() -> None:
    body = SEALER.seal(b"secret", LEAF)
    assert SEALER.unseal(body, LEAF) == b"secret"
    assert b"secret" not in body
    with pytest.raises(Tampered):
        SEALER.unseal(body, b"m" * 32)
    with pytest.raises(Tampered):
        Sealer(bytes(32)).unseal(body, LEAF)


def test_two_sealings_of_one_payload_differ() -> None:
    assert SEALER.seal(b"secret", LEAF) != SEALER.seal(b"secret", LEAF)


def test_every_changed_byte_is_refused() -> None:
    body = SEALER.seal(b"secret", LEAF)
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 1
        with pytest.raises(Tampered):
            SEALER.unseal(bytes(changed), LEAF)


def test_an_erased_payload_is_none() -> None:
    body = SEALER.seal(b"secret", LEAF)
    assert SEALER.unseal(body[:NONCE] + bytes(len(body) - NONCE), LEAF) is None


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ledger holds"):
        SEALER.seal(bytes(MAX_SEALED + 1), LEAF)


def test_a_sealer_does_not_show_its_key() -> None:
    assert repr(SEALER) == "Sealer"
