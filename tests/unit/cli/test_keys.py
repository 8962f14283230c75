"""`forestall keys`: which key signs, which still verify, and a new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter import issuing
from forestall.cli import main
from forestall.home import Home
from tests.desk import opened, write_home
from tests.tokens import NOW, stream


def keys(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["keys", "--home", str(root), *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_key_is_shown_rotated_and_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = issuing.load_or_create(Home(tmp_path).keys, now=NOW, random=stream("one"))
    kid = first.current.public.kid
    assert keys(tmp_path, capsys) == {"signs": {"kid": kid, "since": NOW}, "verify": []}
    second = keys(tmp_path, capsys, "rotate")
    assert second["signs"]["kid"] != kid
    assert [each["kid"] for each in second["verify"]] == [kid]
    assert main(["keys", "--home", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown] == [["signs", second["signs"]["kid"]], ["verifies", kid]]
    assert keys(tmp_path, capsys, "rotate", "--forget")["verify"] == []


def test_nothing_secret_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issuing.load_or_create(Home(tmp_path).keys, now=NOW, random=stream("one"))
    secret = json.loads((Home(tmp_path).keys / issuing.FILE).read_text())["current"]["d"]
    assert main(["keys", "--home", str(tmp_path)]) == 0
    assert secret not in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["rotate"]])
def test_where_there_is_no_key_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["keys", "--home", str(tmp_path), *words]) == 78
    assert "tokens.json is not there" in capsys.readouterr().err


def test_no_key_is_made_where_there_are_no_identities(tmp_path: Path) -> None:
    write_home(tmp_path / "home", {})
    (tmp_path / "home" / "identity.toml").unlink()
    with opened(tmp_path / "home", {}) as desk:
        assert desk.parts.tokens is None
    assert not (tmp_path / "home" / "keys" / issuing.FILE).exists()
