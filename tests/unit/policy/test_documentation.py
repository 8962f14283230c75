"""What docs/policy.md shows is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forestall.policy import annotation, cases
from forestall.policy.schema import COMMON, GROUPS
from tests.unit.policy.world import TOOLS, engine, problems

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
BLOCKS = {kind: re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("cedar", "toml")}
TOOL_IDS = {tool.id: tool for tool in TOOLS}


@pytest.mark.parametrize("text", BLOCKS["cedar"])
def test_every_policy_that_is_shown_is_sound(text: str) -> None:
    assert problems(text) == []


def test_every_case_that_is_shown_holds(tmp_path: Path) -> None:
    built = engine(BLOCKS["cedar"][0])
    (tmp_path / "shown.toml").write_text("\n".join(BLOCKS["toml"]))
    found = cases.read(tmp_path)
    assert len(found) == 4
    assert [cases.run(case, built, TOOL_IDS).problem for case in found] == [""] * 4


def test_everything_that_a_policy_can_speak_of_is_on_the_page() -> None:
    words = {f"context.{name}" for name in ("args", "paths.X", *COMMON)} | set(GROUPS)
    words |= {f"@{name}" for name in annotation.KNOWN}
    assert not [word for word in sorted(words) if f"`{word}" not in PAGE]


def test_every_key_of_a_case_is_on_the_page() -> None:
    section = PAGE.split("## Tests")[1].split("## What the check catches")[0]
    assert not [key for key in cases._KINDS if f"`{key}`" not in section]
