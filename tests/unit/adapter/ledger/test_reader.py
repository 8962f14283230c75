from __future__ import annotations

import os
from pathlib import Path

import pytest

from forestall.adapter.ledger.reader import LogReader
from forestall.core.entry import Stream
from forestall.core.errors import SetupError, Tampered
from forestall.port import Position
from tests.ledgers import Place, denied, overwrite, permitted, settled, split


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_reads_what_another_writes_without_its_lock(place: Place) -> None:
    with place.open() as ledger:
        reader = LogReader(place.ledger, place.keys.sealer)
        cursor = reader.cursor(Stream.PERMITS)
        assert list(cursor.new()) == []
        for name in "abc":
            ledger.append(permitted(name))
            assert [one.body["id"] for one in cursor.new()] == [name]
        ledger.append(settled("a"))
        assert [one.position.index for one in cursor.new()] == [3]
        assert list(cursor.new()) == []
        assert [one.body["id"] for one in reader.read(Stream.PERMITS, 2)] == ["c", "a"]
        assert reader.unseal(Position(Stream.PERMITS, 1)) == permitted("b").sealed
        assert reader.unseal(Position(Stream.PERMITS, 3)) is None


def test_a_cursor_that_was_left_goes_on_where_it_was(place: Place) -> None:
    with place.open() as ledger:
        for name in "abc":
            ledger.append(permitted(name))
        cursor = LogReader(place.ledger).cursor(Stream.PERMITS)
        assert next(cursor.new()).body["id"] == "a"
        assert [one.body["id"] for one in cursor.new()] == ["b", "c"]


def test_it_finds_every_entry_of_an_id_and_the_counts_that_name_it(place: Place) -> None:
    with place.open() as ledger:
        for entry in (permitted("a"), permitted("b"), settled("a"), denied("d", fingerprint="same")):
            ledger.append(entry)
        ledger.append(denied("e", fingerprint="same"))
    reader = LogReader(place.ledger)
    assert [one.body["kind"] for one in reader.find("a")] == ["permitted", "settled"]
    assert [one.body["kind"] for one in reader.find("e")] == ["repeated"]
    assert [one.body["kind"] for one in reader.find("d")] == ["denied", "repeated"]
    assert reader.find("t1") == []


def test_a_half_written_end_is_not_there_yet(place: Place) -> None:
    with place.open() as ledger:
        ledger.append(permitted("a"))
        ledger.append(permitted("b"))
    whole = place.permits.read_bytes()
    _, parts = split(place.permits)
    cursor = LogReader(place.ledger).cursor(Stream.PERMITS)
    seen = []
    for end in range(len(whole) + 1):
        overwrite(place.permits, whole[:end])
        if end >= parts[0].start:
            seen += [one.body["id"] for one in cursor.new()]
    assert seen == ["a", "b"]


@pytest.mark.tampers
def test_a_damaged_log_is_said_to_be_with_its_byte(place: Place) -> None:
    with place.open() as ledger:
        ledger.append(permitted("a"))
    content = bytearray(place.permits.read_bytes())
    start = split(place.permits)[1][1].start
    content[start + 20] ^= 1
    overwrite(place.permits, content)
    with pytest.raises(Tampered, match=f"byte {start}"):
        list(LogReader(place.ledger).read(Stream.PERMITS))


def test_what_is_not_there_is_said(place: Place) -> None:
    reader = LogReader(place.ledger)
    assert not reader.begun(Stream.PERMITS)
    with pytest.raises(SetupError, match="nothing was recorded yet"):
        list(reader.read(Stream.PERMITS))
    place.open().close()
    assert reader.begun(Stream.PERMITS)
    for read in (reader.leaf, LogReader(place.ledger, place.keys.sealer).unseal):
        with pytest.raises(SetupError, match="There is no entry 0 in permits"):
            read(Position(Stream.PERMITS, 0))
    with pytest.raises(SetupError, match="payload key"):
        reader.unseal(Position(Stream.PERMITS, 0))


def test_a_frame_that_was_read_while_it_was_written_is_not_there_yet_whatever_of_it_was_seen(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look at the end of the file sees part of a group, every later one all of it, and of the next."""
    real = os.pread
    with place.open() as ledger:
        ledger.append(permitted("a"))
        start = len(place.permits.read_bytes().rstrip(b"\0"))
        ledger.append(permitted("b"))
        first = place.permits.read_bytes()
        ledger.append(permitted("c"))
        for seen in range(start, len(first.rstrip(b"\0")) + 1):
            torn = [first[:seen] + bytes(len(first) - seen)]

            def pread(fd: int, size: int, at: int, torn: list[bytes] = torn) -> bytes:
                return torn.pop()[at : at + size] if torn and at and at + size > start else real(fd, size, at)

            with monkeypatch.context() as patch:
                patch.setattr(os, "pread", pread)
                assert [one.body["id"] for one in LogReader(place.ledger).read(Stream.PERMITS)][:1] == ["a"]
