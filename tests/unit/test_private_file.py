"""A secret is read from a file that its owner alone can read, and from no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forestall.core.errors import SetupError
from forestall.private_file import read_private_file


def written(folder: Path, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_text("hunter2-hunter2")
    path.chmod(mode)
    return path


def test_it_is_read_up_to_one_byte_more_than_it_may_have(tmp_path: Path) -> None:
    assert read_private_file(written(tmp_path), max_bytes=100) == b"hunter2-hunter2"
    assert read_private_file(written(tmp_path), max_bytes=4) == b"hunte"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_one_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SetupError, match=r"Others can read .*; run `chmod 600") as caught:
        read_private_file(written(tmp_path, mode), max_bytes=100)
    assert "hunter2" not in str(caught.value)


def test_one_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    if os.geteuid() == 0:
        os.chown(path, 65_534, -1)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(SetupError, match="belongs to another user"):
        read_private_file(path, max_bytes=100)


def test_what_is_missing_or_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        read_private_file(tmp_path / "none", max_bytes=100)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SetupError, match="is no file"):
        read_private_file(tmp_path / "pipe", max_bytes=100)
