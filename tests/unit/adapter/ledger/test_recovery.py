"""What becomes of a log that was cut, or changed, when it is opened again."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from forestall.adapter.ledger.frames import CHECKPOINT, ENTRY, PAYLOAD, ROOM, SECTOR, encode
from forestall.core.entry import Stream
from forestall.core.errors import Tampered
from tests.ledgers import ORIGIN, Place, denied, ids, join, overwrite, permitted, settled, signed, split

pytestmark = pytest.mark.tampers


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two that were signed, then an entry that was not when the process was killed."""
    place = Place(tmp_path / "whole")
    with place.open() as ledger:
        signed(ledger, permitted("a"), permitted("b"))
        ledger.append(settled("a"))
        ledger.append(denied("d"))
    head, parts = split(place.permits)
    assert b"".join(part.kind for part in parts) == b"CEPCEPCEC"
    join(place.permits, head, parts[:-1])
    return place


def reopen(place: Place) -> list[str]:
    with place.open() as ledger:
        return ids(ledger)


def test_whole_frames_after_the_last_checkpoint_are_kept_and_signed(place: Place) -> None:
    assert place.verify() == 76
    assert reopen(place) == ["a", "b", "a"]
    assert place.verify() == 0


def test_a_torn_tail_is_cut_at_any_byte_and_nothing_acknowledged_is_lost(place: Place, tmp_path: Path) -> None:
    whole = place.permits.read_bytes()
    _, parts = split(place.permits)
    for end in range(parts[-2].end, len(whole)):
        copy = Place(tmp_path / "copy")
        shutil.copytree(place.root, copy.root)
        overwrite(copy.permits, whole[:end])
        assert reopen(copy) == ["a", "b"]
        assert copy.verify() == 0
        shutil.rmtree(copy.root)


def test_a_group_that_lost_any_of_its_sectors_is_cut_and_nothing_before_it_is_lost(
    place: Place, tmp_path: Path
) -> None:
    reopen(place)
    whole = place.permits.read_bytes()
    with place.open() as ledger:
        signed(ledger, permitted("e"))
        content = place.permits.read_bytes()
    start, end = len(whole), len(content.rstrip(ROOM))
    assert len(content) > end
    for sector in range(start - start % SECTOR, end, SECTOR):
        copy = Place(tmp_path / "copy")
        shutil.copytree(place.root, copy.root)
        low, high = max(start, sector), min(end, sector + SECTOR)
        overwrite(copy.permits, content[:low] + bytes(high - low) + content[high:])
        assert reopen(copy)[:3] == ["a", "b", "a"]
        assert copy.verify() == 0
        shutil.rmtree(copy.root)


def test_two_groups_behind_what_seems_torn_were_not_torn(place: Place) -> None:
    with place.open() as ledger:
        signed(ledger, *(permitted(name) for name in "efgh"))
    content = bytearray(place.permits.read_bytes())
    _, parts = split(place.permits)
    start = [part for part in parts if part.kind == ENTRY][-4].start
    content[start : start + SECTOR - start % SECTOR] = bytes(SECTOR - start % SECTOR)
    overwrite(place.permits, content)
    with pytest.raises(Tampered, match=f"byte {start}"):
        place.open()


def test_a_beginning_that_was_wiped_is_not_room(place: Place) -> None:
    reopen(place)
    content = bytearray(place.permits.read_bytes())
    start = [part for part in split(place.permits)[1] if part.kind == ENTRY][-1].start
    content[start] = 0
    overwrite(place.permits, content)
    with pytest.raises(Tampered, match=f"byte {start}: no frame begins here"):
        place.open()


def test_an_entry_whose_payload_was_torn_off_goes_with_it(place: Place) -> None:
    head, parts = split(place.permits)
    join(place.permits, head, parts[:5])
    with place.permits.open("ab") as file:
        file.write(encode(PAYLOAD, parts[5].body)[:-1])
    assert parts[4].kind == ENTRY
    assert reopen(place) == ["a"]
    assert place.verify() == 0


def test_a_torn_header_of_a_new_log_is_written_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.open().close()
    whole = place.denials.read_bytes()
    for end in range(len(whole)):
        overwrite(place.denials, whole[:end])
        place.open().close()
        assert place.verify() == 0


@pytest.mark.parametrize("content", [None, b"", b"forestall-log"])
@pytest.mark.parametrize("stream", list(Stream))
def test_a_stream_that_vanished_is_not_begun_anew(place: Place, stream: Stream, content: bytes | None) -> None:
    path = place.ledger / f"{stream.value}.log"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(Tampered, match=rf"{stream.value}.log is missing or empty"):
        place.open()


def test_every_flipped_bit_in_what_was_signed_is_tampering_or_leaves_all_entries(place: Place, tmp_path: Path) -> None:
    """Where it leaves them: a longer length in the very last checkpoint makes it look torn, and it is signed anew."""
    reopen(place)
    whole = place.permits.read_bytes()
    copy = Place(tmp_path / "copy")
    shutil.copytree(place.root, copy.root)
    tampered = 0
    for byte in range(len(whole)):
        changed = bytearray(whole)
        changed[byte] ^= 1 << (byte % 8)
        overwrite(copy.permits, changed)
        with suppress(Tampered):
            assert reopen(copy) == ["a", "b", "a"]
            continue
        tampered += 1
    assert tampered >= len(whole) - 4


def test_a_length_that_swallows_signed_entries_is_not_a_torn_tail(place: Place) -> None:
    head, parts = split(place.permits)
    changed = bytearray(place.permits.read_bytes())
    changed[parts[1].start + 3] = 0xF0
    overwrite(place.permits, changed)
    with pytest.raises(Tampered, match=f"byte {len(head) + len(encode(CHECKPOINT, parts[0].body))}: a frame announces"):
        place.open()


@pytest.mark.parametrize("drop", [0, 1, 2])
def test_a_removed_frame_is_tampering(place: Place, drop: int) -> None:
    head, parts = split(place.permits)
    del parts[drop]
    join(place.permits, head, parts)
    with pytest.raises(Tampered):
        place.open()


def test_a_last_checkpoint_by_another_key_is_tampering(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other")
    with other.open() as ledger:
        ledger.append(permitted("a"))
        ledger.append(permitted("b"))
    head, forged = split(other.permits)
    join(place.permits, head, forged)
    with pytest.raises(Tampered, match="not signed by"):
        place.open()


def test_the_log_of_another_origin_is_named(place: Place) -> None:
    content = place.permits.read_bytes()
    overwrite(place.permits, content.replace(ORIGIN.encode(), b"example.org/else", 1))
    with pytest.raises(Tampered, match=r"this is the log of example\.org/else/permits"):
        place.open()


def test_an_unsigned_entry_that_is_no_object_is_tampering(place: Place) -> None:
    with place.permits.open("ab") as file:
        file.write(encode(ENTRY, b"[]"))
    with pytest.raises(Tampered, match="not a JSON object"):
        place.open()


def test_what_a_former_process_may_not_have_synced_is_written_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync the page cache looks whole and the disk is not: only writing it again makes it so."""
    _, parts = split(place.permits)
    written: list[tuple[int, int]] = []
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        written.append((offset, len(data)))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    place.open().close()
    start, end = parts[3].end, parts[-1].end  # that checkpoint was on disk before the next was written
    assert (start, end - start) in written
