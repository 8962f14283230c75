"""A power cut between any two system calls, with any of the sectors lost that no sync had taken.

What a disk may hold is reckoned from the calls that were made: of each sector that was written since a sync that ended
well began, any state that it had. A sync that fails makes nothing sure, and what it did not write it never will.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.adapter.ledger import log
from forestall.adapter.ledger.frames import CHECKPOINT, SECTOR
from forestall.adapter.ledger.log import FileLedger
from forestall.core.entry import Stream
from forestall.core.errors import Unavailable
from tests.ledgers import Place, ids, overwrite, permitted

WHAT = ["durable", "durable", "read", "flush", "restart", "kill", "fail", "interrupt", "fail flush", "interrupt flush"]
Step = tuple[str, bool, int]
"""What is done, whether a checkpoint is written during its sync, and how many entries others append before that."""

STEPS = st.lists(st.tuples(st.sampled_from(WHAT), st.booleans(), st.integers(0, 2)), min_size=1, max_size=9)


BOUND_S = 30


@pytest.fixture(autouse=True, scope="module")
def no_real_syncs() -> Iterator[None]:
    """What a sync does is reckoned here; real ones would only take time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: None)
        patch.setattr(os, "fsync", lambda _: None)
        yield


@dataclass(frozen=True)
class Moment:
    """The file as processes see it, after a system call."""

    what: str
    """write (a cut too); begin, and then synced, failed or interrupted."""
    content: bytes
    start: int = 0
    """From here on, in bytes, it was written; up to `end`."""
    end: int = 0


@dataclass
class Disk:
    """Watches the log of permits, and fails a sync where it is told to."""

    path: Path
    moments: list[Moment] = field(default_factory=list)
    acknowledged: list[tuple[int, str]] = field(default_factory=list)
    """Durable entries, and the moment at which each was."""
    order: list[str] = field(default_factory=list)
    """Of all entries, as they stood in the file at the end."""
    signed: list[int] = field(default_factory=list)
    """Moments at which everything was signed, and all of it on disk."""
    meanwhile: list[Callable[[], object]] = field(default_factory=list)
    error: BaseException | None = None
    wrote: threading.Event = field(default_factory=threading.Event)
    """Set when a checkpoint was written."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(log, "SIGN_AFTER_S", 1000)
            patch.setattr(os, "pwrite", self._write(os.pwrite))
            patch.setattr(os, "ftruncate", self._truncate(os.ftruncate))
            patch.setattr(os, "fdatasync", self._sync(os.fdatasync))
            yield

    def look(self, what: str, start: int = 0, end: int = 0) -> None:
        self.moments.append(Moment(what, self.path.read_bytes(), start, end))

    def _is_watched(self, fd: int) -> bool:
        return os.path.samestat(os.fstat(fd), self.path.stat())

    def _write(self, real: Callable[[int, bytes, int], int]) -> Callable[[int, bytes, int], int]:
        def write(fd: int, data: bytes, at: int) -> int:
            written = real(fd, data, at)
            if self._is_watched(fd):
                self.look("write", at, at + written)
                if bytes(data[:1]) == CHECKPOINT:
                    self.wrote.set()
            return written

        return write

    def _truncate(self, real: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def truncate(fd: int, size: int) -> None:
            before = os.fstat(fd).st_size
            real(fd, size)
            if self._is_watched(fd):
                self.look("write", min(size, before), max(size, before))

        return truncate

    def _sync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            if not self._is_watched(fd):
                return real(fd)
            self.look("begin")
            while self.meanwhile:
                self.meanwhile.pop()()
            self.look({OSError: "failed", KeyboardInterrupt: "interrupted"}.get(type(self.error), "synced"))
            if self.error is not None:
                raise self.error
            return None  # that it is no real one changes nothing here

        return sync


class Surface:
    """What may be on the disk: of each sector, and of the file's size, every state that it may have there."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.sizes = [len(content)]
        self.states: dict[int, list[bytes]] = {}
        self._dirty: set[int] = set()
        self._writing: tuple[set[int], bytes] = (set(), content)

    def take(self, moment: Moment) -> None:
        self.content = moment.content
        if moment.what == "write":
            self.sizes.append(len(moment.content))
            for sector in range(moment.start - moment.start % SECTOR, moment.end, SECTOR):
                self._dirty.add(sector)
                self.states.setdefault(sector, []).append(moment.content[sector : sector + SECTOR])
        elif moment.what == "begin":
            self._writing, self._dirty = (self._dirty, moment.content), set()
            self._sized = len(self.sizes)
        elif moment.what == "synced":
            sectors, content = self._writing
            self.sizes = [len(content), *self.sizes[self._sized :]]
            for sector in sectors:
                sure = content[sector : sector + SECTOR]
                since = self.states[sector][::-1].index(sure) if sure in self.states[sector] else 0
                self.states[sector] = [sure, *self.states[sector][len(self.states[sector]) - since :]]
        elif moment.what == "interrupted":
            self._dirty |= self._writing[0]
        # One that failed leaves them as doubtful as they were, and takes them for written.


@contextmanager
def temporary() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as directory:
        yield Place(Path(directory) / "place")


def append(disk: Disk, ledger: FileLedger, name: str, *, durable: bool) -> None:
    ledger.append(permitted(name, durable=durable))
    if durable:
        disk.acknowledged.append((len(disk.moments) - 1, name))


def reopened(disk: Disk, place: Place, ledger: FileLedger, *, kill: bool) -> FileLedger:
    """Closed well, or killed: then the files are as the page cache has them, and the end of its process is unseen."""
    if not kill:
        ledger.close()
        return place.open()
    seen, contents = len(disk.moments), {path: path.read_bytes() for path in (place.permits, place.denials)}
    with suppress(Unavailable):
        ledger.close()
    del disk.moments[seen:]
    for path, content in contents.items():
        overwrite(path, content)
    return place.open()


@contextmanager
def signing_meanwhile(disk: Disk, ledger: FileLedger) -> Iterator[None]:
    """Another thread writes a checkpoint during the next sync, where the one before is on disk, and syncs it then."""
    stream, threads = ledger._streams[Stream.PERMITS], list[threading.Thread]()

    def sign() -> None:
        with suppress(Unavailable):
            stream.sign()
        disk.wrote.set()

    def begin() -> None:
        if stream._checkpointed <= stream._synced:
            disk.wrote.clear()
            threads.append(threading.Thread(target=sign))
            threads[0].start()
            assert disk.wrote.wait(BOUND_S)

    disk.meanwhile.insert(0, begin)  # after what others append
    try:
        yield
    finally:
        for thread in threads:
            thread.join(BOUND_S)


def write_or_sign(disk: Disk, ledger: FileLedger, name: str, act: str, *, signs: bool) -> None:
    """What is asked for, with the sync that fails, or is interrupted, if that is asked for too."""
    fault, _, flush = act.rpartition(" ")
    what = flush if flush == "flush" else act
    disk.error = {"fail": OSError(5, "Input/output error"), "interrupt": KeyboardInterrupt()}.get(fault or act)
    with suppress(Unavailable, KeyboardInterrupt):
        if what == "flush":
            ledger.flush()
            disk.signed.append(len(disk.moments) - 1)
        else:
            with signing_meanwhile(disk, ledger) if signs and disk.error is None else nullcontext():
                append(disk, ledger, name, durable=True)
    disk.error = None


def carry_out(disk: Disk, place: Place, steps: Sequence[Step]) -> None:
    ledger = place.open()
    for number, (step, signs, others) in enumerate(steps):
        names = [f"x{number}-{other}" for other in range(others)]
        disk.meanwhile = [partial(append, disk, ledger, name, durable=False) for name in names[::-1]]
        if step in ("restart", "kill"):
            disk.meanwhile.clear()
            ledger = reopened(disk, place, ledger, kill=step == "kill")
        elif step == "read":
            append(disk, ledger, f"r{number}", durable=False)
        else:
            write_or_sign(disk, ledger, f"p{number}", step, signs=signs)
            if ledger._streams[Stream.PERMITS].broken:
                ledger = reopened(disk, place, ledger, kill=True)
        disk.meanwhile.clear()
    disk.order = ids(ledger)
    seen = len(disk.moments)
    ledger.close()
    del disk.moments[seen:]


def run(place: Place, steps: Sequence[Step]) -> Disk:
    place.open().close()
    disk = Disk(place.permits)
    disk.look("synced")
    with disk.watched():
        carry_out(disk, place, steps)
    return disk


def left(disk: Disk, at: int, choose: Callable[[list[bytes]], bytes], size: Callable[[list[int]], int]) -> bytes:
    """What the disk may hold after a cut at a moment: of what is not sure one of its states, oldest first."""
    surface = Surface(disk.moments[0].content)
    for moment in disk.moments[1 : at + 1]:
        surface.take(moment)
    length = size(surface.sizes)
    image = bytearray(disk.moments[0].content.ljust(length, b"\0")[:length])
    for sector, states in sorted(surface.states.items()):
        width = min(SECTOR, length - sector)
        kept = list(dict.fromkeys(state.ljust(SECTOR, b"\0")[:width] for state in states)) if width > 0 else []
        if kept:
            image[sector : sector + width] = kept[0] if len(kept) == 1 else choose(kept)
    return bytes(image)


def drawn(disk: Disk, at: int, data: st.DataObject) -> bytes:
    return left(
        disk,
        at,
        lambda states: states[data.draw(st.integers(0, len(states) - 1), label="state of a sector")],
        lambda sizes: data.draw(st.sampled_from(sizes), label="size"),
    )


def require_survival(place: Place, disk: Disk, at: int) -> None:
    assert place.verify("--live") == 0, "it is told from tampering before the restart too"
    with place.open() as ledger:
        kept = ids(ledger)
        assert kept == disk.order[: len(kept)]
        assert {name for moment, name in disk.acknowledged if moment <= at} <= set(kept)
        ledger.append(permitted("after"))
    assert place.verify() == 0


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, data=st.data())
def test_what_was_acknowledged_survives_whatever_the_disk_had_not_taken(steps: list[Step], data: st.DataObject) -> None:
    with temporary() as place:
        disk = run(place, steps)
        at = data.draw(st.integers(0, len(disk.moments) - 1), label="cut at")
        overwrite(place.permits, drawn(disk, at, data))
        require_survival(place, disk, at)


DURABLE, READ, SIGNED = ("durable", False, 0), ("read", False, 0), ("flush", False, 0)
STORIES: dict[str, list[Step]] = {
    "entries, a checkpoint, entries": [DURABLE, READ, SIGNED, DURABLE, READ, SIGNED],
    "others write meanwhile": [DURABLE, ("durable", False, 2), ("flush", False, 2), DURABLE],
    "a checkpoint during the sync of an entry": [DURABLE, READ, ("durable", True, 2), ("durable", True, 0), READ],
    "killed with entries behind a checkpoint": [DURABLE, SIGNED, DURABLE, READ, ("kill", False, 0), DURABLE],
    "killed with a checkpoint that no sync took": [DURABLE, ("interrupt flush", False, 1), ("kill", False, 0), READ],
    "a sync fails": [DURABLE, SIGNED, READ, ("fail", False, 1), DURABLE, SIGNED],
    "a sync fails over a checkpoint": [DURABLE, READ, ("fail flush", False, 1), DURABLE, SIGNED],
    "a sync fails over a checkpoint, and one over the next": [
        *(DURABLE, READ, ("fail flush", False, 1)),
        *(READ, ("fail flush", False, 0), READ, SIGNED),
    ],
    "an interrupt, then a checkpoint": [DURABLE, ("interrupt", False, 1), SIGNED, DURABLE],
    "an interrupt over a checkpoint, then another": [DURABLE, READ, ("interrupt flush", False, 1), SIGNED, DURABLE],
    "an interrupt over a checkpoint, then a failure": [READ, ("interrupt flush", False, 1), ("fail flush", False, 1)],
}


@pytest.mark.parametrize("story", STORIES)
def test_any_run_of_sectors_may_be_lost_in_every_sync(tmp_path: Path, story: str) -> None:
    """Just before each sync ends, when the most is not sure, and at the end: some that is connected is lost."""
    place = Place(tmp_path / "place")
    disk = run(place, STORIES[story])
    ends = [index - 1 for index, moment in enumerate(disk.moments) if moment.what in ("synced", "failed")]
    for at in (*ends[1:], len(disk.moments) - 1):
        unsure: list[int] = []
        left(disk, at, lambda states, unsure=unsure: unsure.append(1) or states[-1], max)
        for first in range(len(unsure)):
            for last in range(first, len(unsure)):
                count = itertools.count()
                lost = range(first, last + 1)
                image = left(disk, at, lambda states, n=count, lost=lost: states[0 if next(n) in lost else -1], max)
                overwrite(place.permits, image)
                require_survival(place, disk, at)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, data=st.data())
def test_what_was_signed_and_synced_is_never_contradicted(steps: list[Step], data: st.DataObject) -> None:
    """A checkpoint that stands while nobody signs may be remembered: no power cut makes another history."""
    with temporary() as place:
        disk = run(place, [DURABLE, SIGNED, *(step for step in steps if not step[0].startswith(("fail", "interrupt")))])
        at = data.draw(st.sampled_from(disk.signed), label="signed")
        seen = place.root / "seen"
        overwrite(place.permits, disk.moments[at].content)
        assert place.verify("--live", "--write-remembered", str(seen)) == 0
        cut = data.draw(st.integers(at, len(disk.moments) - 1), label="cut at")
        overwrite(place.permits, drawn(disk, cut, data))
        with place.open() as ledger:
            ledger.append(permitted("after"))
        assert place.verify("--remembered", str(seen)) == 0
