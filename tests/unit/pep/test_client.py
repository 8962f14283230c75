"""The connection to the decision point, against a real socket."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from forestall.core.errors import SetupError, Unavailable
from forestall.frame import PROTOCOL, encode
from forestall.pep.client import ENDINGS, Connection, connect
from tests.mcpkit.decision_point import DecisionPoint, Frame, permit_all

HELLO = {"kind": "gateway", "server": "s"}


def talk(socket: Path, start: Any = None) -> Connection:
    async def scenario() -> Connection:
        connection = await connect(socket, HELLO, start)
        connection.close()
        return connection

    return asyncio.run(scenario())


def test_a_welcome_is_kept(gateway_home: Path, scripted: DecisionPoint) -> None:
    assert talk(scripted.path).welcome["task"] == "task-1"
    assert scripted.frames[0] == {"type": "hello", "protocol": PROTOCOL, "nonce": "nonce-1", **HELLO}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"type": "refused", "sentence": "No."}, "refused: No."),
        ({"type": "refused"}, "another protocol"),
        ({"type": "welcome", "protocol": PROTOCOL + 1}, "another protocol"),
        ({"type": "challenge", "protocol": PROTOCOL, "nonce": "x"}, "another protocol"),
        ({"type": "permit"}, "another protocol"),
        ({"no": "type"}, "ended the connection"),
    ],
)
def test_anything_but_a_welcome_is_a_refusal(
    gateway_home: Path, scripted: DecisionPoint, answer: Frame, said: str
) -> None:
    scripted.answer = lambda _: answer
    with pytest.raises(Unavailable, match=said):
        talk(scripted.path)


def test_what_the_home_lacks_is_its_owners_fault(gateway_home: Path, scripted: DecisionPoint) -> None:
    scripted.answer = lambda _: {"type": "refused", "sentence": "There is no mandate.", "setup": True}
    with pytest.raises(SetupError, match="refused: There is no mandate"):
        talk(scripted.path)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ({"type": "refused", "sentence": "Too many."}, "refused: Too many."),
        ({"type": "challenge", "protocol": 1, "nonce": "x"}, "another protocol"),
        ({"type": "welcome", "protocol": PROTOCOL}, "another protocol"),
        ({"no": "type"}, "ended the connection"),
    ],
)
def test_without_a_challenge_nothing_is_said(
    gateway_home: Path, scripted: DecisionPoint, first: Frame, said: str
) -> None:
    scripted.challenge = first
    with pytest.raises(Unavailable, match=said):
        talk(scripted.path)
    assert scripted.frames == []


def test_the_hello_proves_what_it_is_asked_to(gateway_home: Path, scripted: DecisionPoint) -> None:
    def prove(nonce: str) -> dict[str, str]:
        return {"grant": "token", "proof": f"proof of {nonce}"}

    async def scenario() -> None:
        (await connect(scripted.path, HELLO, prove=prove)).close()

    asyncio.run(scenario())
    (hello,) = scripted.frames
    assert (hello["grant"], hello["proof"]) == ("token", "proof of nonce-1")


def test_what_cannot_be_proved_ends_the_connection(gateway_home: Path, scripted: DecisionPoint) -> None:
    def prove(nonce: str) -> dict[str, str]:
        raise SetupError("The key is gone.")

    with pytest.raises(SetupError, match="key is gone"):
        asyncio.run(connect(scripted.path, HELLO, prove=prove))
    assert scripted.frames == []


def test_silence_is_a_refusal(gateway_home: Path, scripted: DecisionPoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forestall.pep.client.CONNECT_WITHIN_S", 0.05)
    scripted.answer = lambda _: None
    with pytest.raises(Unavailable, match="did not answer"):
        talk(scripted.path)


def test_where_nobody_listens_it_is_started_once(gateway_home: Path) -> None:
    points: list[DecisionPoint] = []

    def start() -> None:
        points.append(DecisionPoint(gateway_home / "late"))

    assert talk(gateway_home / "late", start).welcome
    assert len(points) == 1
    points[0].close()


def test_one_that_ends_while_one_connects_to_it_is_followed_by_the_next(
    gateway_home: Path, scripted: DecisionPoint
) -> None:
    """A process that was killed accepts connections until the kernel has taken it apart."""
    scripted.answer = lambda _: {"no": "type"}
    started: list[None] = []

    def start() -> None:
        started.append(None)
        scripted.answer = permit_all

    assert talk(scripted.path, start).welcome
    assert len(started) == 1


def test_not_for_ever(gateway_home: Path, scripted: DecisionPoint) -> None:
    scripted.answer = lambda _: {"no": "type"}
    with pytest.raises(Unavailable, match="ended the connection"):
        talk(scripted.path, lambda: None)
    assert len(scripted.of_type("hello")) == ENDINGS + 1


def test_where_it_cannot_be_started_it_says_why(gateway_home: Path) -> None:
    def start() -> None:
        raise SetupError("The policy is broken.")

    with pytest.raises(SetupError, match="policy is broken"):
        talk(gateway_home / "never", start)
    with pytest.raises(Unavailable, match="cannot be reached"):
        talk(gateway_home / "never", lambda: None)
    with pytest.raises(Unavailable, match="forestall serve"):
        talk(gateway_home / "never")


@pytest.mark.parametrize(
    "bytes_", [b"\xff\xff\xff\xff", b"\0\0\0\1x", b"\0\0\0\2{}", encode({"type": "x"})[:-1] + b"!"]
)
def test_what_is_not_a_frame_loses_the_connection(bytes_: bytes) -> None:
    async def scenario() -> tuple[list[Frame], bool]:
        frames: list[Frame] = []
        lost = asyncio.Event()
        connection = Connection(frames.append, lost.set)
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        await loop.create_connection(lambda: connection, sock=here)
        there.sendall(encode({"type": "good"}) + bytes_ + encode({"type": "after"}))
        await asyncio.wait_for(lost.wait(), 60)
        connection.send(b"nowhere")
        there.close()
        return frames, connection.unsent == 0

    frames, nothing_left = asyncio.run(scenario())
    assert frames == [{"type": "good"}]
    assert nothing_left


def test_it_is_behind_until_all_that_came_was_read() -> None:
    async def scenario() -> list[bool]:
        came, lost = asyncio.Event(), asyncio.Event()
        connection = Connection(lambda _: came.set(), lost.set)
        here, there = socket.socketpair()
        await asyncio.get_running_loop().create_connection(lambda: connection, sock=here)
        found = [connection.behind]
        whole = encode({"type": "revoked"})
        there.sendall(whole + whole[:-1])
        found.append(connection.behind)
        await came.wait()
        found.append(connection.behind)
        came.clear()
        there.sendall(whole[-1:])
        await came.wait()
        found.append(connection.behind)
        there.close()
        found.append(connection.behind)
        await lost.wait()
        return [*found, connection.behind]

    assert asyncio.run(scenario()) == [False, True, True, False, True, True]


def test_frames_may_come_in_pieces(gateway_home: Path) -> None:
    frames: list[Frame] = []
    connection = Connection(frames.append, lambda: None)
    for byte in encode({"type": "a", "text": "é"}) + encode({"type": "b"}):
        connection.get_buffer(-1)[0] = byte
        connection.buffer_updated(1)
    assert [frame["type"] for frame in frames] == ["a", "b"]


def test_permit_all_is_what_it_says() -> None:
    assert permit_all({"type": "ask", "tool": "s/t", "pin": "p", "arguments": {}})["type"] == "permit"


class Wire(asyncio.Transport):
    """Nothing comes of what is sent."""

    def close(self) -> None: ...


def read_together(*frames: bytes) -> list[str]:
    came: list[str] = []
    connection = Connection(lambda frame: came.append(frame["type"]), lambda: None)
    connection.connection_made(Wire())
    data = b"".join(frames)
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))
    return came


def test_what_takes_authority_away_counts_before_what_was_read_with_it() -> None:
    permit, release, revoked = (encode({"type": kind}) for kind in ("permit", "release", "revoked"))
    assert read_together(permit, release, revoked, permit) == ["revoked", "permit", "release", "permit"]
    assert read_together(permit, release) == ["permit", "release"]


def test_what_came_before_something_that_is_no_frame_still_counts() -> None:
    assert read_together(encode({"type": "revoked"}), b"\0\0\0\x02[]") == ["revoked"]
