"""What every `port.Ledger` has to do, whatever it is made of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.core.entry import Entry, Kind, Stream
from forestall.core.errors import InvalidInput, Unavailable
from forestall.port import Ledger, Position
from forestall.testing.ledger import MemoryLedger
from tests.ledgers import Place, denied, permitted, settled

CALLERS = 16
"""Threads or coroutines that write at a time."""

JOIN_S = 30


@pytest.fixture(params=["files", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    opened: Ledger = Place(tmp_path).open() if request.param == "files" else MemoryLedger()
    yield opened
    opened.close()


def test_an_entry_is_read_back_as_it_was_written(ledger: Ledger) -> None:
    entry = permitted("a")
    assert ledger.append(entry) == Position(Stream.PERMITS, 0)
    (written,) = ledger.read(Stream.PERMITS)
    assert written.position == Position(Stream.PERMITS, 0)
    assert written.body == {
        **entry.body,
        "format": 1,
        "stream": "permits",
        "kind": "permitted",
        "id": "a",
        "at": 1,
        "sealed": True,
    }


def test_positions_count_up_in_each_stream_alone(ledger: Ledger) -> None:
    given = [ledger.append(entry) for entry in (permitted("a"), denied("b"), settled("a"), denied("c"))]
    assert [(at.stream.value, at.index) for at in given] == [
        ("permits", 0),
        ("denials", 0),
        ("permits", 1),
        ("denials", 1),
    ]


def test_reading_starts_where_it_is_told_and_ends_at_the_end(ledger: Ledger) -> None:
    for number in range(600):
        ledger.append(permitted(f"p{number}", durable=False, sealed=number % 3 == 0))
    for start in (0, 1, 255, 256, 257, 599, 600, 9999):
        read = [(one.position.index, one.body["id"]) for one in ledger.read(Stream.PERMITS, start)]
        assert read == [(number, f"p{number}") for number in range(start, 600)]
    assert list(ledger.read(Stream.DENIALS)) == []


def test_what_was_sealed_is_unsealed_at_its_position_alone(ledger: Ledger) -> None:
    entry = permitted("a")
    sealed = ledger.append(entry)
    bare = ledger.append(settled("a"))
    assert ledger.unseal(sealed) == entry.sealed
    assert ledger.unseal(bare) is None
    assert ledger.unseal(Position(Stream.PERMITS, 99)) is None
    assert ledger.unseal(Position(Stream.DENIALS, 0)) is None
    assert ledger.unseal(Position(Stream.DENIALS, -1)) is None


def test_an_empty_payload_is_not_no_payload(ledger: Ledger) -> None:
    position = ledger.append(denied("a", sealed=b""))
    assert ledger.unseal(position) == b""


@pytest.mark.parametrize("durable", [True, False])
def test_async_appends_are_appends(ledger: Ledger, durable: bool) -> None:
    async def write() -> list[Position]:
        entries = [permitted(f"p{number}", durable=durable) for number in range(CALLERS)]
        return await asyncio.gather(*map(ledger.append_async, entries), ledger.append_async(denied("d")))

    positions = asyncio.run(write())
    assert {at.index for at in positions[:-1]} == set(range(CALLERS))
    assert positions[-1] == Position(Stream.DENIALS, 0)
    by_index = {one.position.index: one.body["id"] for one in ledger.read(Stream.PERMITS)}
    assert [by_index[at.index] for at in positions[:-1]] == [f"p{number}" for number in range(CALLERS)]


def test_concurrent_callers_each_get_the_position_of_their_own_entry(ledger: Ledger) -> None:
    positions: dict[str, Position] = {}

    def work(caller: int) -> None:
        for number in range(20):
            name = f"{caller}-{number}"
            positions[name] = ledger.append(permitted(name, durable=number % 2 == 0))

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    assert len(positions) == CALLERS * 20
    read = {one.body["id"]: one.position for one in ledger.read(Stream.PERMITS)}
    assert read == positions


@pytest.mark.parametrize("value", [float("nan"), 2**53, "\ud800", object(), "x" * 70_000])
def test_what_cannot_be_written_is_refused_and_leaves_no_trace(ledger: Ledger, value: Any) -> None:
    with pytest.raises(InvalidInput):
        ledger.append(Entry(Stream.PERMITS, Kind.OPENED, "a", 1, {"task": value}))
    assert ledger.append(permitted("b")).index == 0


async def appended(ledger: Ledger, entry: Entry) -> Position:
    return await ledger.append_async(entry)


def test_a_closed_ledger_acknowledges_nothing(ledger: Ledger) -> None:
    ledger.close()
    ledger.close()
    for durable in (True, False):
        with pytest.raises(Unavailable):
            ledger.append(permitted("a", durable=durable))
        with pytest.raises(Unavailable):
            asyncio.run(appended(ledger, permitted("a", durable=durable)))
