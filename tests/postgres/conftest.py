"""One cluster for the tests of this folder; whoever stops or breaks one makes another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.shop import Shop, open_shop


@pytest.fixture(scope="session")
def kept_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def shop(kept_shop: Shop) -> Iterator[Shop]:
    """Whatever a test did, no lease is left of it, and the application's data is as it was."""
    yield kept_shop
    assert kept_shop.roles() == set()
    assert kept_shop.app_works()
