"""Reading stops while somebody does not keep up, and goes on when they do."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from forestall.pep.mcp.gateway import MAX_WAITING, Options, _Gateway
from forestall.pep.mcp.pipes import CHUNK, Sink, Source

LINE = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 900}}).encode() + b"\n"
COUNT = 8_000
"""Lines: eight times what may wait, and more than pipes hold."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - one turn of the loop after another, until it has come to rest
            await asyncio.sleep(0)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.close(descriptor)


async def scenario(line: bytes, *, from_server: bool) -> tuple[int, bytes]:
    """What waited at most while nobody read, and what came in the end."""
    gateway = _Gateway(Options("s", ["unused"], Path("unused"), None))
    gateway._loop = asyncio.get_running_loop()
    gateway._output_ended = asyncio.Event()
    ends: dict[str, tuple[int, int]] = {name: os.pipe() for name in ("client", "server", "to_client", "to_server")}
    gateway._to_client = Sink(ends["to_client"][1], gateway._balance, lambda: None)
    gateway._to_server = Sink(ends["to_server"][1], gateway._balance, lambda: None)
    gateway._client = Source(ends["client"][0], gateway._client_bytes, lambda: None)
    gateway._output = Source(ends["server"][0], gateway._server_bytes, lambda: None)
    gateway._balance()
    writer = threading.Thread(target=write_all, args=(ends["server" if from_server else "client"][1], line * COUNT))
    writer.start()
    source, sink = (gateway._output, gateway._to_client) if from_server else (gateway._client, gateway._to_server)
    await until(lambda: source.paused)
    most = sink.waiting
    got, done = bytearray(), asyncio.Event()
    reader = Source(ends["to_client" if from_server else "to_server"][0], got.extend, done.set)
    reader.pause(False)
    await until(lambda: len(got) == len(line) * COUNT)
    writer.join(60)
    for side in (reader, gateway._client, gateway._output):
        side.end()
    if gateway._ticking is not None:
        gateway._ticking.cancel()
    for one in ends.values():
        for descriptor in one:
            if descriptor != ends["server" if from_server else "client"][1]:
                os.close(descriptor)
    return most, bytes(got)


def test_a_slow_client_holds_the_server_back() -> None:
    most, got = asyncio.run(scenario(LINE, from_server=True))
    assert MAX_WAITING < most < MAX_WAITING + 2 * CHUNK
    assert got == LINE * COUNT


def test_a_slow_server_holds_the_client_back() -> None:
    note = LINE.replace(b"notifications/message", b"notifications/roots/list_changed")
    most, got = asyncio.run(scenario(note, from_server=False))
    assert MAX_WAITING < most < MAX_WAITING + 2 * CHUNK
    assert got == note * COUNT
