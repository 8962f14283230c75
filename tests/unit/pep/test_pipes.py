"""Lines over descriptors."""

from __future__ import annotations

import asyncio
import os
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from forestall.pep.mcp.pipes import ENDS, Lines, Sink, Source, TooLong


@given(st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"\n", b"")), max_size=20), st.integers(1, 30))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], size: int) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    reader = Lines(1000)
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [line for chunk in chunks for line in reader.feed(chunk)] == lines
    assert not reader.unfinished


@given(st.integers(0, 3000), st.integers(1, 700))
def test_a_line_beyond_the_limit_keeps_its_ends_alone(length: int, size: int) -> None:
    reader = Lines(1000)
    line = (b"0123456789" * 300)[:length]
    stream = line + b"\nnext\n"
    found = [got for at in range(0, len(stream), size) for got in reader.feed(stream[at : at + size])]
    assert found[1] == b"next"
    if length <= 1000:
        assert found[0] == line
    else:
        assert isinstance(found[0], TooLong)
        assert found[0].ends[:ENDS] == line[:ENDS]
        assert found[0].ends[-ENDS:] == line[-ENDS:]
        assert len(found[0].ends) <= 2 * ENDS


def test_a_line_without_its_end_is_not_a_line() -> None:
    reader = Lines(1000)
    assert list(reader.feed(b"half")) == []
    assert reader.unfinished


def test_a_slow_reader_gets_everything_in_order_and_the_end() -> None:
    async def scenario() -> tuple[bytes, int]:
        read_end, write_end = os.pipe()
        roomy = asyncio.Event()
        sink = Sink(write_end, roomy.set, lambda: None)
        for number in range(100):
            sink.write(b"%08d" % number * 1000)
        most = sink.waiting
        sink.close()
        got, ended = bytearray(), asyncio.Event()
        source = Source(read_end, got.extend, ended.set)
        source.pause(False)
        await asyncio.wait_for(ended.wait(), 60)
        await asyncio.wait_for(roomy.wait(), 60)
        os.close(read_end)
        return bytes(got), most

    got, most = asyncio.run(scenario())
    assert got == b"".join(b"%08d" % number * 1000 for number in range(100))
    assert most > 0


def test_a_reader_that_left_is_noticed_and_nothing_is_kept() -> None:
    async def scenario() -> int:
        read_end, write_end = os.pipe()
        os.close(read_end)
        broken = asyncio.Event()
        sink = Sink(write_end, lambda: None, broken.set)
        sink.write(b"x")
        await asyncio.wait_for(broken.wait(), 60)
        sink.write(b"y" * 1000)
        os.close(write_end)
        return sink.waiting

    assert asyncio.run(scenario()) == 0


def test_a_paused_source_reads_nothing() -> None:
    async def scenario() -> list[bytes]:
        read_end, write_end = os.pipe()
        got: list[bytes] = []
        arrived = asyncio.Event()
        source = Source(read_end, lambda chunk: (got.append(chunk), arrived.set()), lambda: None)
        os.write(write_end, b"x")
        source.pause(False)
        source.pause(True)
        await asyncio.sleep(0)
        before = list(got)
        source.pause(False)
        await asyncio.wait_for(arrived.wait(), 60)
        source.end()
        os.close(read_end)
        os.close(write_end)
        return before

    assert asyncio.run(scenario()) == []


def test_a_regular_file_is_read_to_its_end() -> None:
    async def scenario() -> bytes:
        with tempfile.TemporaryFile() as file:
            file.write(b"abc\n" * 200_000)
            file.seek(0)
            got, ended = bytearray(), asyncio.Event()
            Source(file.fileno(), got.extend, ended.set).pause(False)
            await asyncio.wait_for(ended.wait(), 60)
            return bytes(got)

    assert asyncio.run(scenario()) == b"abc\n" * 200_000


def test_what_was_not_taken_can_be_thrown_away_and_a_line_that_was_begun_ends() -> None:
    async def scenario() -> bytes:
        read_end, write_end = os.pipe()
        sink = Sink(write_end, lambda: None, lambda: None)
        sink.write(b"a" * 1_000_000 + b"\n")
        sink.write(b"never\n")
        taken = 1_000_007 - sink.waiting
        sink.discard()
        sink.write(b"cancelled\n")
        sink.close()
        with os.fdopen(read_end, "rb") as reader:
            got = await asyncio.to_thread(reader.read)
        assert got.index(b"\n") == taken
        return got

    got = asyncio.run(scenario())
    assert got.lstrip(b"a") == b"\ncancelled\n"


def test_where_everything_was_taken_nothing_is_thrown_away() -> None:
    async def scenario() -> bytes:
        read_end, write_end = os.pipe()
        sink = Sink(write_end, lambda: None, lambda: None)
        sink.write(b"one\n")
        sink.discard()
        sink.close()
        return os.read(read_end, 100)

    assert asyncio.run(scenario()) == b"one\n"
