"""The digest of an open file, once for as long as it is the same file.

Remembered by device, inode, size and both times. Nobody can write to a file that runs (ETXTBSY), and a later write
moves its change time, which no user can set. Only where that time is so recent that a write could still fall on it is
the digest not remembered.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable

from forestall.adapter.attest.value import Unknown

CHUNK = 1 << 20
"""Bytes between two looks at the clock: a few milliseconds on the slowest disk that is not broken."""

SETTLED_NS = 2_000_000_000
"""Nanoseconds. The coarsest change time of a file system that can hold a program is 2 s (FAT)."""

MAX_REMEMBERED = 512
"""Files. A machine runs some dozens of programs that connect, or start those that do."""

Key = tuple[int, int, int, int, int]


class Unread(Exception):
    """The file has no digest that can be stood by; `why` says why not."""

    def __init__(self, why: Unknown) -> None:
        super().__init__(why.value)
        self.why = why


class Digests:
    """`max_bytes` a file. `clock_ms` is steady, for the deadline; `wall_ns` is what files are dated by. Thread-safe."""

    def __init__(self, *, max_bytes: int, clock_ms: Callable[[], int], wall_ns: Callable[[], int]) -> None:
        self._max_bytes, self._clock_ms, self._wall_ns = max_bytes, clock_ms, wall_ns
        self._known: OrderedDict[Key, str] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, descriptor: int, deadline_ms: int) -> str:
        """`sha256:` and 64 hex digits. `descriptor` may be opened with O_PATH; its file is the one that is read.

        Raises:
            Unread: it is too large, took too long, may not be read, or changed.
        """
        status = os.fstat(descriptor)
        key = _key(status)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        if not stat.S_ISREG(status.st_mode):
            raise Unread(Unknown.HIDDEN)
        if status.st_size > self._max_bytes:
            raise Unread(Unknown.TOO_LARGE)
        now = self._wall_ns()
        found = self._read(descriptor, status.st_size, deadline_ms)
        if _key(os.fstat(descriptor)) != key:
            raise Unread(Unknown.CHANGED)
        if max(status.st_mtime_ns, status.st_ctime_ns) + SETTLED_NS < now:
            self._remember(key, found)
        return found

    def _read(self, descriptor: int, size: int, deadline_ms: int) -> str:
        try:
            opened = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            raise Unread(Unknown.HIDDEN) from None
        with open(opened, "rb", buffering=0) as file:  # noqa: PTH123 - an open descriptor
            hashing, buffer, left = hashlib.sha256(), memoryview(bytearray(CHUNK)), size
            while count := file.readinto(buffer[: max(1, min(CHUNK, left))]):
                left -= count
                if left < 0:
                    raise Unread(Unknown.CHANGED)
                if self._clock_ms() >= deadline_ms:
                    raise Unread(Unknown.TOO_SLOW)
                hashing.update(buffer[:count])
        if left:
            raise Unread(Unknown.CHANGED)
        return f"sha256:{hashing.hexdigest()}"

    def _remember(self, key: Key, found: str) -> None:
        with self._lock:
            self._known[key] = found
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)


def _key(status: os.stat_result) -> Key:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_ctime_ns
