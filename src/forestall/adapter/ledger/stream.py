"""One stream's file, held open for writing, and the tree over it.

Rules, each with a test of the same words:

- What was acknowledged as durable is covered by a signed checkpoint and was synced before.
- A write that fails leaves no trace: file and tree are as they were, or nothing is acknowledged any more.
- After a failed sync nothing is acknowledged any more: nobody knows what the disk holds, and asking it again would lie.
- A file that somebody else changed, cut or removed is not written to.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from forestall.adapter.ledger.frames import CHECKPOINT, ENTRY, MAX_ENTRY, PAYLOAD, encode, header
from forestall.adapter.ledger.recovery import MARK_EVERY, Recovered, recover
from forestall.core.errors import InvalidInput, Unavailable, cure
from forestall.core.merkle import Tree, leaf_hash

if TYPE_CHECKING:
    from pathlib import Path

    from forestall.adapter.ledger.checkpoint import Signer
    from forestall.adapter.ledger.seal import Sealer
    from forestall.core.entry import Entry


MIN_ROOM, MAX_ROOM = 64 * 1024, 1024 * 1024
"""Bytes of zeros that a log has ahead of it when it begins a new stretch: as many as it has, within these."""


@dataclass(frozen=True, slots=True)
class Record:
    """An entry in the bytes that will be written."""

    leaf: bytes
    """Its leaf hash."""
    frames: bytes = field(repr=False)


def prepare(entry: Entry, sealer: Sealer) -> Record:
    """Everything about writing an entry that needs no lock.

    Raises:
        InvalidInput: the entry or what is sealed with it is too large, or has no canonical form.
    """
    body = entry.leaf()
    if len(body) > MAX_ENTRY:
        raise InvalidInput(f"The entry is {len(body)} bytes; the ledger holds {MAX_ENTRY}.")
    leaf = leaf_hash(body)
    written = encode(ENTRY, body)
    if entry.sealed is not None:
        written += encode(PAYLOAD, sealer.seal(entry.sealed, leaf))
    return Record(leaf, written)


class StreamFile:
    """Safe to call from several threads; `sync` waits for the disk, nothing else does."""

    def __init__(self, fd: int, path: Path, signer: Signer, state: Recovered) -> None:
        self._fd = fd
        self._path = path
        self._signer = signer
        self._lock = threading.Lock()
        self._tree: Tree = state.tree
        self._marks: array[int] = state.marks
        self._end = state.end
        self._room = state.end
        """Where the file ends: what is written next goes into zeros that are on disk already."""
        self._signed = state.signed
        self._synced = 0
        self._syncing = threading.Lock()
        self._took = 0.0
        self._broken = ""
        self.torn = state.torn
        """Bytes that were cut off when it was opened. Nothing in them had been acknowledged."""

    @classmethod
    def open(cls, path: Path, signer: Signer) -> Self:
        """Open or create; repair a torn tail; sign and sync whatever is not.

        Raises:
            Tampered: the file was changed; says which byte.
            Unavailable: it cannot be opened, written or synced.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Unavailable(f"{path} cannot be opened: {cure(error)}. Nothing is permitted without it.") from None
        try:
            state = _recover(fd, path, signer)
            stream = cls(fd, path, signer, state)
            stream.write((), sign=True)
            stream.sync()
        except OSError as error:
            os.close(fd)
            raise Unavailable(f"{path} cannot be repaired: {cure(error)}, then restart.") from None
        except BaseException:
            os.close(fd)
            raise
        return stream

    @property
    def path(self) -> Path:
        return self._path

    @property
    def size(self) -> int:
        """Entries written."""
        return self._tree.size

    @property
    def end(self) -> int:
        """Bytes written."""
        return self._end

    @property
    def took(self) -> float:
        """Seconds of the last sync."""
        return self._took

    @property
    def broken(self) -> bool:
        """Will never be written again by this process."""
        return bool(self._broken)

    @property
    def pending(self) -> bool:
        """Is there anything that is not signed or not synced?"""
        return self._signed < self._tree.size or self._synced < self._end

    def place(self, index: int) -> tuple[int, int]:
        """An entry at or before `index`, and the offset of its frame; for readers. (0, 0) where there is none yet."""
        with self._lock:
            mark = min(index // MARK_EVERY, len(self._marks) - 1)
            return (mark * MARK_EVERY, self._marks[mark]) if mark >= 0 else (0, 0)

    def handle(self) -> tuple[int, int]:
        """A descriptor of its own for a reader, who closes it, and where the file ends now."""
        with self._lock:
            self._require_open()
            return os.dup(self._fd), self._end

    def write(self, records: Sequence[Record], *, sign: bool) -> int:
        """Append to the page cache in one call, with a checkpoint where asked; the index of the first record.

        Raises:
            Unavailable: nothing was written.
        """
        with self._lock:
            self._require_good()
            first, marks, before = self._tree.size, len(self._marks), self._tree.copy()
            start = self._end
            try:
                self._append(records, sign=sign)
            except BaseException as error:
                self._tree = before
                del self._marks[marks:]
                self._cut(start)
                if isinstance(error, OSError):
                    raise self._unavailable("written", error) from None
                raise
            return first

    def sync(self) -> None:
        """Return when everything written before the call is on disk.

        Raises:
            Unavailable: it may not be, and this file is not written any more.
        """
        with self._syncing:
            self._require_unbroken()
            end = self._end
            if end == self._synced:
                return
            begun = time.monotonic()
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                # The kernel marks pages clean that it failed to write: a second sync would succeed and mean nothing.
                self._broken = f"{self._path} could not be synced: {cure(error)}, then restart."
                raise Unavailable(self._broken) from None
            self._synced = end
            self._took = time.monotonic() - begun

    def close(self) -> None:
        with self._syncing, self._lock:
            if self._fd >= 0:
                if not self._broken:
                    with suppress(OSError):  # what is left of the room says nothing
                        os.ftruncate(self._fd, self._end)
                os.close(self._fd)
            self._fd = -1
            self._broken = self._broken or "The ledger is closed; open it again."

    def _append(self, records: Sequence[Record], *, sign: bool) -> None:
        offset, parts = self._end, []
        for record in records:
            if self._tree.append(record.leaf) % MARK_EVERY == 0:
                self._marks.append(offset)
            parts.append(record.frames)
            offset += len(record.frames)
        size = self._tree.size
        signs = sign and self._signed < size
        if signs:
            parts.append(encode(CHECKPOINT, self._signer.sign(size, self._tree.root())))
        data = b"".join(parts)
        if self._end + len(data) > self._room:
            self._make_room(self._end + len(data))
        _put(self._fd, data, self._end)
        self._end += len(data)
        if signs:
            self._signed = size

    def _make_room(self, least: int) -> None:
        """Zeros up to `least`, and ahead of it where the disk has space: a sync that allocates takes twice as long."""
        ahead = min(MAX_ROOM, max(MIN_ROOM, least))
        try:
            _put(self._fd, bytes(least + ahead - self._room), self._room)
            self._room = least + ahead
        except OSError:
            os.ftruncate(self._fd, self._room)
            _put(self._fd, bytes(least - self._room), self._room)
            self._room = least

    def _cut(self, end: int) -> None:
        """After a failed write: back to `end`, or never again."""
        try:
            os.ftruncate(self._fd, end)
            if os.fstat(self._fd).st_size == end:
                self._end = self._room = end
                return
            reason = "it could not be cut back after a failed write"
        except OSError as error:
            reason = error.strerror or "it could not be cut back after a failed write"
        self._broken = f"{self._path} holds half a write: {reason}. Mend the disk, then restart."

    def _require_good(self) -> None:
        self._require_unbroken()
        status = os.fstat(self._fd)
        if status.st_size != self._room or status.st_nlink == 0:
            self._broken = f"{self._path} was changed by somebody else. Run forestall-verify, then restart."
            raise Unavailable(self._broken)

    def _require_unbroken(self) -> None:
        if self._broken:
            raise Unavailable(self._broken)

    def _require_open(self) -> None:
        if self._fd < 0:
            raise Unavailable(self._broken)

    def _unavailable(self, what: str, error: OSError) -> Unavailable:
        return Unavailable(f"{self._path} could not be {what}: {cure(error)}. Nothing was permitted.")


def _recover(fd: int, path: Path, signer: Signer) -> Recovered:
    state = recover(fd, path, signer.verifier)
    if state is None:
        line = header(signer.verifier.name)
        os.ftruncate(fd, 0)
        _put(fd, line, 0)
        _sync_name(path)
        return Recovered(len(line))
    os.ftruncate(fd, state.end)
    _put(fd, _read(fd, state.doubtful, state.end), state.doubtful)
    return state


def _read(fd: int, start: int, end: int) -> bytes:
    parts = []
    while start < end:
        part = os.pread(fd, end - start, start)
        if not part:
            raise OSError(5, "the file became shorter while it was read")
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _put(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _sync_name(path: Path) -> None:
    """A new file survives a crash only when its directory was synced too."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
