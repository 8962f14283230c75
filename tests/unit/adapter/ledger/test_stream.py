"""One file: what happens when it cannot be written, or synced, or is not ours alone."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forestall.adapter.ledger.log import FileLedger
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
