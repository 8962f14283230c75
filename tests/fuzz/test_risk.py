"""Whatever a source of risk says, it is understood as a whole or not at all, and never raises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.adapter.facts.risk_file import RiskFile
from forestall.core.errors import InvalidInput
from forestall.core.model import Risk
from forestall.core.repute import UNKNOWN, Reputes, parse_reputes
from forestall.testing.world import GRANT

WORDS = st.sampled_from(
    ["at", "default", "agents", "users", "trust_domains", "id", "risk", "posture", "disk", "tenant"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(Risk),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(WORDS, VALUES, max_size=5) | VALUES
QUIET = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(max_examples=300)
@given(DOCUMENTS)
def test_any_value_is_standings_or_refused(document: Any) -> None:
    try:
        told = parse_reputes(document, ("disk",))
    except InvalidInput:
        return
    assert isinstance(told, Reputes)
    repute = told.of(GRANT)
    assert repute.risk is None or repute.risk in Risk
    assert set(repute.posture) <= {"disk"}
    assert all(isinstance(value, str) and value for value in repute.posture.values())


@QUIET
@given(
    st.binary(max_size=300) | DOCUMENTS.map(lambda one: json.dumps(one).encode()),
    st.sampled_from(["risk.json", "risk.toml"]),
)
def test_any_bytes_in_the_file_are_read_or_worth_nothing(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    now = path.stat().st_mtime_ns // 1_000_000
    source = RiskFile("fuzz", path, bound_ms=60_000, posture=("disk",), now=lambda: now)
    source.refresh()
    repute = source.read(GRANT, now)
    assert repute == UNKNOWN or not source.problem
