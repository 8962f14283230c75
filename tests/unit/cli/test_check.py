from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from forestall.adapter.ledger import keys
from forestall.cli import main
from forestall.cli.check import parse_place
from forestall.home import Home
from forestall.policy.problem import Problem
from tests.unit.policy.home import POLICY, furnish


def check(home: Home, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = main(["check", "--home", str(home.root), *more])
    out, err = capsys.readouterr()
    assert not err
    return code, out


def test_a_sound_home_has_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = check(furnish(tmp_path), capsys)
    assert (code, out) == (0, "3 policies, 2 tools, 1 mandate: nothing wrong.\n")


def test_every_problem_is_listed_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path, policy='permit (principal, action in Action::"raed", resource);')
    (home.policy / "other.cedar").write_text("\npermit (principal action, resource);")
    (home.root / "forestall.toml").write_text("[serve]\nno_such_key = 1\n")
    (home.policy / "tests").mkdir()
    (home.policy / "tests" / "t.toml").write_text("[[case]]\n")
    (home.mandates / "default.toml").unlink()
    (home.mandates / "other.toml").write_text(
        'purpose = "x"\ntools = ["git/*"]\neffects = ["read"]\nlifetime_minutes = 1\n'
    )
    code, out = check(home, capsys)
    assert code == 1
    assert (
        f"{home.policy}/main.cedar:1:38: No tool and no group of effects is called `raed`. Did you mean `read`?" in out
    )
    assert f"{home.policy}/other.cedar:2:19: This does not parse" in out
    assert "forestall.toml:2" in out
    assert "no default mandate" in out
    assert f"{home.mandates}/other.toml: warning: `git/*` matches no tool" in out
    assert "tests/t.toml:1: This test cannot be run: `name` is missing" in out
    assert out.endswith("5 errors, 1 warning.\n")


def test_a_warning_does_not_fail_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = check(furnish(tmp_path, policy="permit (principal, action, resource);"), capsys)
    assert code == 0
    assert "warning: This permits every tool" in out


def test_a_broken_catalogue_still_lets_the_policies_be_parsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = furnish(tmp_path, policy="permit;")
    (home.catalogue / "fs.toml").write_text("not toml")
    code, out = check(home, capsys)
    assert code == 1
    assert "fs.toml" in out
    assert "main.cedar:1:7: This does not parse" in out
    assert "only parsed, not validated" in out


def test_no_mandate_at_all_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    shutil.rmtree(home.mandates)
    code, out = check(home, capsys)
    assert code == 0
    assert "warning: There is no mandate" in out


def test_mandates_without_the_default_one_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is a directory of mandates, the decision point writes none into it."""
    home = furnish(tmp_path)
    (home.mandates / "default.toml").unlink()
    code, out = check(home, capsys)
    assert code == 1
    assert f"{home.mandates / 'default.toml'}: There is no default mandate" in out


def test_an_id_that_is_taken_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    (home.policy / "more.cedar").write_text('@id("reports") forbid (principal, action, resource);')
    code, out = check(home, capsys)
    assert code == 1
    assert out.count("The id `reports` is taken") == 1


def test_what_would_deny_everything_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path, policy="", catalogue=False)
    code, out = check(home, capsys)
    assert code == 0
    assert f"{home.policy}: warning: There is no policy" in out
    assert f"{home.catalogue}: warning: No tool is reviewed" in out


def test_keys_that_are_there_have_to_be_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    keys.create(home.keys)
    assert check(home, capsys)[0] == 0
    (home.keys / "payload.key").unlink()
    code, out = check(home, capsys)
    assert (code, "payload.key is missing; restore it from a backup." in out) == (1, True)


def test_a_socket_whose_path_is_too_long_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = furnish(tmp_path)
    home.config.write_text(f"[serve]\nsocket = '/{'s' * 200}'\n")
    code, out = check(home, capsys)
    assert (code, "put `socket = " in out) == (1, True)


def test_an_empty_home_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = check(Home(tmp_path / "none"), capsys)
    assert code == 1
    assert "There is no policy directory here; `forestall init` writes a starter policy." in out


def test_a_program_gets_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = check(furnish(tmp_path / "good"), capsys, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["problems"] == []
    assert answer["policy_digest"].startswith("sha256:")
    assert (answer["policies"], answer["tools"], answer["mandates"]) == (3, 2, 1)
    home = furnish(tmp_path / "bad", policy=POLICY.replace("context.paths has path.inside", "context.paths has pth"))
    code, out = check(home, capsys, "--json")
    answer = json.loads(out)
    problem = answer["problems"][0]
    assert code == 1
    assert answer["policy_digest"] is None
    assert (problem["severity"], problem["file"], problem["line"]) == ("error", f"{home.policy}/main.cedar", 6)
    assert problem["column"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("/a/b.toml:3:7: Wrong: very.", Problem("/a/b.toml", 3, 7, "Wrong: very.")),
        ("b.toml:3: Wrong.", Problem("b.toml", 3, 0, "Wrong.")),
        ("/a/b.toml: Wrong.", Problem("/a/b.toml", 0, 0, "Wrong.")),
        ("The tool `a` is there twice: rename.", Problem("", 0, 0, "The tool `a` is there twice: rename.")),
    ],
)
def test_a_place_is_read_out_of_a_sentence(text: str, problem: Problem) -> None:
    assert parse_place(text) == problem
