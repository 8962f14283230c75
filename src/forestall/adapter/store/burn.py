"""What was used and must not be used again: ids of proofs, assertions and permits, until nobody takes them any more.

A burn is one row in SQLite, inserted by one process and refused to all others, on disk before anybody is told (WAL,
`synchronous=FULL`). Nothing takes a row away before its time: an issuer that floods the record, or a record that is
full, is refused. Whatever goes wrong is a refusal too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import stat
import tempfile
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from forestall.core.errors import ForestallError, InvalidInput, Unavailable, cure
from forestall.proof.fault import Fault, InvalidProof

LAYOUT = 1
"""Of the tables. A file of another layout is refused."""

MAX_TEXT = 2048
"""Characters of an id, an audience or an issuer. The longest that a standard allows is a SPIFFE ID, of 2048 bytes."""

BATCH = 64
"""Expired rows that one burn takes away: more than the one that it adds, few enough to cost next to nothing."""

_TABLES = """
CREATE TABLE burn(
    key BLOB PRIMARY KEY, issuer TEXT NOT NULL, expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_expiry ON burn(expires_at);
CREATE INDEX by_issuer ON burn(issuer, expires_at);
CREATE TABLE issuer(name TEXT PRIMARY KEY, burns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE record(burns INTEGER NOT NULL, made_at INTEGER NOT NULL, swept_to INTEGER NOT NULL);
CREATE TRIGGER more AFTER INSERT ON burn BEGIN
    UPDATE record SET burns = burns + 1;
    INSERT INTO issuer VALUES(new.issuer, 1) ON CONFLICT(name) DO UPDATE SET burns = burns + 1;
END;
CREATE TRIGGER fewer AFTER DELETE ON burn BEGIN
    UPDATE record SET burns = burns - 1;
    UPDATE issuer SET burns = burns - 1 WHERE name = old.issuer;
    DELETE FROM issuer WHERE name = old.issuer AND burns = 0;
END;
"""
_SWEEP = """
DELETE FROM burn WHERE key IN (SELECT key FROM burn WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)
"""
_SWEEP_ISSUER = """
DELETE FROM burn WHERE key IN (
    SELECT key FROM burn WHERE issuer = ? AND expires_at <= ? ORDER BY expires_at LIMIT ?
)
"""


@dataclass(frozen=True, slots=True)
class Burn:
    """`id` is used up at `audience`, whoever presents it, until `expires_at`.

    Two issuers that may choose the same id for themselves (a `jti` is unique to its issuer alone, RFC 7519 section
    4.1.7) burn each other's, so the caller makes it one name: the issuer or the key's thumbprint, and the `jti`.
    """

    audience: str
    id: str
    issuer: str
    """Whose quota it counts to: something that the caller cannot make up anew, so never a DPoP key."""
    expires_at: int
    """From when on the caller refuses it anyway, its own tolerance for clocks included. It follows from what is burned
    alone, never from when that came: else what is replayed late would be kept, and the first burn of it forgotten.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    per_issuer: int = 100_000
    """Live burns. A thousand calls a second whose proofs live 100 s."""
    total: int = 1_000_000
    """Live burns of all issuers: about 250 MB."""
    lifetime_ms: int = 86_400_000
    """How far ahead `expires_at` may lie. A day; longer than any proof that is meant to be used once."""
    busy_ms: int = 2_000
    """How long to wait for other processes to write."""
    pages: int = 131_072
    """Of 4096 bytes, that the file may grow to: what bounds it if all else fails."""


class Burns:
    """One file, shared by any number of processes and threads. Blocking: it waits for the disk."""

    def __init__(self, path: Path, *, now: int, limits: Limits | None = None) -> None:
        """Opens the record, or makes it: then what was burned before `now` is not known to it, see `made_at`.

        Raises:
            Unavailable: the file cannot be used.
        """
        self._path, self._limits = path, Limits() if limits is None else limits
        self._lock, self._process = threading.Lock(), os.getpid()
        try:
            _make_if_missing(path, now)
            self._file = _identity(path)
            self._connection = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from None

    def _connect(self) -> sqlite3.Connection:
        timeout = self._limits.busy_ms / 1000
        connection = sqlite3.connect(self._path, timeout=timeout, check_same_thread=False, isolation_level=None)
        try:
            _require_layout(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA max_page_count={int(self._limits.pages)}")
            self.made_at: int = connection.execute("SELECT made_at FROM record").fetchone()[0]
            """When this record began, in milliseconds since the epoch. It knows of no burn before."""
        except BaseException:
            connection.close()
            raise
        return connection

    def burn(self, burn: Burn, now: int) -> None:
        """Use it up. Returns once that is on disk, to one caller alone.

        Raises:
            InvalidProof: `replayed`, it is used up already; `expired`, it could be forgotten at once.
            InvalidInput: a name is empty or too long, or it expires too far ahead.
            Unavailable: the quota is used up, or the disk does not take it. It may then be burned all the same.
        """
        self._require_sound(burn, now)
        self._require_own_process()
        key = _key(burn)
        with self._lock:
            try:
                self._require_same_file()
                # first without a lock on the file, so that a replay costs no write
                refusal = self._replay(key) or self._write(key, burn, now)
            except (sqlite3.Error, OSError) as error:
                raise self._unusable(error) from None
        if refusal is not None:
            raise refusal

    def _write(self, key: bytes, burn: Burn, now: int) -> ForestallError | None:
        """A refusal is committed too: what was swept for it need not be swept again."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            self._sweep(burn.issuer, now)
            refusal = self._replay(key) or self._late(burn) or self._over_quota(burn.issuer)
            if refusal is None:
                run("INSERT INTO burn VALUES(?,?,?)", (key, burn.issuer, burn.expires_at))
            run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                run("ROLLBACK")
            raise
        return refusal

    def _sweep(self, issuer: str, now: int) -> None:
        """Take expired rows away, this issuer's first, and remember up to when: a clock set back revives none."""
        run = self._connection.execute
        swept = run(_SWEEP_ISSUER, (issuer, now, BATCH)).rowcount
        if swept < BATCH:
            swept += run(_SWEEP, (now, BATCH - swept)).rowcount
        if swept:
            run("UPDATE record SET swept_to = max(swept_to, ?)", (now,))

    def _replay(self, key: bytes) -> InvalidProof | None:
        found = self._connection.execute("SELECT 1 FROM burn WHERE key = ?", (key,)).fetchone()
        return InvalidProof(Fault.REPLAYED) if found else None

    def _late(self, burn: Burn) -> InvalidProof | None:
        swept_to = self._connection.execute("SELECT swept_to FROM record").fetchone()[0]
        if burn.expires_at > swept_to:
            return None
        return InvalidProof(Fault.EXPIRED, f"the clock was at {swept_to} ms already, when expired burns were forgotten")

    def _over_quota(self, issuer: str) -> Unavailable | None:
        held = self._connection.execute("SELECT burns FROM issuer WHERE name = ?", (issuer,)).fetchone()
        if held is not None and held[0] >= self._limits.per_issuer:
            return Unavailable(
                f"{issuer!r:.200} has {held[0]} used proofs that have not expired, as many as an issuer may; "
                "wait until some have."
            )
        if self._connection.execute("SELECT burns FROM record").fetchone()[0] >= self._limits.total:
            return Unavailable(f"{self._path} holds as many used proofs as it may; wait until some have expired.")
        return None

    def _require_sound(self, burn: Burn, now: int) -> None:
        for name, text in (("audience", burn.audience), ("id", burn.id), ("issuer", burn.issuer)):
            if not 0 < len(text) <= MAX_TEXT:
                raise InvalidInput(f"The {name} of what is used once has {len(text)} characters, not 1 to {MAX_TEXT}.")
        if burn.expires_at <= now:
            raise InvalidProof(Fault.EXPIRED)
        if burn.expires_at - now > self._limits.lifetime_ms:
            raise InvalidInput(f"What is used once expires at most {self._limits.lifetime_ms} ms from now.")

    def _require_own_process(self) -> None:
        if os.getpid() != self._process:
            raise Unavailable(f"{self._path} was opened by another process; each opens it for itself.")

    def _require_same_file(self) -> None:
        if _identity(self._path) != self._file:
            raise Unavailable(f"{self._path} was moved or replaced while it was open; start again.")

    def _unusable(self, error: sqlite3.Error | OSError) -> Unavailable:
        if isinstance(error, OSError):
            return Unavailable(f"{self._path} cannot be used: {cure(error)}.")
        if isinstance(error, sqlite3.ProgrammingError):
            return Unavailable(f"{self._path} was closed; start again.")
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        why = _WHY.get(code, f"{error}; look at what is there")
        return Unavailable(f"{self._path} does not take what is used once: {why}.")

    def close(self) -> None:
        with self._lock:
            self._connection.close()


_UNSOUND = "it is damaged or of another layout; move it away once every proof that was made so far has expired"
_WHY = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; end that process",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked; end that process",
    sqlite3.SQLITE_FULL: "there is no space left; make room on the disk",
    sqlite3.SQLITE_READONLY: "it is read-only; mend its permissions, or make its file system writable",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; mend the permissions of it and of its directory",
    sqlite3.SQLITE_PERM: "it cannot be opened; mend the permissions of it and of its directory",
    sqlite3.SQLITE_IOERR: "it cannot be read or written; mend the disk",
    sqlite3.SQLITE_CORRUPT: _UNSOUND,
    sqlite3.SQLITE_NOTADB: _UNSOUND,
    0: _UNSOUND,
}


def _key(burn: Burn) -> bytes:
    """Of one size, and nothing of the token in it."""
    audience = burn.audience.encode("utf-8", "surrogatepass")
    return hashlib.sha256(len(audience).to_bytes(4) + audience + burn.id.encode("utf-8", "surrogatepass")).digest()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat(follow_symlinks=False)
    return status.st_dev, status.st_ino


def _make_if_missing(path: Path, now: int) -> None:
    """Made whole beside its place and then linked into it, so that of many that start at once one makes it.

    Turning a database to WAL in place is what SQLite refuses to wait for.
    """
    if _exists(path):
        return
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(number)
    made = Path(name)
    try:
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            script = f"{_TABLES} INSERT INTO record VALUES(0, {int(now)}, 0); PRAGMA user_version={LAYOUT};"
            connection.executescript(f"BEGIN; {script} COMMIT;")
        _sync(made)
        with suppress(FileExistsError):
            os.link(made, path)
        _sync(path.parent)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{made}{suffix}").unlink(missing_ok=True)


def _exists(path: Path) -> bool:
    """Never opens it: closing a descriptor would drop the locks that this process may hold on the file by another."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):  # a symbolic link too: others could choose what it leads to
        raise OSError(errno.EEXIST, "It is no ordinary file")
    return True


def _require_layout(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
        raise sqlite3.DatabaseError


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
