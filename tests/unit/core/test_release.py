"""What keeps an output waiting for the record of its outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.effects import Effect
from forestall.core.label import CLEAN
from forestall.core.model import Permit
from forestall.core.quantity import Quantity
from forestall.core.release import released_at_once

PERMIT = Permit("p", "t", "files/read", "", "", frozenset({Effect.READ}), CLEAN, ("one",), "", 0)


def test_an_output_waits_unless_nothing_follows_from_its_record() -> None:
    assert released_at_once(PERMIT, adds_nothing=True)


@pytest.mark.parametrize(
    ("changes", "adds_nothing"),
    [({}, False), ({"credential": "db"}, True), ({"limits": {Quantity.ROWS: 10}}, True)],
)
def test_an_output_waits_for_labels_for_the_end_of_a_credential_and_to_be_measured(
    changes: dict[str, Any], adds_nothing: bool
) -> None:
    assert not released_at_once(replace(PERMIT, **changes), adds_nothing=adds_nothing)
