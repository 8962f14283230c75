"""Risk and posture from a TOML or JSON file (`core/repute.py`) that somebody else writes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from forestall.adapter.facts.told import Told
from forestall.core.canonical import parse
from forestall.core.errors import ForestallError, cure
from forestall.core.repute import parse_reputes
from forestall.core.toml import parse_toml

MAX_BYTES = 4 * 1024 * 1024
"""Of the file: ten thousand agents with room to spare."""

MAX_DEPTH = 8
"""Levels of nesting."""

PERIOD_S = 1.0
"""Seconds between two looks at the file. An age counts from when it was written, so only a change waits for this."""

SETTLED_MS = 2_000
"""A file that was written this lately may be written again within one tick of its clock, and is read again."""

_Seen = tuple[int, int, int, int]


class RiskFile(Told):
    """Its age is that of the file, or what its own `at` says, whichever is more."""

    period_s = PERIOD_S

    def __init__(
        self, name: str, path: Path, *, bound_ms: int, posture: Collection[str], now: Callable[[], int]
    ) -> None:
        super().__init__(name, bound_ms)
        self._path, self._posture, self._now = path, posture, now
        self._seen: _Seen | None = None

    def refresh(self) -> None:
        try:
            self._read()
        except OSError as error:
            self._forget(f"{self._path} cannot be read: {cure(error)}.")
        except ForestallError as error:
            self._forget(f"{self._path} is not understood: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of our own: nothing of it counts
            self._forget(f"{self._path} is not understood: {type(error).__name__}.")

    def close(self) -> None:
        """Nothing is held open."""

    def _forget(self, problem: str) -> None:
        self._seen = None
        self.drop(problem)

    def _read(self) -> None:
        # not blocking: opening a pipe would wait for its writer, for ever
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
            before = os.fstat(descriptor)
            seen, now = _seen(before), self._now()
            if seen == self._seen:
                return
            if not stat.S_ISREG(before.st_mode) or before.st_size > MAX_BYTES:
                self._forget(f"{self._path} is no file, or larger than {MAX_BYTES} bytes.")
                return
            data = file.read(MAX_BYTES + 1)
            if _seen(os.fstat(descriptor)) != seen or len(data) != before.st_size:
                return  # it is being written; the next look finds it written
        written = before.st_mtime_ns // 1_000_000
        self.take(parse_reputes(self._document(data), self._posture), written, now)
        self._seen = seen if now - written > SETTLED_MS else None

    def _document(self, data: bytes) -> Any:
        if self._path.suffix == ".toml":
            return parse_toml(data.decode(), self._path)
        return parse(data, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)


def _seen(status: os.stat_result) -> _Seen:
    """Another one is another text."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
