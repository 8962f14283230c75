"""What every test shares: properties that take their time, and ledgers that verify."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from forestall.adapter.ledger import log
from tests.evidence import require_verified

BUSY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
"""A machine that is busy is no failure."""

settings.register_profile("here", **BUSY)
settings.register_profile("ci", **BUSY, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in a ledger is signed, however slow the machine, but what a test has signed."""
    monkeypatch.setattr(log, "SIGN_AFTER_S", 1000)


@pytest.fixture(autouse=True)
def evidence(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test did, the ledgers in its `tmp_path` verify, unless it is marked `tampers`."""
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None and request.node.get_closest_marker("tampers") is None:
        require_verified(folder)
