from __future__ import annotations

import json
from pathlib import Path

import pytest

from forestall.cli import main
from forestall.home import Home
from tests.unit.policy.home import furnish

CASES = """\
[[case]]
name = "a report is written"
tool = "fs/write_file"
arguments = { path = "reports/a", content = "x" }
paths = { path = "reports/a" }
expect = "permit"
policies = ["reports"]

[[case]]
name = "anything else is asked about"
tool = "fs/write_file"
arguments = { path = "../reports/a" }
paths = { path = "/home/reports/a" }
expect = "hold"
reason = "needs_approval"
approvers = ["user:root"]
"""


def write(home: Home, text: str, name: str = "main.toml") -> Path:
    directory = home.policy / "tests"
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)
    return directory / name


def run(home: Home, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    code = main(["test", "--home", str(home.root), *more])
    return code, *capsys.readouterr()


def test_tests_that_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    write(home, CASES)
    assert run(home, capsys) == (0, "2 policy tests, 0 failed.\n", "")


def test_a_sentence_that_policy_ended_is_not_ended_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    write(home, '[[case]]\nname = "a"\ntool = "fs/write_file"\nexpect = "permit"\n')
    code, out, _ = run(home, capsys)
    assert code == 1
    assert "got deny (invalid_arguments): The argument `path` is missing.\n" in out


def test_a_path_of_an_argument_that_there_is_not_is_no_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would say nothing, and pass."""
    home = furnish(tmp_path)
    file = write(home, CASES.replace('paths = { path = "/home', 'paths = { pth = "/home'))
    code, out, _ = run(home, capsys)
    assert code == 1
    assert f"{file}:9: anything else is asked about: This test cannot be run: `paths.pth`: the tool has no such" in out
    assert "Did you mean `path`?\n" in out


def test_a_test_that_fails_says_where_and_what_was_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    file = write(home, CASES.replace('expect = "hold"', 'expect = "deny"'))
    code, out, _ = run(home, capsys)
    assert code == 1
    got = "got hold (needs_approval) by `ask`, waiting for user:root"
    assert out.splitlines() == [
        f"{file}:9: anything else is asked about: wanted expect 'deny'; {got}.",
        "2 policy tests, 1 failed.",
    ]


def test_a_test_of_a_tool_that_there_is_not_fails_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = furnish(tmp_path)
    file = write(home, CASES.replace('tool = "fs/write_file"', 'tool = "fs/wrte_file"', 1))
    code, out, _ = run(home, capsys)
    assert code == 1
    assert f"{file}:1: a report is written: This test cannot be run: there is no tool `fs/wrte_file`" in out
    assert out.endswith("2 policy tests, 1 failed.\n")


def test_no_tests_is_said_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    assert run(home, capsys) == (0, f"No policy tests in {home.policy}/tests.\n", "")
    empty = write(home, "# none yet")
    assert run(home, capsys)[0] == 0
    code, out, _ = run(home, capsys, str(empty))
    assert (code, out) == (1, f"No policy tests in {empty}.\n")


def test_a_path_that_there_is_not_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(furnish(tmp_path), capsys, str(tmp_path / "none.toml"))
    assert code == 78
    assert "There is no such file" in err


def test_the_paths_given_are_the_ones_that_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    first, second = write(home, CASES, "one.toml"), write(home, CASES, "two.toml")
    assert run(home, capsys, str(first))[1] == "2 policy tests, 0 failed.\n"
    assert run(home, capsys, str(first), str(second))[1] == "4 policy tests, 0 failed.\n"
    assert run(home, capsys, str(first.parent))[1] == "4 policy tests, 0 failed.\n"


def test_a_broken_policy_is_said_before_any_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path, policy="permit;")
    write(home, CASES)
    code, out, err = run(home, capsys)
    assert (code, out) == (78, "")
    assert "main.cedar:1:7: This does not parse" in err


def test_a_program_gets_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    write(home, CASES.replace('policies = ["reports"]', 'policies = ["reads"]'))
    code, out, _ = run(home, capsys, "--json")
    answer = json.loads(out)
    assert code == 1
    assert answer["failed"] == 1
    assert [case["passed"] for case in answer["cases"]] == [False, True]
    assert "'reads'" in answer["cases"][0]["problem"]
    assert answer["cases"][0]["line"] == 1
