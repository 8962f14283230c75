"""One file: what happens when it cannot be written, or synced, or is not ours alone."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from forestall.adapter.ledger import log
from forestall.adapter.ledger.denials import WINDOW_MS, Quota
from forestall.adapter.ledger.log import FileLedger
from forestall.adapter.ledger.recovery import MARK_EVERY
from forestall.adapter.ledger.stream import MAX_ROOM, MIN_ROOM
from forestall.core.entry import Stream
from forestall.core.errors import Unavailable
from tests.ledgers import Clock, Place, denied, ids, overwrite, permitted, settled, split
from tests.unit.adapter.ledger.test_commit import BOUND_S, until

ROOT = Path(__file__).parents[4]

FILL = """
import resource, signal, sys
from pathlib import Path
from forestall.core.errors import Unavailable
from tests.ledgers import Place, ids, permitted

place, limit = Place(Path(sys.argv[1])), int(sys.argv[2])
ledger = place.open()
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
acknowledged, refused = [], 0
for number in range(2000):
    try:
        ledger.append(permitted(f"p{number}", durable=number % 4 != 0))
        acknowledged.append(f"p{number}")
    except Unavailable as error:
        assert "permits.log could not be" in str(error), error  # written, or signed
        refused += 1
        if refused == 5:
            break
assert refused == 5, refused
assert ids(ledger) == acknowledged
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    (place.root / "ballast").unlink()
ledger.flush()
ledger.append(permitted("after"))
ledger.close()
assert place.verify() == 0
with place.open() as ledger:
    assert ids(ledger) == [*acknowledged, "after"]
print("ok", len(acknowledged))
"""


def run_fill(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_write_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    """A real limit of the system, in a process of its own, as any user."""
    done = run_fill([sys.executable, "-c", FILL, str(tmp_path), "50000"])
    assert "\nok " in f"\n{done.stdout}", done.stderr


def test_a_full_disk_leaves_no_trace(tmp_path: Path) -> None:
    """A real file system of 128 KiB, in a name space of its own that vanishes with the process."""
    unshare = shutil.which("unshare")
    own = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    mount = f"mount -t tmpfs -o size=128k none {tmp_path}"
    if (
        unshare is None
        or subprocess.run([unshare, *own, "sh", "-c", mount], check=False, capture_output=True).returncode
    ):
        pytest.skip("this system does not let us mount a small file system")
    script = f'{mount} && head -c 40000 /dev/zero > {tmp_path}/ballast && exec "$0" -c "$1" {tmp_path} 0'
    done = run_fill([unshare, *own, "sh", "-c", script, sys.executable, FILL])
    assert "\nok " in f"\n{done.stdout}", done.stderr


def fail(number: int) -> Callable[..., int]:
    def raising(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return raising


def half(size: int) -> Callable[[int, bytes, int], int]:
    """Write that much, then find the disk full."""
    real = os.pwrite
    calls = iter([lambda fd, data, at: real(fd, data[:size], at), fail(errno.ENOSPC)])

    def pwrite(fd: int, data: bytes, at: int) -> int:
        return next(calls)(fd, data, at)

    return pwrite


@pytest.fixture
def ledger(tmp_path: Path) -> FileLedger:
    return Place(tmp_path).open()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_after_a_failed_sync_nothing_is_acknowledged_any_more(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail(number))
        with pytest.raises(Unavailable, match=r"could not be synced: .*; .*, then restart"):
            ledger.append(permitted("b"))
    for durable in (True, False):  # the disk works again, and is not believed
        with pytest.raises(Unavailable, match="could not be synced"):
            ledger.append(permitted("c", durable=durable))
    with pytest.raises(Unavailable):
        ledger.close()
    with Place(tmp_path).open() as again:
        assert ids(again)[0] == "a"
        assert "c" not in ids(again)
    assert Place(tmp_path).verify() == 0


def test_a_write_that_cannot_be_undone_is_the_last(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half(7))
        patch.setattr(os, "ftruncate", fail(errno.EIO))
        with pytest.raises(Unavailable, match="could not be written: No space left"):
            ledger.append(permitted("b"))
    with pytest.raises(Unavailable, match="holds half a write"):
        ledger.append(permitted("c"))
    with pytest.raises(Unavailable):
        ledger.close()
    with Place(tmp_path).open() as again:  # the half is a torn tail
        assert ids(again) == ["a"]


def test_half_a_write_is_undone(ledger: FileLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half(300))
        with pytest.raises(Unavailable, match="Nothing was permitted"):
            ledger.append(permitted("b"))
    assert ledger.append(permitted("c")).index == 1
    assert ids(ledger) == ["a", "c"]
    ledger.close()


def test_an_interrupt_in_the_middle_of_a_write_undoes_it(ledger: FileLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.append(permitted("a"))
    assert ledger.append(permitted("b")).index == 0
    ledger.close()


def test_a_write_that_fails_where_readers_begin_leaves_them_their_place(
    ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2 * MARK_EVERY + 1):
        if number % MARK_EVERY == 0:
            with monkeypatch.context() as patch:
                patch.setattr(os, "pwrite", half(7))
                with pytest.raises(Unavailable, match="could not be written"):
                    ledger.append(permitted(f"refused{number}", durable=False))
        ledger.append(permitted(f"p{number}", durable=False, sealed=False))
    for number in (0, 1, MARK_EVERY - 1, MARK_EVERY, 2 * MARK_EVERY):
        assert next(ledger.read(Stream.PERMITS, number)).body["id"] == f"p{number}"
    ledger.close()


@pytest.mark.parametrize("change", ["longer", "shorter", "removed"])
def test_a_file_that_somebody_else_changed_is_not_written_to(tmp_path: Path, ledger: FileLedger, change: str) -> None:
    path = Place(tmp_path).permits
    ledger.append(permitted("a"))
    if change == "removed":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size + (1 if change == "longer" else -1))
    with pytest.raises(Unavailable, match="changed by somebody else"):
        ledger.append(permitted("b"))
    with pytest.raises(Unavailable):
        ledger.close()


@pytest.mark.tampers
def test_a_log_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.open().close()
    place.denials.unlink()
    place.denials.symlink_to(place.permits)
    with pytest.raises(Unavailable, match="cannot be opened"):
        place.open()


def test_the_files_are_for_their_owner_alone(tmp_path: Path, ledger: FileLedger) -> None:
    ledger.close()
    place = Place(tmp_path)
    modes = [path.stat().st_mode & 0o777 for path in (place.ledger, place.permits, place.denials)]
    assert modes == [0o700, 0o600, 0o600]


# -- written, synced, answered; and signed soon after


def kinds(path: Path) -> str:
    """Of the frames behind the first checkpoint, payloads left out."""
    return b"".join(part.kind for part in split(path)[1][1:] if part.kind != b"P").decode()


def test_what_was_acknowledged_as_durable_was_synced_before(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    write, sync = os.pwrite, os.fdatasync
    monkeypatch.setattr(os, "pwrite", lambda *a: (order.append("write"), write(*a))[1])
    monkeypatch.setattr(os, "fdatasync", lambda fd: (order.append("sync"), sync(fd))[1])
    ledger.append(permitted("a"))
    assert order == ["write", "sync"]
    assert kinds(Place(tmp_path).permits) == "E", "whoever asks waits for no signature"
    order.clear()
    ledger.append(settled("a"))
    ledger.append(denied("d"))
    assert order == ["write", "write"]
    order.clear()
    ledger.flush()
    assert order == ["write", "sync"] * 2
    assert Place(tmp_path).verify() == 0
    ledger.flush()
    assert len(order) == 4, "there is nothing left to do"
    ledger.close()


def test_whatever_was_written_is_soon_signed_and_synced(ledger: FileLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SIGN_AFTER_S", 0.01)
    for entry in (permitted("a"), settled("a"), denied("d")):
        ledger.append(entry)
        until(lambda: not any(stream.pending for stream in ledger._streams.values()))
    ledger.close()


def test_the_last_checkpoint_is_on_disk_when_it_is_closed(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    path, synced = Place(tmp_path).permits, []
    number, sync = path.stat().st_ino, os.fdatasync

    def syncing(fd: int) -> None:
        if os.fstat(fd).st_ino == number:
            synced.append(kinds(path))
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", syncing)
    ledger.close()
    assert synced[-1] == kinds(path) == "EC"


def test_a_last_sync_that_fails_is_said_and_it_is_closed_even_so(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail(errno.EIO))
        with pytest.raises(Unavailable, match="could not be synced"):
            ledger.close()
    with Place(tmp_path).open() as again:
        assert ids(again) == ["a"]
    assert Place(tmp_path).verify() == 0


def during_a_sync(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something while the next sync is under way."""
    sync, pending = os.fdatasync, [act]

    def syncing(fd: int) -> None:
        while pending:
            pending.pop()()
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", syncing)


@pytest.mark.parametrize("of", ["an entry", "a checkpoint"])
def test_a_checkpoint_covers_every_entry_before_it(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """Those too that came while the disk was at work."""
    place = Place(tmp_path)
    ledger.append(permitted("a"))
    during_a_sync(monkeypatch, lambda: [ledger.append(settled("a")), ledger.append(permitted("x", durable=False))])
    if of == "an entry":
        ledger.append(permitted("b"))
        before = "EEEE"
    else:
        ledger.flush()
        before = "ECEE"
    assert kinds(place.permits) == before
    assert place.verify("--live") == 0
    ledger.flush()
    assert kinds(place.permits) == before + "C"
    assert place.verify() == 0
    ledger.close()


class Syncs:
    """What stood in the log of permits when each of its syncs began."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self._path = place.permits
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, fd: int) -> None:
        if os.path.samestat(os.fstat(fd), self._path.stat()):
            self.seen.append(kinds(self._path))
        self._real(fd)


def interrupted(*_: object) -> int:
    raise KeyboardInterrupt


def test_no_checkpoint_is_written_while_the_one_before_it_is_not_on_disk(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after an interrupt, nor by the next process; the sync of whoever comes first is enough."""
    place = Place(tmp_path)
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger._streams[Stream.PERMITS].sign()
    syncs = Syncs(place, monkeypatch)
    ledger.append(permitted("b", durable=False))
    ledger.flush()
    assert syncs.seen == ["ECE", "ECEC"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", interrupted)
        ledger.append(permitted("c", durable=False))
        with pytest.raises(KeyboardInterrupt):
            ledger._streams[Stream.PERMITS].sign()
    syncs.seen.clear()
    ledger.append(permitted("d"))
    ledger.flush()
    assert syncs.seen == ["ECECECE", "ECECECEC"]
    ledger.close()


def test_a_new_process_syncs_what_it_finds_before_it_adds_a_checkpoint(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    ledger.append(permitted("a"))
    ledger.flush()
    ledger.append(permitted("b"))
    ledger.append(settled("b"))
    killed = place.permits.read_bytes()
    ledger.close()
    overwrite(place.permits, killed)
    syncs = Syncs(place, monkeypatch)
    place.open().close()
    assert syncs.seen == ["ECEE", "ECEEC"]
    assert place.verify() == 0


def test_of_two_who_sign_the_second_waits_until_the_checkpoint_of_the_first_is_on_disk(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, place = ledger._streams[Stream.PERMITS], Place(tmp_path)
    real, came = stream._signing, threading.Semaphore(0)

    class Door:
        def __enter__(self) -> None:
            came.release()
            real.acquire()

        def __exit__(self, *_: object) -> None:
            real.release()

    def another_comes() -> None:
        ledger.append(permitted("b", durable=False))
        second.start()
        for _ in range(2):  # the first, who is in the sync, and it
            assert came.acquire(timeout=BOUND_S)

    second = threading.Thread(target=ledger.flush)
    monkeypatch.setattr(stream, "_signing", Door())
    ledger.append(permitted("a"))
    syncs = Syncs(place, monkeypatch)
    during_a_sync(monkeypatch, another_comes)
    stream.sign()
    second.join(BOUND_S)
    assert syncs.seen == ["ECE", "ECEC"]
    ledger.close()


UNSIGNED = r"permits.log could not be signed: .*\. Nothing is permitted until it is"


def raising(error: BaseException) -> Callable[..., bytes]:
    def sign(*_: object) -> bytes:
        raise error

    return sign


def is_stopped(ledger: FileLedger) -> None:
    for durable in (True, False):
        with pytest.raises(Unavailable, match=UNSIGNED):
            ledger.append(permitted("refused", durable=durable))


ERRORS = [ValueError("no"), MemoryError(), OSError(errno.ENOMEM, "no")]


@pytest.mark.parametrize("error", ERRORS)
def test_while_what_the_file_holds_cannot_be_signed_nothing_is_added_to_it(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(ledger._streams[Stream.PERMITS]._signer, "sign", raising(error))
        for _ in range(2):
            with pytest.raises(Unavailable, match=UNSIGNED):
                ledger.flush()
            is_stopped(ledger)
    is_stopped(ledger)
    ledger.flush()
    ledger.append(permitted("b"))
    ledger.close()
    assert kinds(Place(tmp_path).permits) == "ECEC"
    assert Place(tmp_path).verify() == 0


@pytest.mark.parametrize("error", ERRORS)
def test_what_cannot_be_signed_later_is_told_to_whoever_writes_next(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The permit was released before the signature failed; no further one is, and the other stream goes on."""
    permits, denials = (ledger._streams[stream] for stream in Stream)
    monkeypatch.setattr(log, "SIGN_AFTER_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(permits._signer, "sign", raising(error))
        ledger.append(permitted("a"))
        until(lambda: bool(permits._unsigned))
        is_stopped(ledger)
        ledger.append(denied("d"))
        until(lambda: not denials.pending)
        assert permits.pending, "it is tried again"
    until(lambda: not permits.pending)
    ledger.append(permitted("b"))
    ledger.close()
    assert Place(tmp_path).verify() == 0


def test_what_could_not_be_signed_until_it_was_closed_is_signed_by_the_next_start(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(ledger._streams[Stream.PERMITS]._signer, "sign", raising(ValueError("no")))
        with pytest.raises(Unavailable, match=UNSIGNED):
            ledger.close()
    assert kinds(place.permits) == "E"
    with place.open() as again:
        assert again.repairs == ()
        assert ids(again) == ["a"]
        assert kinds(place.permits) == "EC"
    assert place.verify() == 0


class Panic(BaseException):
    """As the Rust side raises it."""


def test_a_panic_while_it_is_signed_stops_the_stream_until_it_is(
    ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(ledger._streams[Stream.PERMITS]._signer, "sign", raising(Panic()))
        with pytest.raises(Unavailable, match=UNSIGNED):
            ledger.flush()
        is_stopped(ledger)
        assert all(thread.is_alive() for thread in ledger._threads)
    ledger.flush()
    ledger.append(permitted("b"))
    ledger.close()


def test_an_interrupt_while_it_is_signed_leaves_it_to_the_next(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(ledger._streams[Stream.PERMITS]._signer, "sign", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            ledger.flush()
    ledger.append(permitted("b"))
    ledger.flush()
    assert kinds(Place(tmp_path).permits) == "EEC"
    ledger.close()
    assert Place(tmp_path).verify() == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_checkpoint_that_cannot_be_written_leaves_no_trace_and_is_before_any_other_entry(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Half of it is written before the disk fails."""
    place, real = Place(tmp_path), os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if bytes(data[:1]) != b"C":
            return real(fd, data, at)
        real(fd, data[: len(data) // 2], at)
        raise OSError(number, os.strerror(number))

    ledger.append(permitted("a"))
    ledger.append(permitted("x", durable=False))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(Unavailable, match=UNSIGNED):
            ledger.flush()
        assert kinds(place.permits) == "EE", "neither half a checkpoint nor one entry less"
        is_stopped(ledger)
    ledger.flush()
    ledger.append(permitted("b"))
    ledger.close()
    assert kinds(place.permits) == "EECEC"
    assert place.verify() == 0


def test_a_checkpoint_that_cannot_be_cut_back_is_the_end_of_writing(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half(7))
        patch.setattr(os, "ftruncate", fail(errno.EIO))
        with pytest.raises(Unavailable, match="holds half a write"):
            ledger.flush()
    assert not ledger._streams[Stream.PERMITS].pending, "nobody tries again, over and over"
    for last in (lambda: ledger.append(permitted("b")), ledger.flush, ledger.close):
        with pytest.raises(Unavailable, match="holds half a write"):
            last()
    with Place(tmp_path).open() as again:
        assert ids(again) == ["a"]
    assert Place(tmp_path).verify() == 0


def test_an_interrupt_in_the_middle_of_a_checkpoint_undoes_it_and_the_next_covers_all(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if bytes(data[:1]) == b"C":
            real(fd, data[:9], at)
            raise KeyboardInterrupt
        return real(fd, data, at)

    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(KeyboardInterrupt):
            ledger.flush()
    ledger.append(permitted("b"))
    ledger.flush()
    assert kinds(Place(tmp_path).permits) == "EEC"
    assert Place(tmp_path).verify() == 0
    ledger.close()


def test_a_failed_sync_is_followed_by_no_checkpoint(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    ledger.flush()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail(errno.EIO))
        with pytest.raises(Unavailable, match="could not be synced"):
            ledger.append(permitted("b"))
    for last in (ledger.flush, ledger.close):
        with pytest.raises(Unavailable, match="could not be synced"):
            last()
        assert kinds(Place(tmp_path).permits) == "ECE"
    with Place(tmp_path).open() as again:
        assert ids(again) == ["a", "b"]
    assert Place(tmp_path).verify() == 0


def test_after_a_failed_sync_of_a_checkpoint_nothing_is_acknowledged_any_more(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the signer, which nobody waits for."""
    with monkeypatch.context() as patch:
        patch.setattr(log, "SIGN_AFTER_S", 0.01)
        patch.setattr(os, "fdatasync", fail(errno.EIO))
        ledger.append(permitted("a", durable=False))
        until(lambda: ledger._streams[Stream.PERMITS].broken)
    for durable in (True, False):
        with pytest.raises(Unavailable, match="could not be synced"):
            ledger.append(permitted("b", durable=durable))
    with pytest.raises(Unavailable):
        ledger.close()
    with Place(tmp_path).open() as again:
        assert ids(again) == ["a"]
    assert Place(tmp_path).verify() == 0


@pytest.mark.parametrize("durable", [True, False])
def test_a_full_disk_refuses_entries_and_never_the_checkpoint_over_them(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch, *, durable: bool
) -> None:
    refused = []
    with monkeypatch.context() as patch:
        Puts(patch, lambda data, _: not any(data))
        for number in range(2000):
            try:
                ledger.append(permitted(f"x{number}", durable=durable))
            except Unavailable as error:
                assert "could not be written" in str(error)  # noqa: PT017 - of each of them
                refused.append(number)
                if len(refused) == 3:
                    break
        assert len(refused) == 3
        kept = ids(ledger)
        assert len(kept) == refused[0]
        ledger.flush()
        assert kinds(Place(tmp_path).permits) == "E" * len(kept) + "C"
        assert Place(tmp_path).verify() == 0
    ledger.append(permitted("b"))
    assert ids(ledger) == [*kept, "b"]
    ledger.close()


def test_a_checkpoint_that_found_no_room_is_written_once_there_is_and_no_entry_before_it(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry failed in the middle and was cut back, room and all; then another process filled the disk."""
    place = Place(tmp_path)
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        Puts(patch, lambda data, _: bytes(data[:1]) != b"C")
        for durable in (True, False):
            with pytest.raises(Unavailable, match=r"could not be (written|signed): No space left"):
                ledger.append(permitted("b", durable=durable))
            with pytest.raises(Unavailable, match="could not be signed: No space left"):
                ledger.flush()
        assert kinds(place.permits) == "E"
    ledger.flush()
    assert kinds(place.permits) == "EC"
    assert place.verify() == 0
    ledger.append(permitted("c"))
    ledger.close()


def test_what_could_not_be_signed_for_want_of_room_is_tried_again_until_it_is(
    ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = ledger._streams[Stream.PERMITS]
    sign, refusals = stream.sign, [Unavailable("no room")] * 3

    def signing() -> None:
        if refusals:
            raise refusals.pop()
        sign()

    monkeypatch.setattr(log, "SIGN_AFTER_S", 0.01)
    monkeypatch.setattr(stream, "sign", signing)
    ledger.append(permitted("a"))
    until(lambda: not stream.pending)
    assert refusals == []
    ledger.close()


def test_counts_that_a_full_disk_refuses_keep_no_permit_from_being_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, place = Clock(), Place(tmp_path)
    with place.open(clock=clock) as ledger:
        for name in "xy":
            ledger.append(denied(name, fingerprint="same"))
        ledger.append(permitted("a"))
        clock.now += WINDOW_MS
        with monkeypatch.context() as patch:
            Puts(patch, lambda data, _: b'"kind":"repeated"' in bytes(data))
            with pytest.raises(Unavailable, match=r"denials\.log could not be written"):
                ledger.flush()
        assert place.verify() == 0
    assert place.verify() == 0


def test_counts_that_can_never_be_written_wake_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    ledger = Place(tmp_path).open(clock=clock)
    for name in "xy":
        ledger.append(denied(name, fingerprint="same"))
    clock.now += WINDOW_MS
    assert ledger._counts_due() == 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail(errno.EIO))
        with pytest.raises(Unavailable, match=r"denials\.log could not be synced"):
            ledger._streams[Stream.DENIALS].sync()
    assert ledger._counts_due() is None
    with pytest.raises(Unavailable):
        ledger.close()


def test_a_file_that_somebody_else_changed_is_not_signed(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Place(tmp_path).permits
    during_a_sync(monkeypatch, lambda: os.truncate(path, path.stat().st_size + 1))
    ledger.append(permitted("a"))
    with pytest.raises(Unavailable, match="changed by somebody else"):
        ledger.flush()
    assert kinds(path) == "E"
    with pytest.raises(Unavailable):
        ledger.close()


def test_a_removed_file_is_noticed_by_who_signs_where_only_entries_came_that_wait_for_no_disk(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for its name takes longer than asking for its size; an entry that nobody was told is on disk may go."""
    Place(tmp_path).permits.unlink()
    monkeypatch.setattr(log, "SIGN_AFTER_S", 0.01)
    ledger.append(permitted("a", durable=False))
    until(lambda: ledger._streams[Stream.PERMITS].broken)
    for durable in (True, False):
        with pytest.raises(Unavailable, match="changed by somebody else"):
            ledger.append(permitted("b", durable=durable))
    with pytest.raises(Unavailable):
        ledger.close()


# -- room


def written(path: Path) -> bytes:
    """The log without its room. What is sealed may end in a zero too."""
    return path.read_bytes()[: split(path)[1][-1].end]


def spare(path: Path) -> int:
    """Bytes of room behind what was written."""
    room = path.read_bytes()[len(written(path)) :]
    assert not any(room)
    return len(room)


class Puts:
    """Every write, by what it writes; and the errors that some of them meet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Callable[[bytes, int], bool]) -> None:
        self.sizes: list[tuple[str, int]] = []
        self._fails = fails
        self._real = os.pwrite
        monkeypatch.setattr(os, "pwrite", self._put)

    def _put(self, fd: int, data: bytes, at: int) -> int:
        kind = "frames" if any(data) else "room"
        self.sizes.append((kind, len(data)))
        if self._fails(data, at):
            self._real(fd, data[: len(data) // 2], at)  # as a disk does that has half of it left
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._real(fd, data, at)


def state(ledger: FileLedger, stream: Stream = Stream.PERMITS) -> tuple[int, int]:
    """Where it thinks that the log ends, and the file."""
    file = ledger._streams[stream]
    return file._end, file._room


def use_up(ledger: FileLedger) -> None:
    """As if the room of the permits had been written full."""
    file = ledger._streams[Stream.PERMITS]
    file._room = file._end
    os.truncate(file.path, file._end)


@pytest.mark.parametrize("stream", list(Stream))
def test_what_is_written_goes_into_room_that_is_there_already(tmp_path: Path, stream: Stream) -> None:
    path = tmp_path / "ledger" / f"{stream.value}.log"
    with Place(tmp_path).open(quota=Quota(entries=100_000)) as ledger:
        sizes = set()
        for number in range(60):
            ledger.append(permitted(f"p{number}") if stream is Stream.PERMITS else denied(f"d{number}"))
            sizes.add(path.stat().st_size)
            end, room = state(ledger, stream)
            assert (room, spare(path)) == (path.stat().st_size, room - end)
        assert len(sizes) == 1, "one stretch of room for all of them"
        assert end < room <= end + MIN_ROOM


def test_a_log_has_as_much_room_ahead_as_it_is_long_within_bounds(
    ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for least, most in ((MIN_ROOM, MAX_ROOM), (0, MAX_ROOM), (0, 100)):
        monkeypatch.setattr("forestall.adapter.ledger.stream.MIN_ROOM", least)
        monkeypatch.setattr("forestall.adapter.ledger.stream.MAX_ROOM", most)
        use_up(ledger)
        ledger.append(permitted(f"{least} {most}"))
        end, room = state(ledger)
        reserve = ledger._streams[Stream.PERMITS]._reserve
        assert room - end == reserve + min(most, max(least, end + reserve))
    ledger.close()


def test_a_disk_with_no_space_ahead_gives_exactly_what_is_needed(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = ledger._streams[Stream.PERMITS]._reserve
    with monkeypatch.context() as patch:
        puts = Puts(patch, lambda data, _: not any(data) and len(data) > MIN_ROOM)
        for number in range(3):
            use_up(ledger)
            ledger.append(permitted(f"p{number}"))
            end, room = state(ledger)
            assert room == Place(tmp_path).permits.stat().st_size
            assert room - end == reserve
    assert [kind for kind, _ in puts.sizes] == ["room", "room", "frames"] * 3
    needed = [size for kind, size in puts.sizes if kind == "frames"]
    given = [size for kind, size in puts.sizes if kind == "room"][1::2]
    assert given == [size + reserve for size in needed], "as many zeros as bytes, those of the checkpoint included"
    ledger.append(permitted("later"))
    assert state(ledger)[1] - state(ledger)[0] >= MIN_ROOM, "there is room again"
    assert ids(ledger) == ["p0", "p1", "p2", "later"]
    ledger.close()


@pytest.mark.parametrize("stream", list(Stream))
@pytest.mark.parametrize("used", [0, 2])
def test_a_disk_with_no_space_at_all_is_a_clear_denial_and_leaves_no_trace(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch, stream: Stream, used: int
) -> None:
    path = tmp_path / "ledger" / f"{stream.value}.log"
    entry = permitted if stream is Stream.PERMITS else denied
    for number in range(used):
        ledger.append(entry(f"p{number}"))
    before = written(path)
    with monkeypatch.context() as patch:
        Puts(patch, lambda *_: True)
        for number in range(3):
            with pytest.raises(Unavailable, match=f"{path.name} could not be written: .* Nothing was permitted"):
                ledger.append(entry(f"refused{number}"))
            assert path.read_bytes() == before, "neither half a frame nor room"
            assert state(ledger, stream) == (len(before), len(before))
    ledger.append(entry("after"))
    assert ids(ledger, stream) == [*(f"p{number}" for number in range(used)), "after"]
    ledger.close()
    assert spare(path) == 0


def test_frames_that_fail_in_the_middle_of_their_room_leave_no_trace(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Place(tmp_path).permits
    ledger.append(permitted("a"))
    before = written(path)
    with monkeypatch.context() as patch:
        Puts(patch, lambda data, _: any(data))
        with pytest.raises(Unavailable, match="could not be written"):
            ledger.append(permitted("b"))
    assert path.read_bytes() == before
    assert state(ledger) == (len(before), len(before))
    assert ledger.append(permitted("c")).index == 1
    ledger.close()


def test_room_that_cannot_be_cut_back_is_the_end_of_writing(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    use_up(ledger)
    with monkeypatch.context() as patch:
        Puts(patch, lambda *_: True)
        patch.setattr(os, "ftruncate", fail(errno.EIO))
        with pytest.raises(Unavailable, match="could not be written"):
            ledger.append(permitted("b"))
    with pytest.raises(Unavailable, match="holds half a write"):
        ledger.append(permitted("c"))
    with pytest.raises(Unavailable):
        ledger.close()
    with Place(tmp_path).open() as again:
        assert ids(again) == ["a"]


def test_closing_gives_the_room_back(tmp_path: Path, ledger: FileLedger) -> None:
    ledger.append(permitted("a"))
    ledger.append(denied("d"))
    place = Place(tmp_path)
    assert min(spare(place.permits), spare(place.denials)) > 0
    ledger.close()
    assert (spare(place.permits), spare(place.denials)) == (0, 0)
    assert place.verify() == 0


def test_room_that_cannot_be_given_back_says_nothing_of_the_log(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(permitted("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fail(errno.EIO))
        ledger.close()
    place = Place(tmp_path)
    assert spare(place.permits) > 0
    assert place.verify() == 0
    with place.open() as again:
        assert ids(again) == ["a"]
        assert again.repairs == ()


@pytest.mark.parametrize("stream", list(Stream))
def test_a_foreign_hand_in_the_room_is_noticed(tmp_path: Path, ledger: FileLedger, stream: Stream) -> None:
    """By its size, another process's too: room that is gone or grew was not made by this one."""
    path = tmp_path / "ledger" / f"{stream.value}.log"
    entry = permitted if stream is Stream.PERMITS else denied
    ledger.append(entry("a"))
    cut = "import os, sys; os.truncate(sys.argv[1], int(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", cut, str(path), str(state(ledger, stream)[0])], check=True, timeout=60)
    with pytest.raises(Unavailable, match="changed by somebody else"):
        ledger.append(entry("b"))
    with pytest.raises(Unavailable):
        ledger.close()
    assert Place(tmp_path).verify("--live") == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.ledgers import Place, denied, permitted, settled

ledger = Place(Path(sys.argv[1])).open()
for number in range(int(sys.argv[2])):
    name = f"{sys.argv[3]}{number}"
    ledger.append_at_once(permitted(name)) or ledger.append(permitted(name))
    ledger.append(settled(name))
    ledger.append(denied(f"d{name}"))
if sys.argv[4] == "sync":
    os.fdatasync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
    ledger.append_at_once(permitted("never" + sys.argv[3])) or ledger.append(permitted("never" + sys.argv[3]))
    print("released", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("where", ["", "sync"])
def test_after_a_kill_the_room_is_no_damage_and_what_was_acknowledged_is_there(tmp_path: Path, where: str) -> None:
    place, names = Place(tmp_path), []
    place.keys  # noqa: B018 - made before any process looks for them
    for life in "abc":
        command = [sys.executable, "-c", KILLED, str(tmp_path), "5", life, where]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert done.stdout == "", "it was killed in its sync, before it could be released"
        assert min(spare(place.permits), spare(place.denials)) > 0
        assert place.verify("--live") == 0
        names += [f"{life}{number}" for number in range(5)]
        with place.open() as ledger:
            assert ledger.repairs == ()
            found = [one.body["id"] for one in ledger.read(Stream.PERMITS) if one.body["kind"] == "permitted"]
            assert [name for name in found if not name.startswith("never")] == names
            assert ids(ledger, Stream.DENIALS) == [f"d{name}" for name in names]
        assert (spare(place.permits), spare(place.denials)) == (0, 0)
        assert place.verify() == 0


ENDED = """
import os, signal, sys
from pathlib import Path
from forestall.adapter.ledger import log
from tests.ledgers import Place, permitted, settled

log.SIGN_AFTER_S = 1000
ledger = Place(Path(sys.argv[1])).open()
for name in "abc":
    ledger.append(permitted(name))
    print(name, flush=True)
ledger.append(settled("a"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_acknowledged_and_not_signed_when_it_was_killed_is_signed_by_the_next_start(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.keys  # noqa: B018 - made before any process looks for them
    command = [sys.executable, "-c", ENDED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.split() == list("abc")
    assert kinds(place.permits) == "EEEE"
    assert place.verify("--live") == 0
    with place.open() as ledger:
        assert ledger.repairs == ()
        assert ids(ledger) == ["a", "b", "c", "a"]
        assert kinds(place.permits) == "EEEEC"
    assert place.verify() == 0
