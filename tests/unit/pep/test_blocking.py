from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from forestall.core.errors import Unavailable
from forestall.frame import HEAD, PROTOCOL, decode, encode, length
from forestall.pep.blocking import Connection

CHALLENGE = encode({"type": "challenge", "protocol": PROTOCOL, "nonce": "n"})
WELCOME = encode({"type": "welcome", "protocol": PROTOCOL, "policy_digest": "sha256:0"})


def frame(peer: socket.socket) -> dict[str, Any]:
    return decode(peer.recv(length(peer.recv(HEAD, socket.MSG_WAITALL)), socket.MSG_WAITALL))


@contextmanager
def answering(path: Path, script: Callable[[socket.socket], None]) -> Iterator[None]:
    """Someone at the socket who does what the script says, once."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(60)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(60)
                script(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(60)
            assert not thread.is_alive()


def test_it_says_hello_and_asks(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def script(peer: socket.socket) -> None:
        peer.sendall(CHALLENGE)
        seen.append(frame(peer))
        for byte in WELCOME:  # in as many pieces as there can be
            peer.sendall(bytes([byte]))
        for _ in range(2):
            seen.append(frame(peer))
            peer.sendall(encode({"type": "status", "id": seen[-1]["id"], "tools": len(seen)}))

    with answering(tmp_path / "socket", script), Connection(tmp_path / "socket") as connection:
        assert connection.welcome["policy_digest"] == "sha256:0"
        assert connection.ask("status")["tools"] == 2
        assert connection.ask("status", more=True)["tools"] == 3
    assert seen == [
        {"type": "hello", "protocol": PROTOCOL, "nonce": "n", "kind": "cli"},
        {"type": "status", "id": 1},
        {"type": "status", "id": 2, "more": True},
    ]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "ended the connection"),
        (b"\0\0", "ended the connection"),
        (b"\xff\xff\xff\xff", "no frame"),
        (b"\0\0\0\2{}", "no frame"),
        (b"\0\0\0\4nope", "no frame"),
        (encode({"type": "refused", "sentence": "Too many."}), "refuses: Too many."),
        (encode({"type": "status", "id": 1}), "refuses"),
    ],
)
@pytest.mark.parametrize("challenged", [True, False])
def test_what_does_not_welcome_it_is_said(tmp_path: Path, answer: bytes, sentence: str, challenged: bool) -> None:
    def script(peer: socket.socket) -> None:
        if challenged:
            peer.sendall(CHALLENGE)
            frame(peer)
        peer.sendall(answer)

    with (
        answering(tmp_path / "socket", script),
        pytest.raises(Unavailable, match=sentence),
        Connection(tmp_path / "socket"),
    ):
        pytest.fail("it was let in")


@pytest.mark.parametrize(
    "answer", [{"type": "refused", "id": 1, "sentence": "No."}, {"type": "done", "id": 7}, {"type": "done"}]
)
def test_an_answer_to_something_else_is_none(tmp_path: Path, answer: dict[str, Any]) -> None:
    def script(peer: socket.socket) -> None:
        peer.sendall(CHALLENGE)
        frame(peer)
        peer.sendall(WELCOME)
        frame(peer)
        peer.sendall(encode(answer))

    with (
        answering(tmp_path / "socket", script),
        Connection(tmp_path / "socket") as connection,
        pytest.raises(Unavailable, match="refuses"),
    ):
        connection.ask("stop")


def test_who_is_silent_is_given_up(tmp_path: Path) -> None:
    given_up = threading.Event()

    def script(peer: socket.socket) -> None:
        with suppress(OSError):  # it may have given up before it came to this
            peer.sendall(CHALLENGE)
        given_up.wait(60)

    with answering(tmp_path / "socket", script):
        with pytest.raises(Unavailable), Connection(tmp_path / "socket", 0.1):
            pytest.fail("it was let in")
        given_up.set()


def test_where_nobody_listens_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / ("x" * 200)):
        with pytest.raises(Unavailable, match="No decision point answers"), Connection(path):
            pytest.fail("it was let in")
