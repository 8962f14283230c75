"""A ledger in memory, for tests of programs that embed Forestall. It proves nothing and survives nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from forestall.core.canonical import parse
from forestall.core.entry import Entry, Stream
from forestall.core.errors import InvalidInput, Unavailable
from forestall.port import Position, Written

MAX_ENTRY = 65_535
"""Bytes of a leaf, as in a real ledger."""


class MemoryLedger:
    """Satisfies `port.Ledger`. Set `failure` to make every append raise `Unavailable` with that sentence."""

    def __init__(self) -> None:
        self.failure = ""
        self._lock = threading.Lock()
        self._leaves: dict[Stream, list[tuple[bytes, bytes | None]]] = {stream: [] for stream in Stream}

    def append(self, entry: Entry) -> Position:
        leaf = entry.leaf()
        if len(leaf) > MAX_ENTRY:
            raise InvalidInput(f"The entry is {len(leaf)} bytes; the ledger holds {MAX_ENTRY}.")
        with self._lock:
            if self.failure:
                raise Unavailable(self.failure)
            entries = self._leaves[entry.stream]
            entries.append((leaf, entry.sealed))
            return Position(entry.stream, len(entries) - 1)

    async def append_async(self, entry: Entry, then: Callable[[Position], None] | None = None) -> Position:
        position = self.append(entry)
        if then is not None:
            then(position)
        return position

    def read(self, stream: Stream, start: int = 0) -> Iterator[Written]:
        with self._lock:
            entries = self._leaves[stream][start:]
        for index, (leaf, _) in enumerate(entries, start):
            body: Any = parse(leaf, max_bytes=MAX_ENTRY)
            yield Written(Position(stream, index), body)

    def unseal(self, position: Position) -> bytes | None:
        with self._lock:
            entries = self._leaves[position.stream]
            return entries[position.index][1] if 0 <= position.index < len(entries) else None

    def close(self) -> None:
        self.failure = self.failure or "The ledger is closed; open it again."
