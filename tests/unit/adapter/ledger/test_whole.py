"""A file that we write is still as we left it, or it is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forestall.adapter.ledger import whole
from forestall.adapter.ledger.whole import is_whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "permits.log"
    path.write_bytes(b"12345")
    return path


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture(params=[whole._NAMES, "/nowhere"], ids=["by name", "without /proc"], autouse=True)
def names(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "_NAMES", request.param)


def test_a_file_that_nobody_touched_is_whole_of_its_size_alone(fd: int) -> None:
    assert [size for size in range(10) if is_whole(fd, size)] == [5]


def _renamed(path: Path) -> None:
    path.rename(path.with_name("moved"))


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"12345")
    other.rename(path)


@pytest.mark.parametrize(
    ("change", "stays"),
    [(Path.unlink, False), (_replaced, False), (_renamed, True)],
    ids=["removed", "replaced", "moved"],
)
def test_a_file_without_a_name_is_not_whole(
    path: Path, fd: int, change: Callable[[Path], None], *, stays: bool
) -> None:
    change(path)
    assert is_whole(fd, 5) is stays


def test_a_file_of_another_size_is_not_whole(path: Path, fd: int) -> None:
    os.truncate(path, 4)
    assert not is_whole(fd, 5)


def test_a_descriptor_that_is_closed_says_so(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        is_whole(fd, 5)
