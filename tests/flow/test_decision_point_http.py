"""The decision point over HTTP: it starts and ends with it, and says where it listens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from forestall.core.errors import SetupError
from forestall.server.listening import Lock, listen
from forestall.server.point import Point
from forestall.wire import build
from tests.points import Peer, make_home, play

SETTINGS = '[http]\nlisten = "127.0.0.1:0"\n'


def test_it_says_where_it_listens_and_answers_there(tmp_path: Path) -> None:
    home = make_home(tmp_path, settings=SETTINGS)

    async def scenario(point: Point) -> None:
        peer = await Peer.cli(home.socket)
        status = await peer_status(peer)
        url = status["http"]
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /nowhere HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert (await reader.readline()) == b"HTTP/1.1 404 Not Found\r\n"
        point.stop()
        await reader.read()  # until it ends
        writer.close()
        await peer.close()

    play(home, scenario)


async def peer_status(peer: Peer) -> dict[str, object]:
    peer.request("status")
    return await peer.receive()


def test_without_the_setting_nothing_listens(tmp_path: Path) -> None:
    home = make_home(tmp_path)

    async def scenario(_: Point) -> None:
        peer = await Peer.cli(home.socket)
        assert (await peer_status(peer))["http"] is None
        await peer.close()

    play(home, scenario)


def test_settings_that_cannot_be_end_it_before_it_serves(tmp_path: Path) -> None:
    home = make_home(tmp_path, settings='[http]\nlisten = "0.0.0.0:0"\n')

    async def scenario() -> None:
        lock = Lock.acquire(home.run / "lock")
        try:
            await Point(build(home)).serve(listen(home.socket, lock))
        finally:
            lock.release()

    with pytest.raises(SetupError, match="without TLS"):
        asyncio.run(scenario())
