"""What `LogState` remembers between two runs, in SQLite. Never the truth: whatever is wrong with it, it is thrown away.

WAL and `synchronous=NORMAL`: a crash may lose the newest batches, never part of one, and the log has them all.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LAYOUT = 6
"""Of the tables and of what is in them. An index of another layout is thrown away."""

BUSY_MS = 2_000
"""Milliseconds to wait for a reader of the file, such as a backup, before a batch is left for later."""

_TABLES = """
CREATE TABLE stream(name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE task(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE permit(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE instance(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE used(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE killed(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE target(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE epoch(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE hold(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE lease(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
"""
_ORDER = ("stream", "task", "permit", "instance", "used", "killed", "target", "epoch", "hold", "lease")
"""Tables, as `Batch` has them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows by id; None takes a row away."""

    streams: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Any] = field(default_factory=dict)
    permits: Mapping[str, Any] = field(default_factory=dict)
    instances: Mapping[str, Any] = field(default_factory=dict)
    """Of workloads: what each has seen."""
    used: Mapping[str, Any] = field(default_factory=dict)
    """What counts once, and was shown."""
    killed: Mapping[str, Any] = field(default_factory=dict)
    """Tasks that a kill ended."""
    targets: Mapping[str, Any] = field(default_factory=dict)
    """What stands about each."""
    epoch: Mapping[str, Any] = field(default_factory=dict)
    """One row: how many orders were taken in."""
    holds: Mapping[str, Any] = field(default_factory=dict)
    """With what people said to them."""
    leases: Mapping[str, Any] = field(default_factory=dict)
    """Credentials without an end."""


class Index:
    """One file. Every method raises `sqlite3.Error`, and `load` also `ValueError`, where the file is of no use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        self._connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, check_same_thread=False, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        layout = run("PRAGMA user_version").fetchone()[0]
        if layout not in {0, LAYOUT}:
            raise sqlite3.DatabaseError("another layout")
        if run("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("corrupt")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")
        run("PRAGMA cache_size=-512")
        if layout == 0:
            self._connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={LAYOUT}; COMMIT;")

    def load(self) -> Batch:
        return Batch(*map(self._rows, _ORDER))

    def _rows(self, table: str) -> dict[str, Any]:
        key = "name" if table == "stream" else "id"
        found = self._connection.execute(f"SELECT {key}, body FROM {table}")  # noqa: S608 - both are literals above
        return {name: json.loads(body) for name, body in found}

    def write(self, batch: Batch) -> None:
        """All of it or nothing."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            self._put("stream", "name", batch.streams)
            self._put("task", "id", batch.tasks)
            self._put("permit", "id", batch.permits)
            self._put("instance", "id", batch.instances)
            self._put("used", "id", batch.used)
            self._put("killed", "id", batch.killed)
            self._put("target", "id", batch.targets)
            self._put("epoch", "id", batch.epoch)
            self._put("hold", "id", batch.holds)
            self._put("lease", "id", batch.leases)
            run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                run("ROLLBACK")
            raise

    def _put(self, table: str, key: str, rows: Mapping[str, Any]) -> None:
        gone = [(name,) for name, body in rows.items() if body is None]
        kept = [(name, json.dumps(body, separators=(",", ":"))) for name, body in rows.items() if body is not None]
        self._connection.executemany(f"DELETE FROM {table} WHERE {key}=?", gone)  # noqa: S608 - literals, see `write`
        self._connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES(?,?)", kept)

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def discard(path: Path) -> None:
        """Take the file away, and what SQLite keeps beside it."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
