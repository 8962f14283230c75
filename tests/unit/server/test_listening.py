"""The lock and the socket of a home."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from forestall.core.errors import SetupError, Unavailable
from forestall.home import Home
from forestall.server.listening import Held, Lock, answers, listen, prepare, unlink


def test_a_lock_is_held_once_and_says_by_whom(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = Lock.acquire(path)
    with pytest.raises(Held, match=f"process {os.getpid()} holds {path}"):
        Lock.acquire(path)
    lock.release()
    Lock.acquire(path).release()


def test_a_lock_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "missing" / "lock", tmp_path / "link"):
        with pytest.raises(Unavailable, match="cannot be opened"):
            Lock.acquire(path)


def test_a_socket_is_for_its_owner_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path, lock = tmp_path / "socket", Lock.acquire(tmp_path / "lock")
    first = listen(path, lock)
    assert answers(path)
    assert path.stat().st_mode & 0o777 == 0o600
    first.close()
    assert not answers(path)
    second = listen(path, lock)
    assert answers(path)
    second.close()
    unlink(path)
    unlink(path)
    lock.release()


def test_a_socket_that_answers_is_another_homes_and_is_left(tmp_path: Path) -> None:
    path, lock = tmp_path / "socket", Lock.acquire(tmp_path / "lock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(Unavailable, match="another home"):
            listen(path, lock)
    lock.release()


def test_a_place_that_cannot_be_bound_is_one_sentence(tmp_path: Path) -> None:
    lock = Lock.acquire(tmp_path / "lock")
    with pytest.raises(Unavailable, match="cannot be bound"):
        listen(tmp_path / "missing" / "socket", lock)
    lock.release()


def test_a_home_is_made_for_its_owner(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "home")
    prepare(home)
    prepare(home)
    assert {path.stat().st_mode & 0o777 for path in (home.root, home.run, home.ledger)} == {0o700}


def test_a_home_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.root.chmod(0o777)
    with pytest.raises(SetupError, match="chmod 700"):
        prepare(home)


def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be made"):
        prepare(Home(tmp_path / "file" / "home"))
