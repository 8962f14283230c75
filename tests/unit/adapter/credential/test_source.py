"""Where standing secrets are read, and each way in which they cannot be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from forestall.adapter.credential.source import MAX_SECRET, CommandSource, FileSource, VariableSource, output_of
from forestall.core.ask import CannotDo
from forestall.core.reason import Reason

SECRET = "correct horse battery staple"


def refused(source: FileSource | VariableSource | CommandSource, sentence: str) -> None:
    with pytest.raises(CannotDo, match=sentence) as caught:
        source.read()
    assert caught.value.reason is Reason.UNAVAILABLE
    assert SECRET not in str(caught.value)


def secret_file(tmp_path: Path, content: bytes, mode: int = 0o600) -> FileSource:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return FileSource(path)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_is_read_each_time_without_its_last_end_of_line(tmp_path: Path, end: str) -> None:
    source = secret_file(tmp_path, f"{SECRET}{end}".encode())
    assert source.read() == SECRET
    source.path.write_text("another\none\n")
    assert source.read() == "another\none"


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        (SECRET.encode(), 0o640, "Others can read .*; run `chmod 600"),
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"a\0b", 0o600, "zero byte"),
        (b"\xff", 0o600, "no UTF-8"),
        (b"x" * (MAX_SECRET + 1), 0o600, "which is no secret"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes, mode: int, sentence: str) -> None:
    refused(secret_file(tmp_path, content, mode), sentence)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    refused(FileSource(tmp_path / "missing"), "cannot be read: No such file")
    refused(FileSource(tmp_path), "Is a directory")
    os.mkfifo(tmp_path / "fifo")
    refused(FileSource(tmp_path / "fifo"), "is no file")


def test_a_variable_is_that_of_the_decision_point(tmp_path: Path) -> None:
    assert VariableSource("KEY", {"KEY": SECRET}).read() == SECRET
    refused(VariableSource("KEY", {}), "without the variable KEY")
    refused(VariableSource("KEY", {"KEY": ""}), "the variable KEY is empty")


def command(text: str, timeout_s: float = 30) -> CommandSource:
    return CommandSource((sys.executable, "-c", text), timeout_s, output_of)


def test_a_program_writes_the_secret() -> None:
    assert command(f"print({SECRET!r})").read() == SECRET


def test_a_program_that_fails_is_refused_without_what_it_wrote() -> None:
    refused(command(f"print({SECRET!r}); raise SystemExit(3)"), "failed with the exit code 3")
    refused(CommandSource(("/does/not/exist",), 1, output_of), "cannot be started: No such file")
    refused(command("pass"), "is empty")
    refused(command(f"print('x' * {MAX_SECRET * 3})"), "which is no secret")


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    words = ("/bin/sh", "-c", f"exec 3>{fifo}; echo alive >&3; sleep 600 & wait")
    refused(CommandSource(words, 1, output_of), "did not answer within 1 s")
    os.set_blocking(reader, True)
    with open(reader, "rb") as alive:  # noqa: PTH123 - a descriptor; at its end once nobody holds the other
        assert alive.read() == b"alive\n"
