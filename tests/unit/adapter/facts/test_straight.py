from __future__ import annotations

import os
from pathlib import Path

import pytest

from forestall.adapter.facts import straight as module
from forestall.adapter.facts.straight import straight


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def test_a_path_without_links_is_known_at_once(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "file").write_text("x")
    for path in (root, root / "a", root / "a" / "file"):
        status = straight(str(path))
        assert status is not None
        assert (status.st_dev, status.st_ino) == (path.lstat().st_dev, path.lstat().st_ino)
    assert straight("/") is not None


def test_whatever_is_not_said_so_easily_is_not_said(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "file").write_text("x")
    (root / "a" / "link").symlink_to("file")
    (root / "b").symlink_to("a")
    (root / "round").symlink_to("round")
    for path in (
        "a/link",
        "b",
        "b/file",
        "a/../a",
        "a/./file",
        "a//file",
        "a/",
        "nothing",
        "a/file/x",
        "round",
        "a\0b",
    ):
        assert straight(f"{root}/{path}") is None, path
    assert straight("a" * 5000) is None


def test_a_name_like_that_of_a_file_that_is_gone_is_walked(root: Path) -> None:
    (root / "file (deleted)").write_text("x")
    assert straight(f"{root}/file (deleted)") is None


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    assert straight(str(root)) is not None
    monkeypatch.setattr(os, "readlink", lambda _: "/somewhere/else")
    assert straight(str(root)) is None
    monkeypatch.setattr(os, "readlink", lambda _: (_ for _ in ()).throw(OSError(2, "no /proc")))
    assert straight(str(root)) is None
    monkeypatch.undo()
    assert descriptors() == before


def test_without_the_kernels_names_everything_is_walked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NAMES", "")
    assert straight(str(root)) is None
