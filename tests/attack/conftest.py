from __future__ import annotations

from collections.abc import Iterator

import pytest

from forestall.home import Home
from tests.attack import scratch as scratches
from tests.attack.scratch import Scratch
from tests.unit.pep.conftest import gateway_home, scripted

__all__ = ["gateway_home", "model", "scratch", "scripted", "used", "used_model"]


@pytest.fixture(scope="module")
def model() -> Iterator[Home]:
    """A home with every tool of the plain server reviewed, and a policy that permits all."""
    with scratches.reviewed() as home:
        yield home


@pytest.fixture
def scratch(model: Home) -> Iterator[Scratch]:
    with scratches.scratch(model) as one:
        yield one


@pytest.fixture(scope="module")
def used_model(model: Home) -> Iterator[Home]:
    """The same with a ledger and keys."""
    with scratches.used(model) as home:
        yield home


@pytest.fixture
def used(used_model: Home) -> Iterator[Scratch]:
    with scratches.scratch(used_model) as one:
        yield one
