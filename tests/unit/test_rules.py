"""What the owner wrote, read as a whole."""

from __future__ import annotations

from pathlib import Path

from forestall.rules import load_rules
from tests.points import make_home


def test_rules_are_read_without_opening_anything(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    rules = load_rules(home)
    assert (rules.policies, len(rules.catalogue.all()), rules.notice) == (4, 4, "")
