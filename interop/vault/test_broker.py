"""The contract that every broker keeps, by users of a database and by tokens that are given out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from forestall.adapter.credential.openbao_tokens import NAME
from forestall.core.model import Secret
from forestall.testing.broker import Bench, BrokerContract, secret_of
from interop.vault.desk import DATABASE, TOKEN, bench_of, may_select, opened
from interop.vault.shop import Shop


@pytest.fixture(scope="session")
def elsewhere(shop: Shop) -> Iterator[Secret]:
    """What another Forestall lent there."""
    with bench_of(shop) as other:
        lease = other.issued()
        yield secret_of(lease)
        other.broker.revoke(lease)


@pytest.fixture(scope="session")
def namesake(shop: Shop) -> Iterator[str]:
    """A token that claims to be a lease, and was made by another token role."""
    meta = {NAME: f"forestall-0a1b2c3d-{'0' * 32}"}
    made = shop.server.ask("POST", "auth/token/create", {"policies": ["shop-ro"], "meta": meta, "ttl": "1h"})["auth"]
    yield str(made["client_token"])
    shop.server.ask("POST", "auth/token/revoke-accessor", {"accessor": made["accessor"]})


class Contract(BrokerContract):
    settings = DATABASE

    @pytest.fixture
    def bench(self, shop: Shop, elsewhere: Secret, namesake: str) -> Iterator[Bench]:
        with bench_of(shop, self.settings) as made:
            made.others += [
                lambda: may_select(shop, elsewhere),
                lambda: shop.server.status("GET", "auth/token/lookup-self", token=namesake) == 200,
            ]
            yield made


class TestUsersOfADatabase(Contract): ...


class TestTokens(Contract):
    settings = TOKEN


def test_another_process_finds_by_its_name_what_the_first_one_made(shop: Shop) -> None:
    with bench_of(shop) as bench:
        lease = bench.issued()
        with closing(opened(shop, bench.owner)) as other:
            assert list(other.list_orphans(())) == [lease.name]
            other.revoke(replace(lease, secret=None, rights={}))
        assert lease.name not in bench.alive()


def test_a_token_that_claims_a_name_and_is_of_another_role_is_nobodys(shop: Shop, namesake: str) -> None:
    with closing(opened(shop, "0a1b2c3d")) as broker, bench_of(shop) as bench:
        assert list(broker.list_orphans(())) == []
        broker.revoke(replace(bench.lease(), name=f"forestall-0a1b2c3d-{'0' * 32}"))
    assert shop.server.status("GET", "auth/token/lookup-self", token=namesake) == 200
