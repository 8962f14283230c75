"""One cluster for the tests of this folder; whoever stops or breaks one makes another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.shop import Shop, open_shop


@pytest.fixture(scope="session")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def shop(_shop: Shop) -> Iterator[Shop]:
    """Whatever a test did, no lease is left of it, and the application's data is as it was."""
    yield _shop
    assert _shop.roles() == set()
    assert _shop.app_works()
