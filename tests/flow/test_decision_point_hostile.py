"""Peers that break the rules of the socket: each ends its own connection, and the next call is decided as ever."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.adapter.identity import LocalIdentity
from forestall.core.entry import Entry
from forestall.core.errors import Unavailable
from forestall.frame import PROTOCOL, encode
from forestall.home import Home
from forestall.port import Position
from forestall.server import channel
from forestall.server.channel import LARGE
from forestall.server.point import FOR_COMMANDS, Point
from forestall.wire import build
from tests.points import SERVER, Peer, entries, kinds, make_home, pin, play, until_async

HELLO = {"type": "hello", "protocol": PROTOCOL, "kind": "agent", "server": SERVER, "directory": "/tmp"}
ASK = {"type": "ask", "id": 1, "tool": f"{SERVER}/write_file", "pin": pin("write_file"), "arguments": {}}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def allow(point: Point, **limits: int) -> None:
    """From now on: whatever is to go well has all the time that a busy machine needs."""
    config = point.parts.config
    point.parts.config = replace(config, serve=replace(config.serve, **limits))


async def still_serves(home: Home) -> None:
    peer = await Peer.gateway(home.socket)
    assert (await peer.ask())["type"] == "permit"
    await peer.close()


@pytest.mark.parametrize(
    "hello",
    [
        {**HELLO, "protocol": 1},
        {**HELLO, "nonce": None},
        {**HELLO, "nonce": 3},
        {**HELLO, "nonce": "x" * 1000},
        {**HELLO, "nonce": "é"},
        {**HELLO, "nonce": ""},
        {**HELLO, "protocol": True},
        {**HELLO, "protocol": None},
        {**HELLO, "kind": "root"},
        {**HELLO, "kind": 3},
        {**HELLO, "server": ""},
        {**HELLO, "server": "a/b"},
        {**HELLO, "server": ["a"]},
        {**HELLO, "server": "x" * 1000},
        {**HELLO, "directory": "relative"},
        {**HELLO, "directory": "/x\0y"},
        {**HELLO, "client": "inspector"},
        {**HELLO, "command": {"a": 1}},
        {**HELLO, "command": ["x" * 70_000]},
        {**HELLO, "mandate": 3},
        {**HELLO, "grant": "a.b.c"},
        {**HELLO, "proof": "a.b.c"},
        {**HELLO, "grant": ["a.b.c"], "proof": "a.b.c"},
        {**HELLO, "grant": "a.b.c", "proof": "a.b.c", "mandate": "default"},
        {**HELLO, "grant": "a.b.c", "proof": "a.b.c", "kind": "cli"},
        {**HELLO, "grant": "a" * 40_000, "proof": "a.b.c"},
        {"type": "ask"},
        {"type": "status", "id": 1},
    ],
)
def test_a_hello_that_is_none_is_refused(home: Home, hello: dict[str, Any]) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        await peer.greet(hello)
        answer = await peer.receive()
        assert answer["type"] == "refused"
        assert answer["sentence"]
        assert await peer.ended()
        await peer.close()
        await still_serves(home)

    play(home, scenario)


@pytest.mark.parametrize(
    "frame",
    [
        {**ASK, "id": None},
        {**ASK, "id": True},
        {**ASK, "id": "1"},
        {**ASK, "tool": 3},
        {**ASK, "tool": "x" * 1000},
        {**ASK, "pin": None},
        {**ASK, "arguments": []},
        {**ASK, "arguments": None},
        {"type": "performed", "id": 1, "permit": "x", "fate": "splendid"},
        {"type": "performed", "id": 1, "permit": "x", "fate": "done", "digest": "sha256:x"},
        {"type": "performed", "id": 1, "permit": 4, "fate": "done"},
        {"type": "performed", "id": 1, "permit": "x", "fate": "done", "detail": {}},
        {"type": "tools", "id": 1, "tools": {}},
        {"type": "tools", "id": 1, "tools": [1] * 5000},
        {"type": "method", "id": 1, "method": "x", "direction": "up"},
        {"type": "cancel"},
        HELLO,
        {"type": "status", "id": 1},
        {"type": "reload", "id": 1},
        {"type": "stop", "id": 1},
        {"type": "welcome"},
        {"type": ""},
    ],
)
def test_a_frame_that_is_none_ends_the_connection(home: Home, frame: dict[str, Any]) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        peer.send(frame)
        assert (await peer.receive())["type"] == "refused"
        assert await peer.ended()
        await peer.close()
        await still_serves(home)

    play(home, scenario)


@pytest.mark.parametrize("frame", [ASK, {"type": "tools", "id": 1, "tools": []}, {"type": "performed", "id": 1}])
def test_a_command_may_not_ask(home: Home, frame: dict[str, Any]) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.cli(home.socket)
        peer.send(frame)
        assert (await peer.receive())["type"] == "refused"
        assert await peer.ended()
        await peer.close()

    play(home, scenario)
    assert kinds(home) == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
        b"\0\0\0\x02{}",
        b"\0\0\0\x02[]",
        b'\0\0\0\x17{"type":"a","type":"a"}',
        b"\xff\xff\xff\xff",
        b"\x00\x10\x00\x00" + b"x" * 100,
        b"\0\0\0\x03\xff\xfe\xfd",
    ],
)
@pytest.mark.parametrize("greeted", [True, False])
def test_bytes_that_are_no_frame_end_the_connection(home: Home, data: bytes, greeted: bool) -> None:
    async def scenario(_: Point) -> None:
        peer = await (Peer.gateway(home.socket) if greeted else Peer.connect(home.socket))
        peer.writer.write(data)
        peer.writer.write_eof()
        assert await peer.ended()
        await peer.close()
        await still_serves(home)

    play(home, scenario)


def test_an_id_in_use_ends_the_connection(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permit = await peer.ask()
        peer.send({**ASK, "id": permit["id"]})
        assert "in use" in (await peer.receive())["sentence"]
        assert await peer.ended()
        await peer.close()
        await until_async(lambda: kinds(home)[-1] == "closed")
        assert entries(home)[-2]["fate"] == "ambiguous"

    play(home, scenario)


def test_a_peer_that_says_nothing_is_refused_after_a_while(home: Home) -> None:
    async def scenario(point: Point) -> None:
        allow(point, handshake_timeout_ms=500)
        silent, slow = await Peer.connect(home.socket), await Peer.connect(home.socket)
        await silent.challenge()
        slow.writer.write(encode({**HELLO, "nonce": await slow.challenge()})[:-1])
        for peer in (silent, slow):
            assert "in time" in (await peer.receive())["sentence"]
            assert await peer.ended()
            await peer.close()
        allow(point, handshake_timeout_ms=60_000)
        await still_serves(home)

    play(home, scenario)


def test_one_connection_more_than_may_be_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path, settings="[serve]\nmax_connections = 2\n")

    async def scenario(point: Point) -> None:
        held = [await Peer.gateway(home.socket) for _ in range(2)]
        more = await Peer.connect(home.socket)
        await more.greet({"kind": "agent", "server": SERVER, "directory": "/tmp"})
        assert "max_connections" in (await more.receive())["sentence"]
        await more.close()
        await held[0].close()
        await until_async(lambda: len(point._connections) == 1)
        await still_serves(home)
        await held[1].close()

    play(home, scenario)


def test_whoever_takes_every_connection_keeps_nobody_from_killing_them(tmp_path: Path) -> None:
    home = make_home(tmp_path, settings="[serve]\nmax_connections = 2\n")

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as one, await Peer.gateway(home.socket):
            async with await Peer.cli(home.socket) as command:
                command.request("order", order="kill", reach="task", name=one.welcome["task"], why="it floods")
                told = await one.receive()
                assert (told["type"], told["reason"]) == ("revoked", "revoked")
                one.send({"type": "confirmed", "epoch": told["epoch"]})
                assert (await command.receive())["type"] == "done"
            await until_async(lambda: len(point._connections) == 2)
            silent = [await Peer.connect(home.socket) for _ in range(FOR_COMMANDS + 2)]
            said = [(await peer.receive())["type"] for peer in silent]
            assert set(said[:FOR_COMMANDS]) == {"challenge"}
            assert "refused" in said[FOR_COMMANDS:], "commands are not without end either"
            for peer in silent:
                await peer.close()

    play(home, scenario)


def test_a_frame_in_single_bytes_is_a_frame(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        for byte in encode({**HELLO, "nonce": await peer.challenge()}):
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
        assert (await peer.receive())["type"] == "welcome"
        await peer.close()

    play(home, scenario)


def test_everything_in_one_write_is_answered(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        asks = [encode({**ASK, "id": i, "arguments": {"path": str(i), "content": ""}}) for i in range(5)]
        hello = {**HELLO, "nonce": await peer.challenge()}
        peer.writer.write(encode(hello) + b"".join(asks))
        answers = [await peer.receive() for _ in range(6)]
        assert [answer["type"] for answer in answers] == ["welcome"] + ["permit"] * 5
        await peer.close()

    play(home, scenario)


def test_a_large_frame_is_decided_too_and_those_after_it_in_their_order(home: Home) -> None:
    async def scenario(_: Point) -> None:
        peer, other = await Peer.gateway(home.socket), await Peer.gateway(home.socket)
        large = {"path": "x", "content": "y z\n" * LARGE}
        numbers = [peer.asks(arguments=large), peer.asks(arguments={"path": "x", "content": ""})]
        assert (await other.ask())["type"] == "permit"
        assert [(await peer.receive())["id"] for _ in numbers] == numbers
        await peer.close()
        await other.close()

    play(home, scenario)


def test_a_peer_that_does_not_read_is_cut_off(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bound that a few answers exceed: a machine that is busy judges 8 MiB of them too slowly for a test."""
    assert channel.MAX_UNREAD == 8 * 1024 * 1024
    monkeypatch.setattr(channel, "MAX_UNREAD", 64 * 1024)

    async def scenario(point: Point) -> None:
        peer = await Peer.gateway(home.socket)
        definitions = [{"name": f"tool-{i}-" + "x" * 200} for i in range(400)]
        peer.writer.transport.pause_reading()
        try:
            for i in range(40):
                peer.send({"type": "tools", "id": i, "tools": definitions})
                await asyncio.wait_for(peer.writer.drain(), 30)
        except ConnectionError:
            pass
        await until_async(lambda: not point._connections)
        peer.writer.transport.abort()
        await still_serves(home)

    play(home, scenario)


def test_a_user_who_may_not_connect_is_refused(home: Home) -> None:
    parts = build(home)
    parts.identity = LocalIdentity({os.getuid() + 1})

    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        peer.send(HELLO)
        assert "may not connect" in (await peer.receive())["sentence"]
        await peer.close()

    play(home, scenario, parts=parts)
    assert kinds(home) == []


class Ledger:
    """The real one, that can be made to hang or to fail."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.hangs: asyncio.Event | None = None
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def append(self, entry: Entry) -> Position:
        if self.fails:
            raise Unavailable("The disk is full; make room.")
        return self.real.append(entry)

    def append_at_once(self, entry: Entry) -> Position | None:
        if self.fails:
            raise Unavailable("The disk is full; make room.")
        return self.real.append_at_once(entry) if self.hangs is None else None  # as after a sync that was slow

    async def append_async(self, entry: Entry, then: Any = None) -> Position:
        if self.hangs is not None:
            await self.hangs.wait()
        if self.fails:
            raise Unavailable("The disk is full; make room.")
        return await self.real.append_async(entry, then)


def test_a_ledger_that_fails_denies_and_withholds(home: Home) -> None:
    parts = build(home)
    ledger = Ledger(parts.ledger)
    parts.ledger = ledger  # type: ignore[assignment]

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permit = await peer.ask()
        ledger.fails = True
        assert (await peer.ask())["decision"]["reason"] == "unavailable"
        assert (await peer.performed(permit))["type"] == "withhold"
        other = await Peer.connect(home.socket)
        await other.greet(HELLO)
        assert "disk is full" in (await other.receive())["sentence"]
        ledger.fails = False
        assert (await peer.ask())["type"] == "permit"
        await peer.close()
        await other.close()

    play(home, scenario, parts=parts)


def test_a_ledger_that_hangs_denies_in_time_and_nothing_is_released_later(home: Home) -> None:
    parts = build(home)
    ledger = Ledger(parts.ledger)
    parts.ledger = ledger  # type: ignore[assignment]

    async def scenario(point: Point) -> None:
        peer = await Peer.gateway(home.socket)
        ledger.hangs = asyncio.Event()
        allow(point, decision_timeout_ms=50)
        answer = await peer.ask()
        assert answer["decision"]["reason"] == "deadline"
        allow(point, decision_timeout_ms=60_000)
        ledger.hangs.set()
        ledger.hangs = None
        await until_async(lambda: kinds(home)[-1] == "settled")
        assert entries(home)[-1]["fate"] == "not_started"
        status = await peer.ask(arguments={"path": "y", "content": ""})
        assert status["type"] == "permit", "the late permit was never sent"
        await peer.close()

    play(home, scenario, parts=parts)


def test_a_call_that_never_reports_becomes_ambiguous(tmp_path: Path) -> None:
    home = make_home(tmp_path, settings="[serve]\noutcome_timeout_s = 1\n")

    async def scenario(_: Point) -> None:
        peer = await Peer.gateway(home.socket)
        permit = await peer.ask()
        await until_async(lambda: kinds(home)[-1] == "settled")
        assert entries(home)[-1]["fate"] == "ambiguous"
        assert (await peer.performed(permit))["type"] == "withhold"
        await peer.close()

    play(home, scenario)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FRAMES = st.fixed_dictionaries(
    {"type": st.sampled_from(["ask", "tools", "method", "performed", "cancel", "client", "refused", "x"])},
    optional={
        "id": st.integers(0, 3) | JSON,
        "tool": st.sampled_from([f"{SERVER}/write_file", "mcp/unknown"]) | JSON,
        "pin": st.just(pin("write_file")) | JSON,
        "arguments": st.dictionaries(st.sampled_from(["path", "content"]), JSON) | JSON,
        "tools": st.lists(JSON, max_size=3) | JSON,
        "permit": JSON,
        "fate": st.sampled_from(["done", "failed"]) | JSON,
        "client": JSON,
        "method": JSON,
        "direction": st.just("client") | JSON,
        "reason": st.just("invalid_message") | JSON,
        "detail": JSON,
    },
)


@settings(suppress_health_check=list(HealthCheck), max_examples=25, deadline=None)
@given(st.lists(st.lists(FRAMES, max_size=6), max_size=6))
def test_whatever_frames_come_nobody_else_notices(
    tmp_path_factory: pytest.TempPathFactory, conversations: list[list[dict[str, Any]]]
) -> None:
    home = make_home(tmp_path_factory.mktemp("f"))

    async def scenario(_: Point) -> None:
        for conversation in conversations:
            peer = await Peer.gateway(home.socket)
            for frame in conversation:
                peer.send(frame)
            peer.writer.write_eof()
            assert await peer.ended()
            await peer.close()
        await still_serves(home)

    play(home, scenario)
    assert set(kinds(home)) <= {"opened", "closed", "permitted", "settled"}
    assert "done" not in [entry.get("fate") for entry in entries(home)]
