"""Files that hold a secret, and that nobody but their owner may read."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from forestall.core.errors import SetupError, cure

_NEW = ".new"


def read_private_file(path: Path, *, max_bytes: int) -> bytes:
    """What it holds now: at most one byte more than `max_bytes`.

    Raises:
        SetupError: it is no regular file, cannot be read, others can read it, or it is another user's. Says nothing of
            what it holds.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SetupError(f"{path} is no file; put what it should hold into one.")
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {cure(error)}.") from None
    if status.st_uid not in {os.geteuid(), 0}:
        raise SetupError(f"{path} belongs to another user, who may know what it holds.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise SetupError(f"Others can read {path}; run `chmod 600 {path}`.")
    return data


def write_private_file(path: Path, data: bytes) -> None:
    """It is there whole and on disk, or as it was. Raises OSError. Not for two writers of one file at once."""
    new = path.with_name(f"{path.name}{_NEW}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - as if the write had said so
        os.fsync(descriptor)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
