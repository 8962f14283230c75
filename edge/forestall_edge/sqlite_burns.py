"""Burns of one machine: a row in SQLite, inserted by one process and refused to all others, on disk before anybody is
told (WAL, `synchronous=FULL`).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from forestall_edge.refusal import Reason, Refused

LAYOUT = 1
"""Of the tables. A file of another layout is refused."""

BATCH = 64
"""Expired rows that one burn takes away: more than it adds, few enough to cost next to nothing."""

BUSY_MS = 5_000
"""Milliseconds that one process waits for another's insert."""

_TABLES = """
CREATE TABLE IF NOT EXISTS burn(key BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_end ON burn(until);
CREATE TABLE IF NOT EXISTS record(
    one INTEGER PRIMARY KEY CHECK (one = 1), layout INTEGER NOT NULL, since INTEGER NOT NULL, swept_to INTEGER NOT NULL
);
"""


class SqliteBurns:
    """A file that every verifier of the audience on this machine opens. One that is new knows of nothing before."""

    shared = True

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        """Open the file, or make it.

        Raises:
            Refused: unavailable; it is not a file of ours alone, of another layout, damaged, or cannot be written.
        """
        self._path = path
        self._lock = threading.Lock()
        self._pid = os.getpid()
        try:
            _require_private(path)
            self._connection, self.since = _open(path, int(now()))
        except (OSError, sqlite3.Error) as error:
            raise Refused(Reason.UNAVAILABLE, f"{path} cannot be used ({type(error).__name__})") from None

    def burn(self, key: bytes, until: int, now: int) -> None:
        if (
            os.getpid() != self._pid
        ):  # a forked child shares the file's locks, and would break them (sqlite.org/howtocorrupt)
            raise Refused(Reason.UNAVAILABLE, "opened in another process")
        with self._lock:
            try:
                self._insert(key, until, now)
            except sqlite3.Error as error:
                raise Refused(Reason.UNAVAILABLE, f"{self._path} cannot be written ({type(error).__name__})") from None

    def close(self) -> None:
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    def _insert(self, key: bytes, until: int, now: int) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            swept_to: int = run("SELECT swept_to FROM record").fetchone()[0]
            _require_remembered(until, swept_to)
            _require_first(run("INSERT OR IGNORE INTO burn VALUES(?, ?)", (key, until)))
            self._sweep(now, swept_to)
            run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                run("ROLLBACK")
            raise

    def _sweep(self, now: int, swept_to: int) -> None:
        """Forget what ended before now, some at a time; what may be forgotten is never good again."""
        gone = self._connection.execute(
            "DELETE FROM burn WHERE key IN (SELECT key FROM burn WHERE until <= ? ORDER BY until LIMIT ?)", (now, BATCH)
        )
        if gone.rowcount > 0 and now > swept_to:
            self._connection.execute("UPDATE record SET swept_to = ?", (now,))


def _require_remembered(until: int, swept_to: int) -> None:
    if until <= swept_to:
        raise Refused(Reason.EXPIRED, "it may have been used and forgotten; did the clock go back?")


def _require_first(inserted: sqlite3.Cursor) -> None:
    if inserted.rowcount != 1:
        raise Refused(Reason.BURNED)


def _require_private(path: Path) -> None:
    """Make the file for us alone. Raises Refused, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022 or status.st_uid != os.geteuid():
        raise Refused(Reason.UNAVAILABLE, f"{path} is not a file that we alone write")


def _open(path: Path, now: int) -> tuple[sqlite3.Connection, int]:
    """The connection, and since when it knows of burns. Raises Refused, sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection, _begin(connection, now)
    except BaseException:
        connection.close()
        raise


def _begin(connection: sqlite3.Connection, now: int) -> int:
    connection.execute("BEGIN IMMEDIATE")
    with closing(connection.cursor()) as cursor:
        for statement in _TABLES.strip().split(";\n"):
            cursor.execute(statement)
        cursor.execute("INSERT OR IGNORE INTO record VALUES(1, ?, ?, 0)", (LAYOUT, now))
        layout, since = cursor.execute("SELECT layout, since FROM record").fetchone()
    connection.execute("COMMIT")
    if layout != LAYOUT:
        raise Refused(Reason.UNAVAILABLE, "its burns are of another layout")
    return int(since)
