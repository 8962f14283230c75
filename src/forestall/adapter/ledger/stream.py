"""One stream's file, held open for writing, and the tree over it.

A group is written in one of two orders. Together: its entries and the checkpoint over them, then a sync. Alone, while
the disk takes longer than a signature: its entries, which the disk begins to write while they are signed, then a sync,
then the checkpoint. The second is acknowledged when its checkpoint is in the page cache, and what that covers is on
disk already.

Rules, each with a test of the same words:

- What was acknowledged as durable was synced before, and a signed checkpoint over it was written.
- A checkpoint covers every entry before it, also those that came while it was signed.
- A write that fails leaves no trace: file and tree are as they were, or nothing is acknowledged any more.
- After a failed sync nothing is acknowledged any more: nobody knows what the disk holds, and asking it again would lie.
- What cannot be signed is not acknowledged, nor is anything after it.
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
from forestall.adapter.ledger.whole import is_whole
from forestall.core.errors import InvalidInput, Unavailable, cure
from forestall.core.merkle import Tree, leaf_hash

if TYPE_CHECKING:
    from pathlib import Path

    from forestall.adapter.ledger.checkpoint import Signer
    from forestall.adapter.ledger.seal import Sealer
    from forestall.core.entry import Entry


_CAN_BEGIN = hasattr(os, "posix_fadvise")
"""Linux begins to write what is not on disk yet when it is told that nobody will need it."""

MIN_ROOM, MAX_ROOM = 64 * 1024, 1024 * 1024
"""Bytes of zeros that a log has ahead of it when it begins a new stretch: as many as it has, within these."""

OVERLAP_S = 0.00004
"""Seconds of a sync from which on it is signed while the disk writes already. The checkpoint is then a write of its
own, which costs some 10 µs; the signature takes 35."""

BEGIN = 4095
"""Bytes with which the disk begins at most: less than a page, because the kernel lets go of whole ones, and waits."""


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
        self._reserve = signer.room
        """Bytes of room that entries leave for the checkpoint over them: a full disk refuses entries, never that."""
        self._signed = state.signed
        self._synced = 0
        self._exposed = 0
        """Where the last checkpoint ends that covered what was not synced when it was written."""
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
            stream.sync()  # so that no checkpoint stands over entries of a former process that are not on disk
            stream.commit(())
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

    def write(self, records: Sequence[Record]) -> int:
        """Append to the page cache in one call; the index of the first record.

        Raises:
            Unavailable: nothing was written.
        """
        with self._lock:
            return self._write(records, sign=False)

    def commit(self, records: Sequence[Record], *, alone: bool = False) -> int:
        """Append, sync, and write a checkpoint over all that the file holds; the index of the first record.

        One at a time. `alone`: it is for one caller, who waits for the disk and for the signature.

        Raises:
            Unavailable: nothing was written, or this file is not written any more.
        """
        if self._exposed > self._synced:  # an interrupt ended the sync of a checkpoint; two of them must not be torn
            self.sync()
        if alone and self._took >= OVERLAP_S and _CAN_BEGIN:
            return self._commit_alone(records)
        with self._lock:
            first = self._write(records, sign=True)
        self.sync()
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
        """Raises Unavailable where what was written last may not be on disk; it is closed even so."""
        try:
            if not self._broken:
                self.sync()
        finally:
            with self._syncing, self._lock:
                if self._fd >= 0:
                    if not self._broken:
                        with suppress(OSError):  # what is left of the room says nothing
                            os.ftruncate(self._fd, self._end)
                    os.close(self._fd)
                self._fd = -1
                self._broken = self._broken or "The ledger is closed; open it again."

    def _commit_alone(self, records: Sequence[Record]) -> int:
        with self._lock:
            first = self._write(records, sign=False)
            tree = self._tree.copy()
        began = self._begin_sync()
        checkpoint = self._made_over(tree)
        self.sync()
        self._took += began
        with self._lock:
            covers_all = tree.size == self._tree.size
            self._write_checkpoint(checkpoint if covers_all else self._made_over(self._tree))
            if not covers_all:  # others wrote meanwhile: no checkpoint stays over what is not on disk
                self._exposed = self._end
        if not covers_all:
            self.sync()
        return first

    def _begin_sync(self) -> float:
        """Have the disk begin with what no sync has taken; seconds that it took. What goes wrong, the sync says."""
        begun, end = time.monotonic(), self._end
        start = max(self._synced, end - BEGIN)
        with suppress(OSError):
            os.posix_fadvise(self._fd, start, end - start, os.POSIX_FADV_DONTNEED)
        return time.monotonic() - begun

    def _write(self, records: Sequence[Record], *, sign: bool) -> int:
        self._require_good()
        first, marks, before = self._tree.size, len(self._marks), self._tree.copy()
        start = self._end
        try:
            parts = self._grow(records)
            size = self._tree.size
            signs = sign and self._signed < size
            if signs:
                parts.append(self._checkpoint(self._tree))
            data = b"".join(parts)
            self._require_room(len(data) if signs or not data else len(data) + self._reserve)
            try:
                self._put(data)
            except BaseException:
                self._cut(start)
                raise
            if signs:
                self._signed, self._exposed = size, self._end
        except BaseException as error:
            self._tree = before
            del self._marks[marks:]
            if isinstance(error, OSError):
                raise Unavailable(f"{self._path} could not be written: {cure(error)}. Nothing was permitted.") from None
            raise
        return first

    def _grow(self, records: Sequence[Record]) -> list[bytes]:
        """Take them into the tree; the frames to write."""
        offset, parts = self._end, []
        for record in records:
            if self._tree.append(record.leaf) % MARK_EVERY == 0:
                self._marks.append(offset)
            parts.append(record.frames)
            offset += len(record.frames)
        return parts

    def _checkpoint(self, tree: Tree) -> bytes:
        """Its frame."""
        return encode(CHECKPOINT, self._signer.sign(tree.size, tree.root()))

    def _write_checkpoint(self, frame: bytes) -> None:
        """Over all that there is. An interrupt undoes it: the next covers what this one would have."""
        self._require_good()
        start = self._end
        try:
            self._require_room(len(frame))
            try:
                self._put(frame)
            except BaseException:
                self._cut(start)
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, entries stand there unsigned
            raise self._unsigned(error) from None
        self._signed = self._tree.size

    def _made_over(self, tree: Tree) -> bytes:
        """The checkpoint over entries that stand there already."""
        try:
            return self._checkpoint(tree)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no signature
            raise self._unsigned(error) from None

    def _unsigned(self, error: Exception) -> Unavailable:
        """What is written cannot be taken back, since others may have written behind it: it is signed at the start."""
        why = cure(error) if isinstance(error, OSError) else f"{error or type(error).__name__}; mend that"
        self._broken = self._broken or f"{self._path} could not be signed: {why}, then restart."
        return Unavailable(self._broken)

    def _put(self, data: bytes) -> None:
        _put(self._fd, data, self._end)
        self._end += len(data)

    def _require_room(self, size: int) -> None:
        """Zeros for so many bytes, and ahead of them where the disk has space: a sync that allocates takes longer.

        Where there is no space, the room that there was remains: the checkpoint that is due goes into it.
        """
        least = self._end + size
        if least <= self._room:
            return
        before = self._room
        for ahead in (min(MAX_ROOM, max(MIN_ROOM, least)), 0):
            try:
                _put(self._fd, bytes(least + ahead - before), before)
            except BaseException as error:
                self._shorten(before)
                if ahead and isinstance(error, OSError):
                    continue
                raise
            self._room = least + ahead
            return

    def _cut(self, end: int) -> None:
        """After a failed write: back to `end`, or never again."""
        self._end = end
        self._shorten(end)

    def _shorten(self, size: int) -> None:
        self._room = size
        try:
            os.ftruncate(self._fd, size)
            if os.fstat(self._fd).st_size == size:
                return
            reason = "it could not be cut back after a failed write"
        except OSError as error:
            reason = error.strerror or "it could not be cut back after a failed write"
        self._broken = f"{self._path} holds half a write: {reason}. Mend the disk, then restart."

    def _require_good(self) -> None:
        self._require_unbroken()
        if not is_whole(self._fd, self._room):
            self._broken = f"{self._path} was changed by somebody else. Run forestall-verify, then restart."
            raise Unavailable(self._broken)

    def _require_unbroken(self) -> None:
        if self._broken:
            raise Unavailable(self._broken)

    def _require_open(self) -> None:
        if self._fd < 0:
            raise Unavailable(self._broken)


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
