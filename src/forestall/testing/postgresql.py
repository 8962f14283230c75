"""A PostgreSQL server of one's own: made in a scratch folder, started, stopped, killed, and gone with all it made.

    with Cluster.made() as cluster:
        cluster.admin("shop").execute("CREATE TABLE ...")

It listens on 127.0.0.1 and on a socket in a folder of its own; passwords by SCRAM on both. It never runs as root: where
this program does, the server runs as `postgres`, or else as `nobody`. Nothing is synced to disk, unless that is asked
for: for tests, and for the demo. The client library is of the extra `postgresql`.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from forestall.testing.ports import free_port

WAIT_S = 60.0
"""Seconds after which what has to happen has failed to; nothing waits for it to pass."""

OLDEST = 15

INSTALL = (
    f"no server of PostgreSQL {OLDEST} or newer is installed; on Debian: sudo apt-get install postgresql "
    "(or name the folder of its programs in FORESTALL_POSTGRES_BIN)"
)

ADMIN = "admin"
"""The superuser."""

SETTINGS = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = '{folder}'
port = {port}
max_connections = 60
max_prepared_transactions = 8
shared_buffers = 32MB
fsync = {sync}
synchronous_commit = on
full_page_writes = {sync}
password_encryption = scram-sha-256
log_statement = all
log_min_messages = warning
log_line_prefix = '%m [%p] %u '
jit = off
autovacuum_naptime = 600
"""

HBA = """\
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


@cache
def programs() -> Path:
    """The folder of the server's programs: the one that FORESTALL_POSTGRES_BIN names, else what is installed.

    Raises FileNotFoundError, which says what to install.
    """
    for folder in _folders():
        if (folder / "initdb").exists() and _major(folder) >= OLDEST:
            return folder
    raise FileNotFoundError(INSTALL)


def _folders() -> list[Path]:
    """The newest of Debian's first."""
    named = os.environ.get("FORESTALL_POSTGRES_BIN")
    if named:
        return [Path(named)]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    return [*debian, *([Path(on_path).resolve().parent] if on_path else [])]


def _major(folder: Path) -> int:
    done = subprocess.run(  # noqa: S603 - of the server that is installed
        [str(folder / "initdb"), "--version"], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    found = re.search(r"\) (\d+)", done.stdout)
    return int(found[1]) if found else 0


def _user() -> tuple[int, int] | None:
    """Who runs the server, as uid and gid; None where it is whoever runs this."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return found.pw_uid, found.pw_gid
    raise FileNotFoundError("a server does not run as root, and there is neither a user `postgres` nor `nobody`")


@dataclass
class Cluster:
    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    """The superuser's."""
    sync: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _is_paused: bool = field(default=False, init=False)

    @classmethod
    @contextmanager
    def made(cls, *, sync: bool = False) -> Iterator[Cluster]:
        """Running. Its folder is a short one, since a socket's path is; nothing is left of it."""
        with tempfile.TemporaryDirectory(prefix="forestall-pg-") as folder:
            cluster = cls(Path(folder), sync=sync)
            cluster.make()
            cluster.start()
            try:
                yield cluster
            finally:
                cluster.kill()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def make(self) -> None:
        user = _user()
        words = self.folder / "password"
        words.write_text(self.password)
        words.chmod(0o600)
        self.log.touch()
        if user is not None:
            for path in (self.folder, words, self.log):
                os.chown(path, *user)
        options = ["--pgdata", str(self.data), "--username", ADMIN, "--pwfile", str(words), "--auth", "scram-sha-256"]
        options += ["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"]
        self._run([str(programs() / "initdb"), *options])
        sync = "on" if self.sync else "off"
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS.format(folder=self.folder, port=self.port, sync=sync))
        (self.data / "pg_hba.conf").write_text(HBA)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [str(programs() / "postgres"), "-D", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as_user(),
            )
        until = time.monotonic() + WAIT_S
        while True:
            try:
                self.admin().close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """As a service does: sessions are ended, what is in memory is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a machine that fails; the server's children see it and end. May be called twice."""
        self._end(signal.SIGQUIT)

    def pause(self) -> None:
        """Every process of the server stands still: it takes connections, and answers nobody. Linux alone."""
        self._signal_all(signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)
        self._is_paused = False

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A session of the superuser, each statement a transaction of its own."""
        return psycopg.connect(self.url(ADMIN, self.password, database), autocommit=True, connect_timeout=10)

    def url(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def run_script(self, script: str, database: str) -> None:
        """With `psql`, as an administrator does."""
        environment = {**os.environ, "PGPASSWORD": self.password}
        words = [str(programs() / "psql"), "--no-psqlrc", "--quiet", "-h", "127.0.0.1", "-p", str(self.port)]
        words += ["-U", ADMIN, "-d", database]
        done = subprocess.run(  # noqa: S603
            words, input=script, text=True, capture_output=True, timeout=WAIT_S, env=environment, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr)

    def _as_user(self) -> dict[str, Any]:
        user = _user()
        return {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}

    def _run(self, words: list[str]) -> None:
        done = subprocess.run(  # noqa: S603
            words, cwd=self.folder, capture_output=True, text=True, timeout=WAIT_S, check=False, **self._as_user()
        )
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]}: {done.stderr}")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            if self._is_paused:
                _signal_group(process.pid, signal.SIGCONT)
                self._is_paused = False
            process.send_signal(how)
            process.wait(WAIT_S)

    def _signal_all(self, what: signal.Signals) -> None:
        assert self._process is not None
        _signal_group(self._process.pid, what)


def _signal_group(server: int, what: signal.Signals) -> None:
    """The server's children first, each of which leads a session of its own."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    for process in [*map(int, children), server]:
        try:
            os.kill(process, what)
        except ProcessLookupError:
            continue
