"""A nonce counts for a minute or two, and nobody foresees the next."""

from __future__ import annotations

from forestall.server.oauth.nonces import PERIOD_MS, Nonces
from tests.tokens import NOW


def test_a_nonce_counts_until_the_next_ones_time_is_over() -> None:
    nonces = Nonces(b"s" * 32)
    nonce = nonces.current(NOW)
    assert nonce in nonces.good(NOW)
    assert nonce in nonces.good(NOW + PERIOD_MS)
    assert nonce not in nonces.good(NOW + 2 * PERIOD_MS)
    assert nonce not in nonces.good(NOW - PERIOD_MS)


def test_every_process_has_nonces_of_its_own() -> None:
    assert Nonces(b"s" * 32).good(NOW).isdisjoint(Nonces(b"t" * 32).good(NOW))
