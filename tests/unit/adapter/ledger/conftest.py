"""What tests of the ledger share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def unhurried(unhurried: None) -> None:
    """In every test here."""
