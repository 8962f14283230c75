"""The ledger as files: `port.Ledger` over two streams, with group commit (docs/adr/0004-log-format.md)."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from forestall.adapter.ledger.commit import GroupCommit, Jobs
from forestall.adapter.ledger.denials import SUPPRESSED, Denials, Quota
from forestall.adapter.ledger.reader import Leaf, LogReader, read_leaves, read_payload
from forestall.adapter.ledger.stream import Record, StreamFile, prepare
from forestall.core.entry import Entry, Kind, Stream
from forestall.core.errors import Tampered, Unavailable, cure
from forestall.port import Position, Written

if TYPE_CHECKING:
    from pathlib import Path

    from forestall.adapter.ledger.keys import Keys

SIGN_AFTER_S = 0.09
"""Seconds after which what was written is signed and synced; with that done, the promise is a tenth of a second."""

MAX_DENIED_PAYLOAD = 1024 * 1024
"""Bytes of arguments that are kept of a denial. Of larger ones the entry has the commitment alone."""

ROOM = 1024
"""Bytes that a denial counts for in the quota beside its payload, reckoned before any work is done for it."""

JOIN_S = 60.0
"""Seconds that closing waits for a thread: two commits at their limit."""


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class FileLedger:
    """Satisfies `port.Ledger`. One writer at a time: the directory is locked as long as it is open."""

    def __init__(
        self, lock: int, streams: dict[Stream, StreamFile], keys: Keys, quota: Quota, now: Callable[[], int]
    ) -> None:
        self._lock = lock
        self._streams = streams
        self._sealer = keys.sealer
        self._now = now
        self._denials = Denials(quota)
        self._denying = threading.Lock()
        self._jobs: Jobs = SimpleQueue()
        self._dirty = threading.Event()
        self._commits = {
            name: GroupCommit(name, stream, self._jobs, self._sign_soon) for name, stream in streams.items()
        }
        self._closing = threading.Event()
        self._closer = threading.Lock()
        self._threads = [
            threading.Thread(target=self._write_jobs, name="forestall-ledger-writer", daemon=True),
            threading.Thread(target=self._sign_later, name="forestall-ledger-signer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @classmethod
    def open(
        cls, directory: Path, *, keys: Keys, now: Callable[[], int] = wall_clock, quota: Quota | None = None
    ) -> Self:
        """Open or create the ledger in `directory`. `now` is in milliseconds since the epoch.

        Raises:
            Tampered: a file was changed or removed; says which, and which byte.
            Unavailable: another process has it open, or the disk does not answer.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _locked(directory)
        except OSError as error:
            raise Unavailable(f"{directory} cannot be used: {cure(error)}.") from None
        opened: dict[Stream, StreamFile] = {}
        try:
            _require_both(directory)
            for stream in Stream:
                opened[stream] = StreamFile.open(directory / f"{stream.value}.log", keys.signer(stream))
            return cls(lock, opened, keys, Quota() if quota is None else quota, now)
        except BaseException:
            for one in opened.values():
                one.close()
            os.close(lock)
            raise

    @property
    def repairs(self) -> tuple[str, ...]:
        """What was mended when it was opened, a sentence each, for the operator."""
        return tuple(
            f"{stream.path} ended in the middle of an entry: {stream.torn} bytes that nobody had been promised were cut"
            " off. If there was no crash, compare it with a remembered checkpoint: forestall-verify --remembered."
            for stream in self._streams.values()
            if stream.torn
        )

    def size(self, stream: Stream) -> int:
        """Bytes written to a stream's log; its file may have room besides."""
        return self._streams[stream].end

    def append(self, entry: Entry) -> Position:
        """Return when as durable as it asks. A denial that was only counted stands where its first does, or at -1.

        Raises:
            Unavailable: it was not acknowledged.
            InvalidInput: it is too large.
        """
        if entry.stream is Stream.DENIALS:
            position = self._deny(entry)
            if entry.durable:
                self._commits[entry.stream].append(None)
            return position
        record = prepare(entry, self._sealer)
        if entry.durable:
            return Position(entry.stream, self._commits[entry.stream].append(record))
        return self._write(entry.stream, record)

    def append_at_once(self, entry: Entry) -> Position | None:
        """A durable entry, in the caller's thread, if that takes no longer than handing it over: see `GroupCommit`.

        None where it would: nothing was written, and `append_async` is the way. Raises as `append`.
        """
        commit = self._commits[entry.stream]
        if not entry.durable or entry.stream is Stream.DENIALS or not commit.quick:
            return None  # before anything is sealed, which would be done again
        index = commit.append_at_once(prepare(entry, self._sealer))
        return None if index is None else Position(entry.stream, index)

    def append_async(self, entry: Entry, then: Callable[[Position], None] | None = None) -> Awaitable[Position]:
        """As `append`; the loop is never blocked on the disk's sync, and cancelling who awaits it stops nothing."""
        if entry.durable and entry.stream is not Stream.DENIALS:
            return self._commits[entry.stream].append_async(prepare(entry, self._sealer), then)
        return self._append_then_sync(entry, then)

    async def _append_then_sync(self, entry: Entry, then: Callable[[Position], None] | None) -> Position:
        position = self.append(replace(entry, durable=False))
        if entry.durable:
            await self._commits[entry.stream].append_async(None)
        if then is not None:
            then(position)
        return position

    def read(self, stream: Stream, start: int = 0) -> Iterator[Written]:
        with_path = self._streams[stream].path
        for _, _, leaf in self._leaves(stream, start):
            yield leaf.written(with_path)

    def unseal(self, position: Position) -> bytes | None:
        """Raises Tampered where the payload does not open."""
        if position.index < 0:
            return None
        for fd, end, leaf in self._leaves(position.stream, position.index):
            return read_payload(fd, leaf, end, self._streams[position.stream].path, self._sealer)
        return None

    def flush(self) -> None:
        """Sign and sync now what is not, counts of denials that are due included.

        Raises:
            Unavailable: something of it could not be done; the rest was.
        """
        with ExitStack() as then:  # runs from the bottom up, whatever fails
            for stream in self._streams.values():
                then.callback(stream.sign)
            then.callback(self._close_denials, everything=False)

    def close(self) -> None:
        """Idempotent. Raises Unavailable where the last entries could not be made durable; it is closed even so."""
        if not self._closer.acquire(blocking=False):
            return
        self._closing.set()
        self._dirty.set()
        self._threads[1].join(JOIN_S)
        with ExitStack() as then:  # runs from the bottom up, whatever fails
            then.callback(os.close, self._lock)
            for stream in self._streams.values():
                then.callback(stream.close)
            then.callback(self._threads[0].join, JOIN_S)
            then.callback(self._jobs.put, None)
            for commit in self._commits.values():
                then.callback(commit.close)
            then.callback(self._close_denials, everything=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, stream: Stream, record: Record) -> Position:
        """To the page cache; signed and synced soon."""
        index = self._streams[stream].write((record,))
        self._sign_soon()
        return Position(stream, index)

    def _sign_soon(self) -> None:
        if not self._dirty.is_set():
            self._dirty.set()

    def _deny(self, entry: Entry) -> Position:
        with self._denying:
            now = self._now()
            self._denials.close_due(now, self._write_count)
            repeated = self._denials.repeats(entry)
            if repeated is not None:
                self._dirty.set()
                return Position(Stream.DENIALS, repeated)
            payload = len(entry.sealed or b"")
            if payload > MAX_DENIED_PAYLOAD:
                entry, payload = replace(entry, sealed=None), 0
            held = entry.kind is Kind.HELD
            if not self._denials.admits(payload + ROOM, self._streams[Stream.DENIALS].end, held=held):
                self._dirty.set()
                return Position(Stream.DENIALS, SUPPRESSED)
            record = prepare(entry, self._sealer)
            position = self._write(Stream.DENIALS, record)
            self._denials.placed(entry, position.index, now, self._write_count)
            return position

    def _write_count(self, entry: Entry) -> None:
        self._write(Stream.DENIALS, prepare(entry, self._sealer))

    def _close_denials(self, *, everything: bool) -> None:
        with self._denying:
            self._denials.close_due(self._now(), self._write_count, everything=everything)

    def _leaves(self, stream: Stream, start: int) -> Iterator[tuple[int, int, Leaf]]:
        """Entries from `start` on, each with a descriptor and the end to read what follows it."""
        file = self._streams[stream]
        index, offset = file.place(start)
        fd, end = file.handle()
        try:
            if offset:
                for leaf in read_leaves(fd, offset, end, Position(stream, index), file.path):
                    if leaf.position.index >= start:
                        yield fd, end, leaf
        finally:
            os.close(fd)

    def _write_jobs(self) -> None:
        """Lead groups that only async callers wait in."""
        for job in iter(self._jobs.get, None):
            job()
        while not self._jobs.empty():  # what was handed on while the ledger closed
            (self._jobs.get() or _nothing)()

    def _sign_later(self) -> None:
        """Sign and sync, soon, what was written. Waits for nothing when there is nothing to do."""
        due = None
        while True:
            self._dirty.wait(due)
            if self._closing.wait(SIGN_AFTER_S):
                return
            self._dirty.clear()
            with suppress(BaseException):  # a stream that cannot be signed says so to whoever writes to it next
                self.flush()
            if any(stream.pending for stream in self._streams.values()):
                self._dirty.set()  # others wrote meanwhile, or it has to be tried again
            due = self._counts_due()

    def _counts_due(self) -> float | None:
        """Seconds until a count of denials has to be written, and can be."""
        if self._streams[Stream.DENIALS].broken:
            return None
        with self._denying:
            due = self._denials.due_in(self._now())
        return None if due is None else due / 1000


def _nothing() -> None:
    """The job that does none."""


def _locked(directory: Path) -> int:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Unavailable(f"{directory} is in use by another process; a ledger has one writer.") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _require_both(directory: Path) -> None:
    """Both streams are begun before the first entry: where one is not, and the other has any, it was removed."""
    reader = LogReader(directory)
    missing = [stream for stream in Stream if not reader.begun(stream)]
    if missing and any(next(reader.read(stream), None) for stream in Stream if stream not in missing):
        path = reader.path(missing[0])
        raise Tampered(f"{path} is missing or empty although the ledger has entries. Restore it from a backup.")
