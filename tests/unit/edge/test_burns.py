"""Burns: one caller wins, on disk before anybody is told, whoever is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from forestall_edge import MemoryBurns, Reason, SqliteBurns
from forestall_edge.testing import AT, BurnsContract, Open, key
from tests.edges import refused

RACE = """
import sys
from pathlib import Path
from forestall_edge import Refused, SqliteBurns
from forestall_edge.testing import AT, key
store = SqliteBurns(Path(sys.argv[1]), lambda: AT)
print("ready", flush=True)
sys.stdin.readline()
won = 0
for number in range(50):
    try:
        store.burn(key(str(number)), AT + 10, AT)
        won += 1
    except Refused as refused:
        assert refused.reason == "burned", refused
print(won, flush=True)
sys.stdin.readline()
"""


class TestMemory(BurnsContract):
    @pytest.fixture
    def open_store(self) -> Open:
        return lambda now: MemoryBurns(lambda: now)


class TestSqlite(BurnsContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path, request: pytest.FixtureRequest) -> Open:
        def open_(now: int) -> SqliteBurns:
            store = SqliteBurns(tmp_path / "burns.sqlite", lambda: now)
            request.addfinalizer(store.close)
            return store

        return open_


def test_memory_is_bounded() -> None:
    store = MemoryBurns(lambda: AT, most=2)
    store.burn(key("a"), AT + 10, AT)
    store.burn(key("b"), AT + 10, AT)
    with refused(Reason.UNAVAILABLE):
        store.burn(key("c"), AT + 10, AT)
    store.burn(key("c"), AT + 20, AT + 10)


def racer(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RACE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_of_many_processes_one_wins_each(tmp_path: Path) -> None:
    racers = [racer(tmp_path / "burns") for _ in range(3)]
    try:
        for each in racers:
            assert each.stdout.readline() == "ready\n"
        for each in racers:
            each.stdin.write("\n")
            each.stdin.flush()
        assert sum(int(each.stdout.readline()) for each in racers) == 50
    finally:
        for each in racers:
            each.communicate("\n")


def test_what_was_burnt_by_a_process_that_is_killed_stays_burnt(tmp_path: Path) -> None:
    with racer(tmp_path / "burns") as victim:
        victim.stdout.readline()
        victim.stdin.write("\n")
        victim.stdin.flush()
        assert victim.stdout.readline() == "50\n"
        os.kill(victim.pid, signal.SIGKILL)
        victim.communicate()
    store = SqliteBurns(tmp_path / "burns", lambda: AT + 1)
    for number in range(50):
        with refused(Reason.BURNED):
            store.burn(key(str(number)), AT + 10, AT)
    assert store.since == AT
    store.close()


def test_it_syncs_before_it_says_so(tmp_path: Path) -> None:
    store = SqliteBurns(tmp_path / "burns", lambda: AT)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_what_ended_is_taken_away(tmp_path: Path) -> None:
    store = SqliteBurns(tmp_path / "burns", lambda: AT)
    for number in range(100):
        store.burn(key(str(number)), AT + 10, AT)
    for number in range(3):
        store.burn(key(f"later {number}"), AT + 60, AT + 20)
    assert store._connection.execute("SELECT count(*) FROM burn").fetchone() == (3,)
    store.close()


@pytest.mark.parametrize("wrong", ["damaged", "layout", "others", "link", "directory"])
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "burns"
    if wrong == "damaged":
        path.write_bytes(b"this is no database" * 100)
    elif wrong == "layout":
        SqliteBurns(path, lambda: AT).close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE record SET layout = 9")
        connection.close()
    elif wrong == "others":
        path.touch()
        path.chmod(0o622)
    elif wrong == "link":
        (tmp_path / "elsewhere").touch()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    with refused(Reason.UNAVAILABLE):
        SqliteBurns(path, lambda: AT)


def test_a_file_that_cannot_be_written_any_more_refuses(tmp_path: Path) -> None:
    store = SqliteBurns(tmp_path / "burns", lambda: AT)
    store.close()
    with refused(Reason.UNAVAILABLE):
        store.burn(key("a"), AT + 10, AT)


def test_a_forked_child_does_not_use_its_parents_file(tmp_path: Path) -> None:
    store = SqliteBurns(tmp_path / "burns", lambda: AT)
    store._pid = os.getpid() + 1
    with refused(Reason.UNAVAILABLE):
        store.burn(key("a"), AT + 10, AT)
    store.close()
