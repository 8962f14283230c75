"""Writing files that must be whole: beside the old one, synced, then in its place."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from forestall.core.errors import SetupError, cure

PRIVATE = 0o600
PRIVATE_DIRECTORY = 0o700


def make_directory(path: Path) -> None:
    """The directory and those above it, each new one for its owner alone.

    Raises:
        SetupError: it cannot be made.
    """
    try:
        missing = [place for place in (path, *path.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{path} cannot be made: {cure(error)}.") from None


def replace(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Put `data` at `path`, as a whole or not at all.

    Raises:
        SetupError: it cannot be written; what was there is as it was.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {cure(error)}. Nothing was changed.") from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
