"""One digest a file, for as long as nobody can have written to it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forestall.adapter.attest.digest import CHUNK, MAX_REMEMBERED, SETTLED_NS, Digests, Unread
from forestall.adapter.attest.value import Unknown
from tests.unit.adapter.attest.peers import GIB, Steps

ROOT = Path(__file__).parents[4]


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH)
    yield descriptor
    os.close(descriptor)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digests(clock_ms: Callable[[], int] = lambda: 0, *, later_ns: int = SETTLED_NS * 2, path: Path) -> Digests:
    """At a time of day that long after the file was last written."""
    return Digests(max_bytes=GIB, clock_ms=clock_ms, wall_ns=lambda: path.stat().st_ctime_ns + later_ns)


def overwrite(path: Path, content: bytes) -> None:
    """Until the file system's clock has ticked, and shows it."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "program"
    made.write_bytes(b"one")
    return made


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_it_is_of_the_whole_file(path: Path, size: int) -> None:
    content = os.urandom(size)
    path.write_bytes(content)
    with opened(path) as descriptor:
        assert digests(path=path).of(descriptor, 1) == sha256(content)


def test_it_is_of_the_open_file_and_not_of_what_is_at_its_path(path: Path, tmp_path: Path) -> None:
    with opened(path) as descriptor:
        path.rename(tmp_path / "moved")
        path.write_bytes(b"trusted")
        assert digests(path=path).of(descriptor, 1) == sha256(b"one")


def test_a_file_that_has_settled_is_read_once(path: Path) -> None:
    clock = Steps(-1, lambda: None)
    remembering = digests(clock, path=path)
    with opened(path) as descriptor:
        assert [remembering.of(descriptor, 1) for _ in range(3)] == [sha256(b"one")] * 3
    assert clock.count == 1


def test_a_file_that_was_written_just_now_is_read_each_time(path: Path) -> None:
    clock = Steps(-1, lambda: None)
    forgetting = digests(clock, later_ns=SETTLED_NS, path=path)
    with opened(path) as descriptor:
        assert [forgetting.of(descriptor, 1) for _ in range(3)] == [sha256(b"one")] * 3
    assert clock.count == 3


def test_a_file_that_was_written_since_is_read_again_although_its_dates_were_put_back(path: Path) -> None:
    remembering = digests(path=path)
    with opened(path) as descriptor:
        before = path.stat()
        assert remembering.of(descriptor, 1) == sha256(b"one")
        overwrite(path, b"two")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert remembering.of(descriptor, 1) == sha256(b"two")


@pytest.mark.parametrize("size", [CHUNK, 2 * CHUNK, 2 * CHUNK + 1])
def test_a_file_that_changes_while_it_is_read_has_none(path: Path, size: int) -> None:
    path.write_bytes(b"x" * (2 * CHUNK))
    clock = Steps(1, lambda: overwrite(path, b"y" * size))
    with opened(path) as descriptor, pytest.raises(Unread) as error:
        digests(clock, path=path).of(descriptor, 1)
    assert error.value.why is Unknown.CHANGED


def test_a_file_that_takes_too_long_has_none_and_is_left_in_the_middle(path: Path) -> None:
    path.write_bytes(b"x" * (5 * CHUNK))
    readings = iter([0, 9, 10])
    with opened(path) as descriptor, pytest.raises(Unread) as error:
        digests(lambda: next(readings), path=path).of(descriptor, 10)
    assert error.value.why is Unknown.TOO_SLOW
    assert list(readings) == []


def test_a_file_that_is_too_large_is_not_read(path: Path) -> None:
    def fail() -> int:
        raise AssertionError("it was read")

    limited = Digests(max_bytes=2, clock_ms=fail, wall_ns=lambda: 0)
    with opened(path) as descriptor, pytest.raises(Unread) as error:
        limited.of(descriptor, 1)
    assert error.value.why is Unknown.TOO_LARGE


def test_what_is_no_file_has_none(tmp_path: Path) -> None:
    with opened(tmp_path) as descriptor, pytest.raises(Unread) as error:
        digests(path=tmp_path).of(descriptor, 1)
    assert error.value.why is Unknown.HIDDEN


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(MAX_REMEMBERED + 1)]
    for number, one in enumerate(paths):
        one.write_bytes(str(number).encode())
    clock = Steps(-1, lambda: None)
    remembering = digests(clock, path=paths[-1])
    for one in paths:
        with opened(one) as descriptor:
            remembering.of(descriptor, 1)
    assert clock.count == MAX_REMEMBERED + 1
    for one, again in ((paths[-1], 0), (paths[0], 1)):
        clock.count = 0
        with opened(one) as descriptor:
            remembering.of(descriptor, 1)
        assert clock.count == again


HIDDEN = """
import os, sys
from contextlib import suppress
from tests.unit.adapter.attest.test_digest import Digests, Unread
with suppress(PermissionError):  # whoever may not change it is bound already
    os.setuid(65534)
try:
    Digests(max_bytes=100, clock_ms=lambda: 0, wall_ns=lambda: 0).of(os.open(sys.argv[1], os.O_PATH), 1)
except Unread as error:
    print(error)
"""


def test_a_file_that_may_be_run_and_not_read_has_none() -> None:
    """As a user whom permissions bind."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "program"
        path.write_bytes(b"one")
        path.chmod(0o111)
        command = [sys.executable, "-c", HIDDEN, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "hidden\n"
