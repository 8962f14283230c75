"""The file ledger beyond its contract: one writer, signing soon, denials."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from forestall.adapter.ledger import log
from forestall.adapter.ledger.denials import WINDOW_MS, Quota
from forestall.adapter.ledger.reader import LogReader
from forestall.core.entry import Entry, Kind, Stream
from forestall.core.errors import Tampered, Unavailable
from forestall.port import Position
from tests.ledgers import Clock, Place, denied, ids, join, permitted, split
from tests.unit.adapter.ledger.test_commit import until

ROOT = Path(__file__).parents[4]

HOLD = """
import sys
from pathlib import Path
from tests.ledgers import Place
ledger = Place(Path(sys.argv[1])).open()
print("open", flush=True)
sys.stdin.read()
"""


def held() -> tuple[set[str], int]:
    """Descriptors and threads of this process."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}, threading.active_count()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_ledger_has_one_writer_in_a_process(place: Place) -> None:
    with place.open(), pytest.raises(Unavailable, match="in use by another process"):
        place.open()
    place.open().close()


def test_a_ledger_has_one_writer_on_a_machine(place: Place) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place.root)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            with pytest.raises(Unavailable, match="in use by another process"):
                place.open()
        finally:
            holder.kill()
            holder.wait(30)
    place.open().close()


@pytest.mark.tampers
def test_a_refused_ledger_leaves_nothing_open(place: Place) -> None:
    place.open().close()
    place.permits.write_bytes(b"something else\n")
    before = held()
    for _ in range(3):
        with pytest.raises(Tampered):
            place.open()
    assert held() == before


def test_closing_ends_its_threads_and_files(place: Place) -> None:
    before = held()
    ledger = place.open()
    ledger.append(permitted("a"))
    list(ledger.read(Stream.PERMITS))
    ledger.unseal(Position(Stream.PERMITS, 0))
    ledger.close()
    assert held() == before


def test_a_new_ledger_verifies_before_anything_is_written(place: Place) -> None:
    place.open().close()
    assert place.verify() == 0


def test_a_directory_that_cannot_be_is_unavailable(place: Place) -> None:
    place.keys  # noqa: B018 - made before the ledger is
    place.ledger.write_text("a file")
    with pytest.raises(Unavailable, match="cannot be used"):
        place.open()


def test_entries_are_signed_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SIGN_AFTER_S", 0.01)
    with place.open() as ledger:
        ledger.append(permitted("a"))
        ledger.append(permitted("b", durable=False))
        ledger.append(denied("d"))
        until(lambda: split(place.permits)[1][-1].kind == b"C" and split(place.denials)[1][-1].kind == b"C")
        assert place.verify() == 0


def test_closing_signs_the_last_entries(place: Place) -> None:
    ledger = place.open()
    ledger.append(permitted("x", durable=False))
    ledger.append(denied("d"))
    assert place.verify() == 76
    ledger.close()
    assert split(place.permits)[1][-1].kind == b"C"
    assert split(place.denials)[1][-1].kind == b"C"


def test_nothing_is_signed_twice(place: Place) -> None:
    with place.open() as ledger:
        ledger.append(permitted("a"))
        ledger.flush()
        ledger.flush()
    place.open().close()
    assert b"".join(part.kind for part in split(place.permits)[1]) == b"CEPC"


def test_a_repeated_denial_stands_where_its_first_stands_and_is_counted(place: Place) -> None:
    clock = Clock()
    with place.open(clock=clock) as ledger:
        ledger.append(denied("x"))
        first = ledger.append(denied("a", fingerprint="same", sealed=b"arguments"))
        assert ledger.append(denied("b", fingerprint="same", sealed=b"arguments")) == first
        assert ledger.unseal(first) == b"arguments"
        clock.now += WINDOW_MS
        ledger.flush()
        assert [(one.body["kind"], one.body["id"]) for one in ledger.read(Stream.DENIALS)] == [
            ("denied", "x"),
            ("denied", "a"),
            ("repeated", "a"),
        ]
    assert place.verify() == 0


def test_a_flood_of_denials_is_counted_and_fits_its_quota(place: Place) -> None:
    with place.open(quota=Quota(entries=10)) as ledger:
        positions = [ledger.append(denied(str(number), fingerprint=str(number))) for number in range(1000)]
        assert {at.index for at in positions} == {*range(10), -1}
        assert ledger.unseal(positions[-1]) is None
    with place.open() as ledger:
        assert ids(ledger, Stream.DENIALS)[10:] == ["suppressed-1000000"]
        assert list(ledger.read(Stream.DENIALS))[-1].body["count"] == 990
    assert place.verify() == 0


def test_permits_do_not_suffer_from_a_flood_of_denials(place: Place) -> None:
    with place.open(quota=Quota(entries=0)) as ledger:
        ledger.append(denied("d"))
        assert ledger.append(permitted("a")).index == 0


def test_the_arguments_of_a_denial_are_kept_only_up_to_a_size(place: Place) -> None:
    with place.open() as ledger:
        kept = ledger.append(denied("a", sealed=b"x" * log.MAX_DENIED_PAYLOAD))
        dropped = ledger.append(denied("b", sealed=b"x" * (log.MAX_DENIED_PAYLOAD + 1)))
        assert len(ledger.unseal(kept) or b"") == log.MAX_DENIED_PAYLOAD
        assert ledger.unseal(dropped) is None
    assert place.verify() == 0


def test_counts_are_written_when_the_ledger_closes(place: Place) -> None:
    with place.open() as ledger:
        for name in "abc":
            ledger.append(denied(name, fingerprint="same"))
    with place.open() as ledger:
        assert ids(ledger, Stream.DENIALS) == ["a", "a"]


@pytest.mark.parametrize("waits", [True, False])
def test_what_asks_to_be_durable_is_so_among_denials_too(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    synced: list[bytes] = []
    sync = os.fdatasync
    entry = Entry(Stream.DENIALS, Kind.QUARANTINED, "q", 1, {"tool": "git/push"}, durable=True)

    async def append() -> None:
        await ledger.append_async(entry)

    with place.open() as ledger:
        monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(split(place.denials)[1][-1].kind), sync(fd))[1])
        if waits:
            ledger.append(entry)
        else:
            asyncio.run(append())
        assert synced == [b"E"]


def test_an_erased_payload_is_none(place: Place) -> None:
    with place.open() as ledger:
        ledger.append(permitted("a"))
    head, parts = split(place.permits)
    erased = parts[2]._replace(body=parts[2].body[:12] + bytes(len(parts[2].body) - 12))
    join(place.permits, head, [*parts[:2], erased, *parts[3:]])
    with place.open() as ledger:
        assert ledger.unseal(Position(Stream.PERMITS, 0)) is None
    assert place.verify() == 0


def test_a_payload_of_another_entry_does_not_open(place: Place) -> None:
    with place.open() as ledger:
        ledger.append(permitted("a"))
        ledger.append(permitted("b"))
    head, parts = split(place.permits)
    parts[2], parts[4] = parts[4], parts[2]
    join(place.permits, head, parts)
    with place.open() as ledger, pytest.raises(Tampered, match="does not open"):
        ledger.unseal(Position(Stream.PERMITS, 0))


WRITE = """
import sys
from pathlib import Path
from tests.ledgers import Place, denied, permitted, settled

ledger = Place(Path(sys.argv[1])).open()
print("open", flush=True)
for number in range(int(sys.argv[2])):
    entry = permitted(f"p{number}", durable=number % 4 == 0)
    ledger.append_at_once(entry) or ledger.append(entry)
    ledger.append(settled(f"p{number}"))
    ledger.append(denied(f"d{number}", fingerprint=f"d{number}"))
ledger.close()
"""


def test_who_reads_while_another_process_writes_sees_every_entry_in_order_and_no_damage(place: Place) -> None:
    place.keys  # noqa: B018 - made before any process looks for them
    count = 1500
    command = [sys.executable, "-c", WRITE, str(place.root), str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        reader = LogReader(place.ledger)
        cursors = {stream: reader.cursor(stream) for stream in Stream}
        followed: dict[Stream, list[str]] = {stream: [] for stream in Stream}
        ended = False
        while not ended:
            ended = writer.poll() is not None
            for stream, cursor in cursors.items():
                followed[stream] += [one.body["id"] for one in cursor.new()]
                seen = [one.body["id"] for one in reader.read(stream, len(followed[stream]) // 2)]
                assert len(seen) >= len(followed[stream]) - len(followed[stream]) // 2
            assert place.verify("--live") == 0
        assert writer.returncode == 0
    permits = [name for number in range(count) for name in [f"p{number}"] * 2]
    assert followed[Stream.PERMITS] == permits
    with place.open() as ledger:
        assert ids(ledger, Stream.DENIALS) == followed[Stream.DENIALS]
    assert place.verify() == 0
