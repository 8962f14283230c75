from __future__ import annotations

import os
from pathlib import Path

import pytest

from forestall.adapter.ledger.frames import (
    CHECKPOINT,
    ENTRY,
    LIMITS,
    PAYLOAD,
    SECTOR,
    encode,
    frames,
    header,
    read_header,
    written_end,
)
from forestall.core.errors import Tampered

HEADER = header("example.org/test/permits")


def read(path: Path, content: bytes) -> list[tuple[bytes, bytes]]:
    path.write_bytes(HEADER + content)
    fd = os.open(path, os.O_RDONLY)
    try:
        return [(one.kind, one.body) for one in frames(fd, len(HEADER), len(HEADER) + len(content), path)]
    finally:
        os.close(fd)


def head(path: Path, content: bytes) -> tuple[str, int] | None:
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_header(fd, path)
    finally:
        os.close(fd)


def test_the_layout_is_the_one_that_is_documented() -> None:
    assert encode(ENTRY, b"{}").hex() == "45" + "00000002" + "5844fee1" + "7b7d"
    assert HEADER == b"forestall-log 1 example.org/test/permits\n"


def test_frames_are_read_back_also_beyond_a_block(tmp_path: Path) -> None:
    bodies = [(ENTRY, b"{}"), (PAYLOAD, b"p" * 1_000_000), (CHECKPOINT, b"c"), (ENTRY, b""), (ENTRY, b"x" * 65_535)]
    many = [(ENTRY, bytes([number % 256]) * 777) for number in range(2000)]
    assert read(tmp_path / "log", b"".join(encode(*one) for one in bodies + many)) == bodies + many


@pytest.mark.parametrize("cut", [1, 5, 8, 9, 10])
def test_an_incomplete_last_frame_is_not_yielded(tmp_path: Path, cut: int) -> None:
    assert read(tmp_path / "log", encode(ENTRY, b"{}") + encode(ENTRY, b"[]")[:cut]) == [(ENTRY, b"{}")]


@pytest.mark.parametrize("place", range(11))
def test_a_changed_byte_is_found_and_named(tmp_path: Path, place: int) -> None:
    first = encode(ENTRY, b"[]")
    second = bytearray(encode(ENTRY, b"{}"))
    second[place] ^= 0x80
    with pytest.raises(Tampered, match=f"byte {len(HEADER) + len(first)}:"):
        read(tmp_path / "log", first + bytes(second) + encode(ENTRY, b"x" * 60_000))


@pytest.mark.parametrize("kind", [ENTRY, PAYLOAD, CHECKPOINT])
def test_a_frame_beyond_its_limit_is_refused_before_it_is_read(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(Tampered, match="no frame begins here"):
        read(tmp_path / "log", kind + (LIMITS[kind] + 1).to_bytes(4, "big") + b"0000")


def test_the_header_names_the_origin(tmp_path: Path) -> None:
    assert head(tmp_path / "log", HEADER + b"E") == ("example.org/test/permits", len(HEADER))


@pytest.mark.parametrize("length", range(len(HEADER)))
def test_a_header_that_was_cut_is_known_as_such(tmp_path: Path, length: int) -> None:
    assert head(tmp_path / "log", HEADER[:length]) is None


@pytest.mark.parametrize(
    "content", [b"\n", b"hello\n", b"forestall-log 2 a\n", b"forestall-log 1 \xff\n", b"x", b"forestall-log 1 " * 99]
)
def test_another_file_is_not_a_log(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Tampered, match="byte 0"):
        head(tmp_path / "log", content)


@pytest.mark.parametrize("zeros", [1, 8, 9, 600, 300_000])
def test_room_ends_a_log(tmp_path: Path, zeros: int) -> None:
    assert read(tmp_path / "log", encode(ENTRY, b"{}") + bytes(zeros)) == [(ENTRY, b"{}")]


@pytest.mark.parametrize("written", [1, 5, 9, 10, 700])
def test_a_frame_that_is_being_written_into_room_is_not_yielded(tmp_path: Path, written: int) -> None:
    frame = encode(ENTRY, b"x" * 1000)
    assert read(tmp_path / "log", encode(ENTRY, b"{}") + frame[:written] + bytes(5000)) == [(ENTRY, b"{}")]


def test_a_frame_that_lost_a_sector_ends_a_log(tmp_path: Path) -> None:
    frame = encode(ENTRY, b"x" * 3 * SECTOR)
    start = SECTOR - len(HEADER) % SECTOR
    torn = frame[:start] + bytes(SECTOR) + frame[start + SECTOR :]
    assert read(tmp_path / "log", torn + encode(ENTRY, b"{}")) == []
    shifted = frame[: start + 1] + bytes(SECTOR - 2) + frame[start + SECTOR - 1 :]
    with pytest.raises(Tampered, match="does not match its check"):
        read(tmp_path / "log", shifted + encode(ENTRY, b"{}"))


@pytest.mark.parametrize(
    ("content", "end"), [(b"", 0), (bytes(9), 0), (b"a" + bytes(400_000), 1), (bytes(9) + b"b", 10)]
)
def test_where_room_begins(tmp_path: Path, content: bytes, end: int) -> None:
    (tmp_path / "log").write_bytes(content)
    fd = os.open(tmp_path / "log", os.O_RDONLY)
    try:
        assert written_end(fd, 0, len(content)) == end
    finally:
        os.close(fd)
