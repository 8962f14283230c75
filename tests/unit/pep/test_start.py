"""What a starter passes on to a decision point, and what it says when none comes up."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from forestall.core.errors import SetupError, Unavailable
from forestall.home import Home
from forestall.pep import start
from forestall.pep.start import KEPT, ensure_running, socket_path


@pytest.mark.parametrize("name", ["PATH", "HOME", "LC_ALL", "XDG_CONFIG_HOME", "FORESTALL_HOME", "PYTHONPATH"])
def test_what_it_needs_is_passed_on(name: str) -> None:
    assert KEPT.fullmatch(name)


@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "MYPATH", "PATHS", "LD_PRELOAD", "HOMEX"])
def test_what_may_be_a_secret_is_not(name: str) -> None:
    assert not KEPT.fullmatch(name)


def test_where_it_listens_is_read_from_the_settings(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert socket_path(home) == home.socket
    home.config.write_text('[serve]\nsocket = "/run/f.sock"\n')
    assert socket_path(home) == Path("/run/f.sock")
    home.config.write_text("[serve]\nsokcet = 3\n")
    with pytest.raises(SetupError, match="did you mean `socket`"):
        ensure_running(home, 1000)


def interpreter(tmp_path: Path, script: str) -> str:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo one >&2; echo 'forestall: The disk is full.' >&2; echo >&2; exit 69", "start: The disk is full."),
        ("printf 'a\\033[31mb' >&2; exit 1", "start: a[31mb"),
        ("exit 70", "it said nothing"),
        ("kill -9 $$", "it said nothing"),
    ],
)
def test_what_it_said_last_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    home = Home(tmp_path / "home")
    home.run.mkdir(parents=True)
    (home.run / "serve.log").write_text("forestall: Said by another, long ago.\n")
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, script))
    with pytest.raises(Unavailable) as caught:
        ensure_running(home, 20_000)
    assert says in str(caught.value)
    assert "long ago" not in str(caught.value)


def test_one_that_ends_well_is_tried_again_until_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = tmp_path / "tried"
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, f"echo x >> {tried}; exit 0"))
    with pytest.raises(Unavailable, match="did not start within 500 ms"):
        ensure_running(Home(tmp_path / "home"), 500)
    assert tried.read_text().count("x") > 1


def test_what_cannot_be_run_or_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(Unavailable, match="cannot be started"):
        ensure_running(Home(tmp_path / "home"), 1000)
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        ensure_running(Home(tmp_path / "file" / "home"), 1000)


def test_a_link_in_place_of_its_log_is_not_followed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.run.mkdir(parents=True)
    (home.run / "serve.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="cannot be written"):
        ensure_running(home, 1000)
    assert not (tmp_path / "elsewhere").exists()


def test_its_log_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, "exit 3"))
    before = os.umask(0)
    try:
        with pytest.raises(Unavailable):
            start.ensure_running(home, 20_000)
    finally:
        os.umask(before)
    for path in (home.root, home.run, home.run / "serve.log"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
