"""One stream's file, held open for writing, and the tree over it.

Entries are written, and synced where somebody waits for that: nothing else stands between a caller and its answer. What
the file holds is signed soon after, off that path: a checkpoint over all of it, then a sync.

Rules, each with a test of the same words:

- What was acknowledged as durable was synced before.
- A checkpoint covers every entry before it.
- No checkpoint is written while the one before it is not on disk.
- A write that fails leaves no trace: file and tree are as they were, or nothing is acknowledged any more.
- After a failed sync nothing is acknowledged any more: nobody knows what the disk holds, and asking it again would lie.
- While what the file holds cannot be signed, nothing is added to it.
- A file that somebody else changed, cut or removed is not written to, nor signed.
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
from forestall.adapter.ledger.whole import has_size, is_whole
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
        self._leaves: list[bytes] = []
        """Leaf hashes behind those in the tree, which takes them in when it is signed."""
        self._size = state.tree.size
        self._signed = state.signed
        self._marks: array[int] = state.marks
        self._end = state.end
        self._room = state.end
        """Where the file ends: what is written next goes into zeros that are on disk already."""
        self._reserve = signer.room
        """Bytes of room that entries leave for the checkpoint over them: a full disk refuses entries, never that."""
        self._synced = 0
        self._checkpointed = state.end
        """Where the last checkpoint ends, or further: all up to here is on disk before the next is written."""
        self._signing = threading.Lock()
        self._syncing = threading.Lock()
        self._took = 0.0
        self._unsigned = ""
        """Why the last checkpoint could not be written, for as long as that is so."""
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
            stream.sign()
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
        return self._size

    @property
    def end(self) -> int:
        """Bytes written."""
        return self._end

    @property
    def took(self) -> float:
        """Seconds of the last sync."""
        return self._took

    @property
    def syncing(self) -> bool:
        """Is the disk at it just now?"""
        return self._syncing.locked()

    @property
    def broken(self) -> bool:
        """Will never be written again by this process."""
        return bool(self._broken)

    @property
    def pending(self) -> bool:
        """Is there anything that is not signed or not synced, and can be?"""
        return not self._broken and (self._signed < self._size or self._synced < self._end)

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

    def write(self, records: Sequence[Record], *, durable: bool = False) -> int:
        """Append to the page cache in one call; the index of the first record.

        `durable`: somebody will be told that they are on disk. Only then is it asked whether the file still has a name,
        which takes ten times as long as its size: what else is written to one that was removed may be lost in a crash
        anyway, and `sign` asks before a tenth of a second is over.

        Raises:
            Unavailable: nothing was written.
        """
        with self._lock:
            self._require_good(named=durable)
            if self._unsigned:
                raise Unavailable(self._unsigned)
            try:
                return self._append(records)
            except OSError as error:
                raise Unavailable(f"{self._path} could not be written: {cure(error)}. Nothing was permitted.") from None

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

    def sign(self) -> None:
        """Write a checkpoint over all that the file holds, then sync; nothing that was done already is done again.

        Raises:
            Unavailable: it is not signed, and nothing is added until it is; or this file is not written any more.
        """
        with self._signing:
            if self._checkpointed > self._synced:  # an interrupt ended its sync, or a former process wrote it
                self.sync()
            with self._lock:
                if self._signed < self._size:
                    self._write_checkpoint()
            self.sync()

    def close(self) -> None:
        """Raises Unavailable where what was written last may not be on disk, or signed; it is closed even so."""
        try:
            if not self._broken:
                self.sign()
        finally:
            with self._syncing, self._lock:
                if self._fd >= 0:
                    if not self._broken:
                        with suppress(OSError):  # what is left of the room says nothing
                            os.ftruncate(self._fd, self._end)
                    os.close(self._fd)
                self._fd = -1
                self._broken = self._broken or "The ledger is closed; open it again."

    def _append(self, records: Sequence[Record]) -> int:
        first, start, held, marks = self._size, self._end, len(self._leaves), len(self._marks)
        data = b"".join([record.frames for record in records])
        if data:
            self._require_room(len(data) + self._reserve)
        try:
            self._take(records)
            self._put(data)
        except BaseException:
            self._size = first
            del self._leaves[held:], self._marks[marks:]
            self._cut(start)
            raise
        return first

    def _take(self, records: Sequence[Record]) -> None:
        """Their leaves for the tree, and where they will stand."""
        offset = self._end
        for record in records:
            if self._size % MARK_EVERY == 0:
                self._marks.append(offset)
            self._leaves.append(record.leaf)
            self._size += 1
            offset += len(record.frames)

    def _write_checkpoint(self) -> None:
        """Over all that there is. An interrupt undoes it: the next covers what this one would have."""
        self._require_good(named=True)
        start = self._end
        try:
            self._require_room(self._reserve)
            tree = self._grown()
            frame = encode(CHECKPOINT, self._signer.sign(tree.size, tree.root()))
            try:
                self._put(frame)
            except BaseException:
                self._cut(start)
                raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, a Rust panic included, entries stand unsigned
            why = cure(error) if isinstance(error, OSError) else f"{error or type(error).__name__}; mend that"
            self._unsigned = f"{self._path} could not be signed: {why}. Nothing is permitted until it is."
            raise Unavailable(self._broken or self._unsigned) from None
        self._signed, self._checkpointed, self._unsigned = tree.size, self._end, ""

    def _grown(self) -> Tree:
        """The tree over every entry."""
        tree = self._tree.copy()
        for leaf in self._leaves:
            tree.append(leaf)
        self._tree, self._leaves = tree, []
        return tree

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

    def _require_good(self, *, named: bool) -> None:
        self._require_unbroken()
        whole = is_whole(self._fd, self._room) if named else has_size(self._fd, self._room)
        if not whole:
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
