"""Public keys that somebody registered, in a file: a JWK Set, read again whenever the file changed."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import MAX_SET, KeySet, parse_set


class KeyFile:
    """Blocking, and safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int, int] | None = None
        self._keys = KeySet(())

    def held(self) -> KeySet | None:
        """The keys, where the file is as it was when they were read: one look at it, fit for a loop. Else None."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return self._keys if self._seen == _seen(status) and self._keys.keys else None

    def keys(self) -> KeySet:
        """Those that are in the file now; never empty.

        Raises:
            InvalidProof: NO_BUNDLE, where the file is not there, cannot be read, or holds no key; NOT_PUBLIC, where it
                holds a private one; MALFORMED, TOO_LARGE.
        """
        with self._lock:
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
                    status = os.fstat(descriptor)
                    seen = _seen(status)
                    if not stat.S_ISREG(status.st_mode):
                        raise InvalidProof(Fault.NO_BUNDLE, "the registered keys are not in a file")
                    if seen != self._seen:
                        self._seen = None
                        self._keys = parse_set(file.read(MAX_SET + 1))
                        self._seen = seen
            except OSError:
                raise InvalidProof(Fault.NO_BUNDLE, "the file with the registered keys cannot be read") from None
            if not self._keys.keys:
                raise InvalidProof(Fault.NO_BUNDLE, "the file with the registered keys holds none")
            return self._keys


def _seen(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
