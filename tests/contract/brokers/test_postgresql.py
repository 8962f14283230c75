"""The contract of brokers, at a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from forestall.core.model import Scope
from forestall.testing.broker import Bench, BrokerContract, secret_of
from tests.postgres.shop import OTHER_LOGIN, OTHER_OWNER, OWNER, Shop, action, grant, issued, open_shop, permit

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres")]


@pytest.fixture(scope="class")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def shop(server: Shop) -> Iterator[Shop]:
    """Whatever a test did, the server goes on afterwards, and nothing is left of it."""
    try:
        yield server
    finally:
        server.cluster.resume()
        server.settle()
        server.clear()


class TestPostgresql(BrokerContract):
    @pytest.fixture
    def bench(self, shop: Shop) -> Iterator[Bench]:
        broker = shop.broker(scope=Scope.ACTION, statement="sql")

        def stop() -> None:
            shop.cluster.pause()
            broker.server.timeout_s = 0.3

        other = shop.broker(login=OTHER_LOGIN, owner=OTHER_OWNER)
        theirs = issued(other, "theirs")
        yield Bench(
            broker=broker,
            owner=OWNER,
            now=broker.context.now,
            permit=permit(),
            action=action(sql="SELECT min(total) FROM shop.orders WHERE status = 'new'"),
            grant=grant(),
            works=shop.lets_in,
            alive=lambda: {role for role in shop.roles() if role.startswith(f"forestall-{OWNER}-")},
            stop=stop,
            others=[shop.app_works, lambda: shop.lets_in(secret_of(theirs))],
        )
        broker.close()
        other.close()
