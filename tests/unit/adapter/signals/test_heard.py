from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from forestall.adapter.signals import heard
from forestall.adapter.signals.heard import Heard
from forestall.core.errors import Unavailable

NOW = 1_795_000_000_000
DAY = 86_400_000


def test_an_event_is_remembered_for_as_long_as_it_would_be_taken(tmp_path: Path) -> None:
    memory = Heard(tmp_path / "s")
    assert not memory.was_heard("a")
    memory.remember("a", NOW + 1000, issuer="i", subject="", at=NOW, now=NOW)
    assert memory.was_heard("a")
    memory.close()
    again = Heard(tmp_path / "s")
    assert again.was_heard("a")
    again.remember("b", NOW + DAY, issuer="i", subject="", at=NOW, now=NOW + 1000)
    assert not again.was_heard("a")
    assert again.was_heard("b")
    again.close()


def test_the_newest_of_a_subject_is_its_transmitters_own(tmp_path: Path) -> None:
    memory = Heard(tmp_path / "s")
    memory.remember("a", NOW + 1000, issuer="i", subject="user u", at=NOW, now=NOW)
    assert memory.newest("i", "user u") == NOW
    assert memory.newest("i", "user v") == memory.newest("j", "user u") == 0
    memory.close()


def test_a_sign_out_never_moves_back_and_outlives_a_restart(tmp_path: Path) -> None:
    memory = Heard(tmp_path / "s")
    assert memory.signed_out_at("u") == 0
    memory.sign_out("u", NOW, NOW)
    memory.sign_out("u", NOW - 5, NOW)
    assert memory.signed_out_at("u") == NOW
    memory.close()
    again = Heard(tmp_path / "s")
    assert again.signed_out_at("u") == NOW
    again.close()


def test_it_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "MOST", 2)
    memory = Heard(tmp_path / "s")
    for name in "ab":
        memory.remember(name, NOW + 1000, issuer="i", subject="", at=NOW, now=NOW)
    with pytest.raises(Unavailable, match="as many events as it may"):
        memory.remember("c", NOW + 1000, issuer="i", subject="", at=NOW, now=NOW)
    memory.remember("c", NOW + DAY, issuer="i", subject="", at=NOW, now=NOW + 1000)
    memory.close()


def test_a_file_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nonsense").write_bytes(b"nonsense" * 1000)
    with pytest.raises(Unavailable, match="look at the disk"):
        Heard(tmp_path / "nonsense")
    with sqlite3.connect(tmp_path / "later") as other:
        other.execute("PRAGMA user_version=99")
    other.close()
    with pytest.raises(Unavailable, match="another layout"):
        Heard(tmp_path / "later")
    monkeypatch.setattr(heard, "BUSY_S", 0.01)
    memory = Heard(tmp_path / "s")
    with sqlite3.connect(tmp_path / "s", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked"):
            memory.sign_out("u", NOW, NOW)
        assert memory.signed_out_at("u") == 0
        with pytest.raises(Unavailable, match="locked"):
            memory.remember("a", NOW + 1000, issuer="i", subject="", at=NOW, now=NOW)
        other.execute("ROLLBACK")
    other.close()
    assert not memory.was_heard("a")
    memory.close()
