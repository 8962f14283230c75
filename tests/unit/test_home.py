"""Where things are: one directory, found the same way by every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.home import VARIABLE, Home


def test_the_directory_given_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Home.find().root == tmp_path / ".forestall"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "elsewhere"))
    assert Home.find().root == tmp_path / "elsewhere"
    assert Home.find(str(tmp_path / "given")).root == tmp_path / "given"


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_name_is_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nothing: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")
    assert Home.find(nothing).root == tmp_path / ".forestall"


def test_a_relative_name_starts_where_the_command_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home.find("here").root == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert Home.find("~/there").root == tmp_path / "me" / "there"


def test_finding_it_makes_nothing(tmp_path: Path) -> None:
    Home.find(str(tmp_path / "absent"))
    assert list(tmp_path.iterdir()) == []


def test_everything_is_inside_it() -> None:
    home = Home(Path("/home"))
    places = [
        home.config,
        home.policy,
        home.mandates,
        home.catalogue,
        home.keys,
        home.ledger,
        home.state,
        home.run,
        home.socket,
        home.backups,
    ]
    assert [str(place) for place in places] == [
        "/home/forestall.toml",
        "/home/policy",
        "/home/policy/mandates",
        "/home/catalogue",
        "/home/keys",
        "/home/ledger",
        "/home/state.sqlite",
        "/home/run",
        "/home/run/socket",
        "/home/backups",
    ]
