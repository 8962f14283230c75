"""What was heard: which events were carried out, how new the newest of a kind is, and whose sign-ins count no more.

SQLite, synced before a caller is answered. An event is written here after its orders are in the log: a crash between
the two makes the transmitter send it again, and every order given twice is as good as once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from forestall.core.errors import Unavailable

LAYOUT = 1

BUSY_S = 5.0
"""Seconds to wait for whoever else has the file."""

MOST = 1_000_000
"""Events that are remembered. Each is for as long as it would be taken: a transmitter that sends more has to wait."""

SIGN_IN_MS = 8 * 86_400_000
"""How long it is remembered that sign-ins count no more: longer than any token of them may live."""

_TABLES = """
CREATE TABLE heard(id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX heard_until ON heard(until);
CREATE TABLE newest(issuer TEXT, subject TEXT, at INTEGER NOT NULL, PRIMARY KEY(issuer, subject)) WITHOUT ROWID;
CREATE TABLE signed_out(user TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
"""


class Heard:
    """Blocking, and safe to use from any thread. Times are milliseconds since the epoch."""

    def __init__(self, path: Path) -> None:
        """Raises Unavailable: the file cannot be used."""
        self._path, self._lock = path, threading.Lock()
        try:
            self._connection = _open(path)
            rows = self._connection.execute("SELECT user, at FROM signed_out")
            self._signed_out: dict[str, int] = dict(rows.fetchall())
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def was_heard(self, event: str) -> bool:
        """Raises Unavailable, as everything here that touches the disk."""
        return self._one("SELECT 1 FROM heard WHERE id = ?", event) is not None

    def newest(self, issuer: str, subject: str) -> int:
        """When the newest event of this subject happened that was carried out; 0 where there was none."""
        return self._one("SELECT at FROM newest WHERE issuer = ? AND subject = ?", issuer, subject) or 0

    def signed_out_at(self, user: str) -> int:
        """Sign-ins of the user up to then count no more; 0 where all do. From memory."""
        return self._signed_out.get(user, 0)

    def sign_out(self, user: str, at: int, now: int) -> None:
        """Sign-ins of the user up to `at` count no more."""
        at = max(at, self.signed_out_at(user))
        self._write(
            [
                ("DELETE FROM signed_out WHERE at < ?", (now - SIGN_IN_MS,)),
                ("INSERT OR REPLACE INTO signed_out VALUES(?, ?)", (user, at)),
            ]
        )
        self._signed_out[user] = at

    def remember(self, event: str, until: int, *, issuer: str, subject: str, at: int, now: int) -> None:
        """The event was carried out. `subject`: whose newest it is; empty where its order does not matter."""
        if (self._one("SELECT count(*) FROM heard WHERE until > ?", now) or 0) >= MOST:
            raise Unavailable(f"{self._path} holds as many events as it may; wait until some have ended.")
        statements: list[tuple[str, tuple[object, ...]]] = [
            ("DELETE FROM heard WHERE until <= ?", (now,)),
            ("INSERT OR REPLACE INTO heard VALUES(?, ?)", (event, until)),
        ]
        if subject:
            statements.append(("INSERT OR REPLACE INTO newest VALUES(?, ?, ?)", (issuer, subject, at)))
        self._write(statements)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _one(self, statement: str, *values: object) -> int | None:
        with self._lock:
            try:
                found = self._connection.execute(statement, values).fetchone()
            except sqlite3.Error as error:
                raise self._unusable(error) from None
        return None if found is None else int(found[0])

    def _write(self, statements: Sequence[tuple[str, tuple[object, ...]]]) -> None:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    self._connection.execute(statement, values)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise self._unusable(error) from None

    def _unusable(self, error: sqlite3.Error) -> Unavailable:
        return Unavailable(f"{self._path} does not take what was heard of security events: {error}; look at the disk.")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        with closing(connection.execute("PRAGMA user_version")) as found:
            (layout,) = found.fetchone()
        if layout == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={LAYOUT}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    if layout not in {0, LAYOUT}:
        connection.close()
        raise sqlite3.DatabaseError("it is of another layout")
    return connection
