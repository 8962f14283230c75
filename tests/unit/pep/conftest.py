from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcpkit.decision_point import DecisionPoint


@pytest.fixture
def gateway_home() -> Iterator[Path]:
    """A home with a path short enough for a socket."""
    root = Path(tempfile.mkdtemp(prefix="fg-"))
    (root / "run").mkdir()
    yield root
    shutil.rmtree(root)


@pytest.fixture
def scripted(gateway_home: Path) -> Iterator[DecisionPoint]:
    """A decision point that permits all, until the test says otherwise."""
    point = DecisionPoint(gateway_home / "run" / "socket")
    yield point
    point.close()
