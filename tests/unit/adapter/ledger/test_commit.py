"""Group commit: who writes for whom, and what each is told."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from forestall.adapter.ledger import commit
from forestall.adapter.ledger.log import FileLedger
from forestall.core.entry import Entry, Kind, Stream
from forestall.core.errors import Unavailable
from forestall.port import Position
from tests.ledgers import Place, ids, permitted, settled, split

BOUND_S = 30


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(BOUND_S * 200):
        if condition():
            return
        pause.wait(0.005)
    pytest.fail("it did not come to that")


class Disk:
    """Syncs only when it is let, and fails when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.syncs = 0
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, fd: int) -> None:
        self.entered.release()
        assert self.let.acquire(timeout=BOUND_S)
        if self.error is not None:
            raise self.error
        self.syncs += 1
        self._real(fd)

    def go(self, times: int = 1000) -> None:
        self.let.release(times)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def ledger(place: Place) -> FileLedger:
    return place.open()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


@pytest.fixture
def disk(ledger: FileLedger, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Released before the pool waits for its threads."""
    disk = Disk(monkeypatch)
    yield disk
    disk.error = None
    disk.go()
    ledger.close()


def waiting(ledger: FileLedger) -> int:
    return len(ledger._commits[Stream.PERMITS]._queue)


def groups(place: Place) -> str:
    """The kinds of frames after the first checkpoint, payloads left out."""
    return b"".join(part.kind for part in split(place.permits)[1][1:] if part.kind != b"P").decode()


def queued(
    ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor, count: int
) -> tuple[Future[Position], list[Future[Position]]]:
    """One caller in the middle of its sync, and `count` that wait."""
    first = pool.submit(ledger.append, permitted("first"))
    assert disk.entered.acquire(timeout=BOUND_S)
    rest = [pool.submit(ledger.append, permitted(f"p{number}")) for number in range(count)]
    until(lambda: waiting(ledger) == count)
    return first, rest


def test_who_comes_during_a_sync_shares_the_next(
    place: Place, ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    first, rest = queued(ledger, disk, pool, 10)
    assert not first.done()
    disk.go()
    assert first.result(BOUND_S).index == 0
    assert sorted(one.result(BOUND_S).index for one in rest) == list(range(1, 11))
    assert groups(place) == "E" * 11
    assert disk.syncs == 2


def test_nobody_is_answered_before_the_sync(ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor) -> None:
    first, rest = queued(ledger, disk, pool, 3)
    disk.go(1)
    first.result(BOUND_S)
    assert disk.entered.acquire(timeout=BOUND_S)
    assert not any(one.done() for one in rest)
    disk.go()
    assert {one.result(BOUND_S).index for one in rest} == {1, 2, 3}


def test_a_failed_sync_is_told_to_everyone_who_waited(ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor) -> None:
    first, rest = queued(ledger, disk, pool, 3)
    disk.error = OSError(5, "Input/output error")
    disk.go()
    for one in (first, *rest):
        with pytest.raises(Unavailable, match="could not be synced"):
            one.result(BOUND_S)
    with pytest.raises(Unavailable):
        ledger.close()


def test_an_interrupted_leader_hands_on(ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor) -> None:
    first, rest = queued(ledger, disk, pool, 3)
    disk.error = KeyboardInterrupt()
    disk.go(1)
    with pytest.raises(KeyboardInterrupt):
        first.result(BOUND_S)
    disk.error = None
    disk.go()
    assert {one.result(BOUND_S).index for one in rest} == {1, 2, 3}


def test_who_waits_too_long_is_refused_and_not_written(
    ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "WAIT_S", 0.01)
    first = pool.submit(ledger.append, permitted("first"))
    assert disk.entered.acquire(timeout=BOUND_S)
    with pytest.raises(Unavailable, match="did not answer within"):
        ledger.append(permitted("late"))
    disk.go()
    first.result(BOUND_S)
    assert ids(ledger) == ["first"]


def test_an_entry_that_needs_no_sync_does_not_wait_for_one(
    ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    first, _ = queued(ledger, disk, pool, 1)
    assert ledger.append(settled("first")).index == 1
    assert not first.done()


def test_a_full_group_ends_and_the_rest_follows(
    place: Place, ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "GROUP_BYTES", 1)
    _, rest = queued(ledger, disk, pool, 4)
    disk.go()
    assert {one.result(BOUND_S).index for one in rest} == {1, 2, 3, 4}
    assert groups(place) == "E" * 5
    assert disk.syncs == 5


def test_what_one_iteration_of_a_loop_submits_shares_a_sync(place: Place, ledger: FileLedger, disk: Disk) -> None:
    disk.go()

    async def write() -> list[Position]:
        return await asyncio.gather(*(ledger.append_async(permitted(f"p{number}")) for number in range(64)))

    assert [one.index for one in asyncio.run(write())] == list(range(64))
    assert groups(place) == "E" * 64
    assert disk.syncs == 1


def test_a_loop_is_not_blocked_by_a_sync(ledger: FileLedger, disk: Disk) -> None:
    async def write() -> int:
        task = asyncio.ensure_future(ledger.append_async(permitted("a")))
        entered = asyncio.get_running_loop().run_in_executor(None, disk.entered.acquire)
        assert await asyncio.wait_for(entered, BOUND_S)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        disk.go()
        return (await asyncio.wait_for(task, BOUND_S)).index

    assert asyncio.run(write()) == 0


def test_an_async_caller_that_gave_up_hears_of_it_when_the_entry_is_written(ledger: FileLedger, disk: Disk) -> None:
    async def append(number: int) -> Position:
        return await ledger.append_async(permitted(f"p{number}"))

    async def write() -> None:
        tasks = [asyncio.create_task(append(number)) for number in range(3)]
        entered = asyncio.get_running_loop().run_in_executor(None, disk.entered.acquire)
        assert await asyncio.wait_for(entered, BOUND_S)
        tasks[1].cancel()
        disk.go()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), BOUND_S)
        assert isinstance(results[1], asyncio.CancelledError)
        assert [results[0], results[2]] == [Position(Stream.PERMITS, 0), Position(Stream.PERMITS, 2)]

    asyncio.run(write())


def test_a_loop_that_ended_harms_nobody(ledger: FileLedger, disk: Disk) -> None:
    async def give_up() -> None:
        task = asyncio.ensure_future(ledger.append_async(permitted("a")))
        entered = asyncio.get_running_loop().run_in_executor(None, disk.entered.acquire)
        assert await asyncio.wait_for(entered, BOUND_S)
        task.cancel()

    asyncio.run(give_up())
    disk.go()
    assert ledger.append(permitted("b")).index == 1


def test_async_callers_are_told_of_a_failed_sync(ledger: FileLedger, disk: Disk) -> None:
    async def write() -> list[object]:
        disk.error = OSError(5, "Input/output error")
        disk.go()
        appends = (ledger.append_async(permitted(f"p{number}")) for number in range(3))
        return list(await asyncio.gather(*appends, return_exceptions=True))

    assert [type(one) for one in asyncio.run(write())] == [Unavailable] * 3
    with pytest.raises(Unavailable):
        ledger.close()


def test_async_and_blocking_callers_mix(ledger: FileLedger, pool: ThreadPoolExecutor) -> None:
    async def write() -> list[Position]:
        loop = asyncio.get_running_loop()
        calls = []
        for number in range(100):
            entry = permitted(f"p{number}")
            blocking = number % 2
            calls.append(loop.run_in_executor(pool, ledger.append, entry) if blocking else ledger.append_async(entry))
        return await asyncio.wait_for(asyncio.gather(*calls), BOUND_S)

    assert {one.index for one in asyncio.run(write())} == set(range(100))
    ledger.close()


def test_closing_answers_everybody_who_waits(
    place: Place, ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    first, rest = queued(ledger, disk, pool, 5)
    closing = pool.submit(ledger.close)
    disk.go()
    closing.result(BOUND_S)
    assert {one.result(BOUND_S).index for one in (first, *rest)} == set(range(6))
    assert place.verify() == 0


# -- at once, in the caller's thread


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long this disk takes."""
    monkeypatch.setattr(commit, "QUICK_S", 1000.0)


@pytest.mark.usefixtures("quick")
def test_who_is_alone_is_written_and_synced_before_it_goes_on_and_waits_for_nothing_else(
    place: Place, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    here = threading.get_ident()
    write, sync = os.pwrite, os.fdatasync

    def writing(fd: int, data: bytes, at: int) -> int:
        order.append("write")
        return write(fd, data, at)

    def syncing(fd: int) -> None:
        assert threading.get_ident() == here
        assert groups(place) == "E"
        assert ledger._dirty.is_set(), "who signs it later was told"
        order.append("sync")
        sync(fd)

    monkeypatch.setattr(os, "pwrite", writing)
    monkeypatch.setattr(os, "fdatasync", syncing)
    assert ledger.append_at_once(permitted("a")) == Position(Stream.PERMITS, 0)
    order.append("released")
    assert order == ["write", "sync", "released"]
    monkeypatch.undo()
    ledger.close()
    assert groups(place) == "EC"


@pytest.mark.usefixtures("quick")
def test_while_a_checkpoint_is_synced_a_loop_hands_its_record_over_and_a_thread_waits(
    place: Place, ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    ledger.append(permitted("a", durable=False))
    signing = pool.submit(ledger.flush)
    assert disk.entered.acquire(timeout=BOUND_S)
    assert ledger.append_at_once(permitted("refused")) is None
    waits = pool.submit(ledger.append, permitted("b"))
    until(lambda: groups(place) == "ECE")
    assert not waits.done()
    disk.go()
    signing.result(BOUND_S)
    assert waits.result(BOUND_S).index == 1
    assert disk.syncs == 2
    assert ids(ledger) == ["a", "b"]


@pytest.mark.usefixtures("quick")
def test_while_an_entry_is_synced_all_can_be_signed_and_its_caller_waits_for_none_of_it(
    place: Place, ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    waits = pool.submit(ledger.append, permitted("a"))
    assert disk.entered.acquire(timeout=BOUND_S)
    signing = pool.submit(ledger.flush)
    until(lambda: groups(place) == "EC")
    disk.go(1)
    assert waits.result(BOUND_S).index == 0
    assert disk.entered.acquire(timeout=BOUND_S)
    assert not signing.done()
    disk.go()
    signing.result(BOUND_S)


@pytest.mark.usefixtures("quick")
def test_what_needs_no_sync_or_has_a_quota_is_not_written_at_once(ledger: FileLedger) -> None:
    durable_denial = Entry(Stream.DENIALS, Kind.QUARANTINED, "q", 1, {"tool": "git/push"}, durable=True)
    for entry in (permitted("a", durable=False), settled("a"), durable_denial):
        assert ledger.append_at_once(entry) is None
    assert [ids(ledger, stream) for stream in Stream] == [[], []]


@pytest.mark.usefixtures("quick")
def test_a_sync_that_fails_at_once_is_told_and_nothing_is_acknowledged_any_more(
    ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(Unavailable, match="could not be synced"):
            ledger.append_at_once(permitted("a"))
    with pytest.raises(Unavailable, match="could not be synced"):
        ledger.append_at_once(permitted("b"))
    with pytest.raises(Unavailable):
        ledger.close()


@pytest.mark.usefixtures("quick")
def test_a_write_that_fails_at_once_leaves_no_trace(
    place: Place, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(Unavailable, match="could not be written"):
            ledger.append_at_once(permitted("a"))
    assert ledger.append_at_once(permitted("b")) == Position(Stream.PERMITS, 0)
    assert groups(place) == "E"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", ["append", "append_at_once"])
def test_whatever_goes_wrong_is_unavailable(ledger: FileLedger, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def exhausted(*_: object) -> int:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", exhausted)
        with pytest.raises(Unavailable, match="A write failed: MemoryError"):
            getattr(ledger, way)(permitted("a"))
    assert getattr(ledger, way)(permitted("b")) == Position(Stream.PERMITS, 0)
    ledger.close()


def test_a_slow_sync_is_handed_over_the_next_time_and_a_quick_one_brings_it_back(
    place: Place, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of its own: each sync takes what the test says it takes."""
    took, now = 0.0, 0.0
    sync = os.fdatasync

    def syncing(fd: int) -> None:
        nonlocal now
        sync(fd)
        now += took

    monkeypatch.setattr(os, "fdatasync", syncing)
    monkeypatch.setattr("forestall.adapter.ledger.stream.time.monotonic", lambda: now)
    ledger._streams[Stream.PERMITS]._took = 0.0
    assert ledger.append_at_once(permitted("first")) is not None
    took = commit.QUICK_S * 2
    assert ledger.append_at_once(permitted("slow")) is not None, "it holds the caller up once"
    assert ledger.append_at_once(permitted("refused")) is None
    assert ids(ledger) == ["first", "slow"], "what was refused was not written"
    took = 0.0
    ledger.append(permitted("handed over"))
    assert ledger.append_at_once(permitted("back")) is not None
    monkeypatch.undo()
    assert ids(ledger) == ["first", "slow", "handed over", "back"]
    assert groups(place) == "E" * 4


def test_the_last_quick_sync_is_one_that_took_no_longer_than_that(
    ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ledger._streams[Stream.PERMITS]
    for took, written in ((commit.QUICK_S, True), (commit.QUICK_S * 1.01, False)):
        monkeypatch.setattr(file, "_took", took)
        assert (ledger.append_at_once(permitted("a")) is not None) == written


@pytest.mark.usefixtures("quick")
def test_while_another_group_is_written_nothing_is_written_at_once_nor_twice(
    place: Place, ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    first, rest = queued(ledger, disk, pool, 1)
    assert ledger.append_at_once(permitted("mine")) is None
    last = pool.submit(ledger.append, permitted("mine"))
    until(lambda: waiting(ledger) == 2)
    disk.go()
    assert {first.result(BOUND_S).index, rest[0].result(BOUND_S).index, last.result(BOUND_S).index} == {0, 1, 2}
    assert sorted(ids(ledger)) == ["first", "mine", "p0"]
    assert groups(place) == "EEE"
    assert disk.syncs == 2


@pytest.mark.usefixtures("quick")
def test_who_has_company_is_not_written_at_once(ledger: FileLedger, disk: Disk) -> None:
    async def write() -> list[Position]:
        first = ledger.append_async(permitted("a"))
        assert ledger.append_at_once(permitted("b")) is None
        return await asyncio.gather(first, ledger.append_async(permitted("b")))

    disk.go()
    assert [one.index for one in asyncio.run(write())] == [0, 1]
    assert disk.syncs == 1


@pytest.mark.usefixtures("quick")
def test_who_comes_while_one_is_written_at_once_is_written_by_the_next(
    place: Place, ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor
) -> None:
    first = pool.submit(ledger.append_at_once, permitted("first"))
    assert disk.entered.acquire(timeout=BOUND_S)
    rest = [pool.submit(ledger.append, permitted(f"p{number}")) for number in range(3)]
    until(lambda: waiting(ledger) == 3)
    disk.go()
    assert first.result(BOUND_S) == Position(Stream.PERMITS, 0)
    assert {one.result(BOUND_S).index for one in rest} == {1, 2, 3}
    assert groups(place) == "EEEE"
    assert disk.syncs == 2


@pytest.mark.usefixtures("quick")
def test_an_interrupt_at_once_hands_on_to_who_waits(ledger: FileLedger, disk: Disk, pool: ThreadPoolExecutor) -> None:
    first = pool.submit(ledger.append_at_once, permitted("first"))
    assert disk.entered.acquire(timeout=BOUND_S)
    rest = pool.submit(ledger.append, permitted("rest"))
    until(lambda: waiting(ledger) == 1)
    disk.error = KeyboardInterrupt()
    disk.go(1)
    with pytest.raises(KeyboardInterrupt):
        first.result(BOUND_S)
    disk.error = None
    disk.go()
    assert rest.result(BOUND_S).index == 1


@pytest.mark.usefixtures("quick")
def test_a_closed_ledger_takes_nothing_at_once(ledger: FileLedger) -> None:
    ledger.close()
    with pytest.raises(Unavailable, match="closed"):
        ledger.append_at_once(permitted("a"))
