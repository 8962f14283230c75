"""One decision point a home: the lock that says which, and the socket that only its holder may replace."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forestall.core.errors import SetupError, Unavailable, cure
from forestall.home import Home

BACKLOG = 128
"""Connections that wait to be accepted. A client starts its dozen servers at the same moment."""

PROBE_S = 1.0
"""Seconds for a connect to a socket of this machine; it needs microseconds, or nobody will ever answer."""


class Held(Unavailable):
    """Another process holds the lock."""

    def __init__(self, path: Path, pid: str) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"The decision point of this home already runs: {who} holds {path}.")


@dataclass(frozen=True, slots=True)
class Lock:
    """Held for as long as the process lives, or until `release`. A crash releases it."""

    descriptor: int

    @classmethod
    def acquire(cls, path: Path) -> Lock:
        """Take it, or raise Held, which says who has it."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Unavailable(f"{path} cannot be opened: {cure(error)}.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise Held(path, pid) from None
        except OSError as error:
            os.close(descriptor)
            raise Unavailable(f"{path} cannot be written: {cure(error)}.") from None
        return cls(descriptor)

    def release(self) -> None:
        os.close(self.descriptor)


def answers(path: Path) -> bool:
    """Does somebody accept connections there?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def listen(path: Path, _held: Lock, *, for_others: bool = False) -> socket.socket:
    """Bind the socket, for its owner alone; `for_others`, for whoever can reach it, of whom each connection then tells
    who may stay. A stale one is removed: whoever holds the lock may do that, nobody else.

    Raises:
        Unavailable: the path is taken by something that is not ours to remove, or cannot be bound.
    """
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o111 if for_others else 0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Unavailable(f"{path} cannot be bound: {cure(error)}.") from None
    finally:
        os.umask(before)
    return listener


def unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def prepare(home: Home) -> None:
    """The directories that everything else is put into, for their owner alone.

    Raises:
        SetupError: they cannot be made, or others can write to the home.
    """
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (home.run, home.ledger):
            directory.mkdir(mode=0o700, exist_ok=True)
        status = home.root.stat()
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be made: {cure(error)}, or choose another home.") from None
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise SetupError(f"Others can write to {home.root}; run `chmod 700 {home.root}`.")


def _remove_stale(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"{path} cannot be looked at: {cure(error)}.") from None
    if not is_socket:
        raise Unavailable(f"{path} is in the way and is not a socket; move it.")
    if answers(path):
        raise Unavailable(f"The decision point of another home listens at {path}; set another socket under [serve].")
    try:
        path.unlink()
    except OSError as error:
        raise Unavailable(f"The stale {path} cannot be removed: {cure(error)}.") from None
