"""One file: what happens when it cannot be written, or synced, or is not ours alone."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forestall.adapter.ledger.denials import Quota
from forestall.adapter.ledger.log import FileLedger
from forestall.adapter.ledger.stream import MAX_ROOM, MIN_ROOM
from forestall.core.entry import Stream
from forestall.core.errors import Unavailable
from tests.ledgers import Place, denied, ids, permitted, settled

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
        assert "permits.log could not be written" in str(error), error
        refused += 1
        if refused == 5:
            break
assert refused == 5, refused
assert ids(ledger) == acknowledged
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    (place.root / "ballast").unlink()
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
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.append(permitted("a"))
    assert ledger.append(permitted("b")).index == 0
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


def test_what_was_acknowledged_as_durable_is_signed_and_synced(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    write, sync = os.pwrite, os.fdatasync
    monkeypatch.setattr(os, "pwrite", lambda *a: (order.append("write"), write(*a))[1])
    monkeypatch.setattr(os, "fdatasync", lambda fd: (order.append("sync"), sync(fd))[1])
    ledger.append(permitted("a"))
    order.append("acknowledged")
    assert order == ["write", "sync", "acknowledged"]
    assert Place(tmp_path).verify() == 0
    ledger.append(settled("a"))
    ledger.append(denied("d"))
    assert order[3:] == ["write", "write"]
    ledger.flush()
    assert sorted(order[5:]) == ["sync", "sync", "write", "write"]
    assert Place(tmp_path).verify() == 0
    ledger.close()


# -- room


def spare(path: Path) -> int:
    """Bytes of room behind what was written."""
    content = path.read_bytes()
    return len(content) - len(content.rstrip(b"\0"))


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
        assert room - end == min(most, max(least, end))
    ledger.close()


def test_a_disk_with_no_space_ahead_gives_exactly_what_is_needed(
    tmp_path: Path, ledger: FileLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        puts = Puts(patch, lambda data, _: not any(data) and len(data) > MIN_ROOM)
        for number in range(3):
            use_up(ledger)
            ledger.append(permitted(f"p{number}"))
            end, room = state(ledger)
            assert end == room == Place(tmp_path).permits.stat().st_size
    assert [kind for kind, _ in puts.sizes] == ["room", "room", "frames"] * 3
    assert all(puts.sizes[n + 1][1] == puts.sizes[n + 2][1] for n in (0, 3, 6)), "as many zeros as bytes"
    ledger.append(permitted("later"))
    assert state(ledger)[1] - state(ledger)[0] == MIN_ROOM, "there is room again"
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
    before = path.read_bytes().rstrip(b"\0")
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
    before = path.read_bytes().rstrip(b"\0")
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
