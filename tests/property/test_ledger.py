"""Whatever is written and wherever it stops: what was acknowledged survives, and changes are told from the truth."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.adapter.ledger.frames import CHECKPOINT, ROOM, SECTOR, encode
from forestall.core.entry import Entry, Stream
from tests.ledgers import Place, denied, ids, join, overwrite, permitted, settled, split

# What one step appends; "flush" signs what is not, "restart" closes and opens.
STEPS = st.lists(st.sampled_from(["durable", "bare", "read", "settle", "deny", "flush", "restart"]), max_size=25)


@contextmanager
def temporary() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as directory:
        yield Place(Path(directory) / "place")


def entry(step: str, number: int) -> Entry:
    if step == "deny":
        return denied(f"d{number}", sealed=b"x" * number)
    if step == "settle":
        return replace(settled(f"s{number}"), body={"fate": "done", "n": number})
    return permitted(f"p{number}", durable=step != "read", sealed=step != "bare")


def write(place: Place, steps: list[str]) -> tuple[dict[Stream, list[str]], dict[Stream, int]]:
    """Carry the steps out; the ids acknowledged, and how many bytes of each log were synced when the power failed."""
    acknowledged: dict[Stream, list[str]] = {stream: [] for stream in Stream}
    ledger = place.open()
    for number, step in enumerate(steps):
        if step == "flush":
            ledger.flush()
        elif step == "restart":
            ledger.close()
            ledger = place.open()
        else:
            # A settlement needs its permit, or the verifier would rightly refuse.
            if step == "settle":
                ledger.append(permitted(f"s{number}", durable=False))
                acknowledged[Stream.PERMITS].append(f"s{number}")
            given = entry(step, number)
            ledger.append(given)
            acknowledged[given.stream].append(given.id)
    synced = {stream: ledger._streams[stream]._synced for stream in Stream}
    snapshot = {path: path.read_bytes() for path in (place.permits, place.denials)}
    ledger.close()
    for path, content in snapshot.items():
        overwrite(path, content)
    return acknowledged, synced


def cut(path: Path, synced: int, data: st.DataObject) -> None:
    """The file system had not taken the new length in."""
    with path.open("r+b") as file:
        file.truncate(data.draw(st.integers(synced, path.stat().st_size), label=f"{path.name} cut"))


def lose(path: Path, synced: int, data: st.DataObject) -> None:
    """The disk had taken some of the sectors, in no order."""
    content = bytearray(path.read_bytes())
    end = len(content.rstrip(ROOM))
    for sector in range(synced - synced % SECTOR, end, SECTOR):
        if data.draw(st.booleans(), label=f"{path.name} {sector} lost"):
            low, high = max(sector, synced), min(sector + SECTOR, end)
            content[low:high] = bytes(max(0, high - low))
    overwrite(path, content)


@pytest.mark.parametrize("fail", [cut, lose])
@settings(max_examples=80)
@given(steps=STEPS, data=st.data())
def test_what_was_acknowledged_survives_a_power_cut(
    fail: Callable[[Path, int, st.DataObject], None], steps: list[str], data: st.DataObject
) -> None:
    with temporary() as place:
        acknowledged, synced = write(place, steps)
        for stream, path in ((Stream.PERMITS, place.permits), (Stream.DENIALS, place.denials)):
            fail(path, synced[stream], data)
        with place.open() as ledger:
            for stream in Stream:
                kept = ids(ledger, stream)
                assert kept == acknowledged[stream][: len(kept)]
            kept_durable = {one for one in ids(ledger) if one.startswith("p")}
            durable = {f"p{number}" for number, step in enumerate(steps) if step in ("durable", "bare")}
            assert durable <= kept_durable
            ledger.append(permitted("after"))
        assert place.verify("--payload-key", str(place.root / "keys" / "payload.key")) == 0


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_killed_process_loses_nothing_that_was_acknowledged(steps: list[str]) -> None:
    """The page cache survives a process: everything answered is there, in order."""
    with temporary() as place:
        acknowledged, _ = write(place, steps)
        with place.open() as ledger:
            assert {stream: ids(ledger, stream) for stream in Stream} == acknowledged
        assert place.verify() == 0


@settings(max_examples=150, deadline=None)
@given(STEPS, st.data())
def test_the_verifier_accepts_what_was_written_and_refuses_every_change(steps: list[str], data: st.DataObject) -> None:
    with temporary() as place:
        write(place, ["durable", *steps])
        place.open().close()
        key = ("--payload-key", str(place.root / "keys" / "payload.key"))
        assert place.verify(*key) == 0
        path = data.draw(st.sampled_from([place.permits, place.denials]), label="log")
        if change(path, data):
            assert place.verify(*key) in (76, 78)


def change(path: Path, data: st.DataObject) -> bool:
    """Make one change. False where there is none to make, or it takes nothing away from the evidence."""
    head, parts = split(path)
    whole = path.read_bytes()
    what = data.draw(st.sampled_from(["flip", "drop", "double", "swap", "cut"]), label="change")
    first, second = (data.draw(st.integers(0, len(parts) - 1), label="frame") for _ in range(2))
    if what == "flip":
        byte = data.draw(st.integers(0, len(whole) - 1), label="byte")
        bit = data.draw(st.integers(0, 7), label="bit")
        overwrite(path, whole[:byte] + bytes([whole[byte] ^ 1 << bit]) + whole[byte + 1 :])
        return True
    if what == "cut":
        end = data.draw(st.integers(0, len(whole) - 1), label="end")
        overwrite(path, whole[:end])
        # An older signed state: --remembered alone tells.
        return end not in {part.end for part in parts if part.kind == CHECKPOINT}
    if what == "drop":
        # Without a checkpoint in the middle, the next one signs the same entries.
        vital = parts[first].kind != CHECKPOINT or first == len(parts) - 1
        del parts[first]
    elif what == "double":
        vital = True
        parts.insert(first, parts[first])
    else:
        vital = encode(*parts[first][:2]) != encode(*parts[second][:2])
        parts[first], parts[second] = parts[second], parts[first]
    join(path, head, parts)
    return vital


def test_the_changes_are_changes(tmp_path: Path) -> None:
    """A copy that nobody changed is accepted: it is the change that is refused above."""
    place = Place(tmp_path / "place")
    write(place, ["durable", "settle", "deny"])
    place.open().close()
    copy = Place(tmp_path / "copy")
    shutil.copytree(place.root, copy.root)
    head, parts = split(copy.permits)
    join(copy.permits, head, parts)
    assert copy.verify() == 0
