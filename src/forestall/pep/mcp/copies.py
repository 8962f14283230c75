"""Copies of what calls refer to, in a directory that only the gateway writes.

A file is read from where its name leads now, step by step and through no link that is put there meanwhile; it is
hashed as it is written, so that the digest is of the copy and of nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from forestall.pep.mcp.content import Copies, Copy

MAX_FILE = 64 * 1024 * 1024
"""Bytes of one file. What is longer is not bound."""

MAX_KEPT = 512 * 1024 * 1024
"""Bytes of all copies that a gateway keeps at a time."""

MAX_PATH = 4096
"""Bytes that the kernel takes as a path (limits.h)."""

CHUNK = 1024 * 1024

LOCK = "lock"
"""In a gateway's directory: held for as long as the gateway lives."""


class NotBound(Exception):
    """It cannot be copied as it is meant."""


class Store:
    """Of one gateway. One thread at a time may copy; `discard` may be called from another."""

    def __init__(self, folder: Path, directory: str, group: int | None = None) -> None:
        """Nothing is made until something is copied.

        Args:
            folder: where the directories of all gateways of this home are.
            directory: absolute; where relative names start.
            group: who may read copies besides ourselves, where the server runs as somebody else; ours to give.
        """
        self._folder, self._directory, self._group = folder, directory, group
        self._own: Path | None = None
        self._lock = -1
        self._kept: dict[str, int] = {}
        """Bytes of each copy, by its path."""

    def sweep(self) -> None:
        """Take away what gateways left behind that are gone. What cannot be taken away stays."""
        with suppress(OSError):
            for left in self._folder.iterdir():
                with suppress(OSError), _locked(left / LOCK):
                    shutil.rmtree(left)

    def copy(self, names: Mapping[str, str]) -> Copies:
        """Copies of what these name; of what cannot be bound, there is none."""
        made: dict[str, Copy] = {}
        for pointer, name in names.items():
            with suppress(NotBound, OSError, ValueError):
                made[pointer] = self._copied(name)
        return made

    def discard(self, copies: Copies) -> None:
        """Nobody needs them any more. Who has one open goes on reading it."""
        for copy in copies.values():
            shutil.rmtree(Path(copy.path).parent, ignore_errors=True)
            self._kept.pop(copy.path, None)

    def close(self) -> None:
        """Take away everything."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._lock)
            self._own = None

    def _copied(self, name: str) -> Copy:
        with _opened(real := _real(name, self._directory)) as source:
            slot = Path(tempfile.mkdtemp(dir=self._place()))
            try:
                self._open_to_group(slot, 0o710)
                path = slot / Path(real).name
                digest, size = self._write(source, path)
            except BaseException:
                shutil.rmtree(slot, ignore_errors=True)
                raise
        self._kept[str(path)] = size
        return Copy(digest, real, str(path))

    def _write(self, source: int, path: Path) -> tuple[str, int]:
        left = min(MAX_FILE, MAX_KEPT - sum(tuple(self._kept.values())))
        hashed, size = hashlib.sha256(), 0
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
        with os.fdopen(target, "wb", buffering=0) as file:
            while chunk := os.read(source, CHUNK):
                size += len(chunk)
                if size > left:
                    raise NotBound
                hashed.update(chunk)
                _write_all(file.fileno(), chunk)
        self._open_to_group(path, 0o440)
        return f"sha256:{hashed.hexdigest()}", size

    def _place(self) -> Path:
        """This gateway's directory, made at first use."""
        if self._own is None:
            self._folder.mkdir(mode=0o711 if self._group is not None else 0o700, parents=True, exist_ok=True)
            own = Path(tempfile.mkdtemp(dir=self._folder))
            self._lock = os.open(own / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._open_to_group(own, 0o710)
            except BaseException:  # somebody sweeps it away already
                os.close(self._lock)
                raise
            self._own = own
        return self._own

    def _open_to_group(self, path: Path, mode: int) -> None:
        if self._group is not None:
            os.chown(path, -1, self._group)
            path.chmod(mode)


def _real(name: str, directory: str) -> str:
    """Where the name leads now, if every reader reads it alike.

    Raises:
        NotBound: it is a URL, of somebody's home, or no path.
    """
    if not name or name.startswith("~") or "://" in name or "\0" in name or len(name) > MAX_PATH:
        raise NotBound
    real = os.path.realpath(os.path.join(directory, name))  # noqa: PTH118 - text in, text out
    real.encode()
    return real


@contextmanager
def _opened(real: str) -> Iterator[int]:
    """The file, opened through directories that are none of them a link.

    Raises:
        NotBound: it is no regular file, is too long, or has another name too, by which it could be anybody's.
        OSError: something on the way is not there, is a link by now, or may not be read.
    """
    *folders, last = real.split("/")[1:]
    at = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    file = -1
    try:
        for folder in folders:
            step = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = step
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=at)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE or status.st_nlink != 1:
            raise NotBound
        yield file
    finally:
        os.close(at)
        if file >= 0:
            os.close(file)


def _write_all(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Raises OSError: its gateway lives, or there is none."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
