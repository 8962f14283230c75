"""The ten lines of the README, and what the commands say of the home that they leave."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from forestall.cli import main

README = (Path(__file__).parents[3] / "README.md").read_text()


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """As the README has it, after the program ran."""
    home = tmp_path / "forestall-home"
    (home / "policy" / "tests").mkdir(parents=True)
    (home / "policy" / "reports.cedar").write_text(block("cedar"))
    (home / "policy" / "tests" / "reports.toml").write_text(
        '[[case]]\nname = "old reports may go"\ntool = "python/delete"\narguments = { path = "reports/a" }\n'
        'paths = { path = "reports/a" }\nexpect = "permit"\npolicies = ["old-reports"]\n'
    )
    (tmp_path / "reports").mkdir()
    for name in ("reports/2024.md", "contract.md"):
        (tmp_path / name).write_text("text")
    subprocess.run([sys.executable, "-c", block("python")], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    return home


def told(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main([words[0], "--home", str(home), *words[1:]])
    return code, capsys.readouterr().out


def test_the_commands_know_the_tools_of_a_program(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(home, capsys, "check") == (0, "1 policy, 1 tool, 1 mandate: nothing wrong.\n")
    assert told(home, capsys, "test") == (0, "1 policy test, 0 failed.\n")
    code, out = told(home, capsys, "status")
    assert code == 0
    assert "0 tools reviewed, 0 only proposed, 1 declared in code" in out
    assert json.loads(told(home, capsys, "status", "--json")[1])["declared_in_code"] == ["python/delete"]
    entries = [json.loads(line) for line in told(home, capsys, "log", "--json")[1].splitlines()]
    names = {entry["kind"]: entry["id"] for entry in entries}
    _, out = told(home, capsys, "explain", names["denied"])
    assert "permit `old-reports` does not apply: context.paths.path.inside like" in out
    assert "`old-reports` would permit it if this were so" in out
    assert "changed since" not in out
    assert "permit `old-reports` applies" in told(home, capsys, "explain", names["permitted"])[1]


def test_a_policy_that_does_not_fit_the_program_is_found_by_the_check(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "policy" / "reports.cedar").write_text(block("cedar").replace("python/delete", "python/delet"))
    code, out = told(home, capsys, "check")
    assert code == 1
    assert "No tool and no group of effects is called `python/delet`. Did you mean `python/delete`?" in out
