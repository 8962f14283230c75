"""Group commit: concurrent callers share one write and one sync.

Whoever comes first leads: it writes what waits, itself included, has it synced, and answers. Who comes meanwhile waits,
and is written by the next leader: the first of those who wait, or the writer thread where that one is async.
A caller alone therefore syncs in its own thread, without a hand-off. A loop may do that too, while the disk is quick:
waking another thread and being woken by it takes longer than such a sync.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from forestall.core.entry import Stream
from forestall.core.errors import ForestallError, Unavailable
from forestall.port import Position
from forestall.run import Unstoppable

if TYPE_CHECKING:
    from forestall.adapter.ledger.stream import Record, StreamFile

Jobs = SimpleQueue[Callable[[], None] | None]
"""What the writer thread carries out, in order; None ends it."""

WAIT_S = 30.0
"""Seconds that a caller waits for its group. A disk that takes longer is as good as gone."""

QUICK_S = 0.002
"""Seconds of a sync for which a loop may stand still. One that hangs holds it up once: the next is handed over."""

GROUP_BYTES = 8 * 1024 * 1024
"""Bytes after which a group is full: what a disk writes within a few hundredths of a second."""


class _Submission:
    """One caller that waits: at `gate`, locked until it is answered or has to lead, or for `future`."""

    __slots__ = ("error", "future", "gate", "index", "leads", "loop", "record", "then")

    def __init__(self, record: Record | None) -> None:
        self.record = record
        self.gate: threading.Lock | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: Unstoppable[Position] | None = None
        self.then: Callable[[Position], None] | None = None
        self.leads = False
        self.index = -1
        self.error: str | None = None


class GroupCommit:
    """Durable appends to one stream."""

    def __init__(self, name: Stream, stream: StreamFile, jobs: Jobs, written: Callable[[], None]) -> None:
        """`written` is called before each sync: there is something to sign."""
        self._name = name
        self._stream = stream
        self._jobs = jobs
        self._written = written
        self._lock = threading.Lock()
        self._queue: deque[_Submission] = deque()
        self._busy = False
        self._closed = False
        self._planned: set[asyncio.AbstractEventLoop] = set()

    def append(self, record: Record | None) -> int:
        """Write and sync; the record's index. None only syncs what was written before.

        Raises:
            Unavailable: it was not acknowledged, and nothing may be released on its strength.
        """
        index = self.append_at_once(record)
        return self._submit(record, closing=False) if index is None else index

    @property
    def quick(self) -> bool:
        """May a loop stand still for a sync? None is under way, and the last one took no longer than that."""
        return self._stream.took <= QUICK_S and not self._stream.syncing

    def append_at_once(self, record: Record | None) -> int | None:
        """As `append`, where nobody is before it. None otherwise: nothing was written."""
        with self._lock:
            self._require_open()
            if self._busy or self._queue:
                return None
            self._busy = True
        try:
            return self._commit(() if record is None else (record,))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was acknowledged
            raise Unavailable(_sentence(error)) from None
        finally:
            self._hand_on()

    def close(self) -> None:
        """Take nothing more; write and sync what waits. Raises as `append`."""
        self._submit(None, closing=True)

    def _submit(self, record: Record | None, *, closing: bool) -> int:
        submission = _Submission(record)
        with self._lock:
            self._require_open()
            self._closed = closing
            if self._busy:
                submission.gate = threading.Lock()
                submission.gate.acquire()
                self._queue.append(submission)
            else:
                self._busy = submission.leads = True
                self._queue.appendleft(submission)  # so that a leader is always in its own group
        if submission.gate is not None:
            self._wait(submission, submission.gate)
        if submission.leads:
            self._lead()
        if submission.error is not None:
            raise Unavailable(submission.error)
        return submission.index

    def append_async(
        self, record: Record | None, then: Callable[[Position], None] | None = None
    ) -> Unstoppable[Position]:
        """As `append`, without blocking the loop. What one iteration of a loop submits shares a sync.

        `then` is called on the loop with the position before whoever awaits goes on; what it raises is raised there.
        """
        loop = asyncio.get_running_loop()
        submission = _Submission(record)
        submission.loop, submission.then = loop, then
        future: Unstoppable[Position] = Unstoppable(loop=loop)
        submission.future = future
        with self._lock:
            self._require_open()
            self._queue.append(submission)
            plan = not self._busy and loop not in self._planned
            if plan:
                self._planned.add(loop)
        if plan:
            loop.call_soon(self._start, loop)
        return future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._planned.discard(loop)
            if self._busy or not self._queue:
                return
            self._busy = True
        self._jobs.put(self._lead)

    def _wait(self, submission: _Submission, gate: threading.Lock) -> None:
        try:
            if gate.acquire(timeout=WAIT_S):
                return
        except BaseException:
            if self._abandon(submission) and submission.leads:
                self._lead()
            raise
        if not self._abandon(submission):
            raise Unavailable(f"{self._stream.path} did not answer within {WAIT_S:.0f} s. Nothing was permitted.")

    def _abandon(self, submission: _Submission) -> bool:
        """Nobody waits for it any more. True where it was answered, or made leader, just before."""
        with self._lock:
            if submission in self._queue and not submission.leads:
                self._queue.remove(submission)
                return False
            return submission.leads or submission.index >= 0 or submission.error is not None

    def _lead(self) -> None:
        """Commit one group, then hand on."""
        group = self._take()
        try:
            index = self._commit([one.record for one in group if one.record is not None])
            for submission in group:
                submission.index = index
                index += submission.record is not None
        except BaseException as error:
            for submission in group:
                submission.error = _sentence(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._hand_on()
            _answer(self._name, group)

    def _take(self) -> list[_Submission]:
        group, size = [], 0
        with self._lock:
            while self._queue and size < GROUP_BYTES:
                submission = self._queue.popleft()
                size += len(submission.record.frames) if submission.record is not None else 0
                group.append(submission)
        return group

    def _commit(self, records: Sequence[Record]) -> int:
        """The index of the first. Who signs is told while the disk is at work, when nobody waits for a processor."""
        index = self._stream.write(records, durable=True)
        self._written()
        self._stream.sync()
        return index

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("The ledger is closed; open it again.")

    def _hand_on(self) -> None:
        with self._lock:
            if not self._queue:
                self._busy = False
                return
            following = self._queue[0]
            if following.gate is not None:
                following.leads = True
                following.gate.release()
                return
        self._jobs.put(self._lead)


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, ForestallError) else f"A write failed: {type(error).__name__}."


def _answer(name: Stream, group: Sequence[_Submission]) -> None:
    waiting: dict[asyncio.AbstractEventLoop, list[_Submission]] = {}
    for submission in group:
        if submission.loop is not None:
            waiting.setdefault(submission.loop, []).append(submission)
        elif submission.gate is not None and not submission.leads:
            submission.gate.release()
    for loop, submissions in waiting.items():
        try:
            loop.call_soon_threadsafe(_resolve, name, submissions)
        except RuntimeError:  # the loop was closed, and nobody waits on it
            continue


def _resolve(name: Stream, submissions: Sequence[_Submission]) -> None:
    for submission in submissions:
        future = submission.future
        if future is None or future.done():
            continue
        if submission.error is not None:
            future.set_exception(Unavailable(submission.error))
            continue
        position = Position(name, submission.index)
        try:
            if submission.then is not None:
                submission.then(position)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for whoever awaits
            future.set_exception(error)
        else:
            future.set_result(position)
