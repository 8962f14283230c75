"""What a remote server may answer, and what is made of it; a credential goes to nobody else."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.errors import SetupError
from forestall.pep.mcp import remote
from forestall.pep.mcp.message import MAX_FROM_SERVER
from forestall.pep.mcp.remote import Remote, Url, events, one_line, require_headers

SECRET = (("Authorization", "Bearer pX7wkZq93kLmNtR5"),)
ASK = b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}'


def head(status: str = "200 OK", kind: str = "application/json", *more: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *more, "", ""]).encode()


def request_on(connection: socket.socket) -> bytes:
    """The whole of it: what is closed with something unread resets the connection, and with it the answer."""
    asked = connection.recv(65536)
    while is_cut(asked) and (more := connection.recv(65536)):
        asked += more
    return asked


def is_cut(asked: bytes) -> bool:
    """Of HTTP; whoever greets in TLS waits for an answer."""
    head, ended, body = asked.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    return head[:1].isalpha() and (not ended or len(body) < int(length[1] if length else 0))


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A port where every connection gets this answer, and what was asked there."""
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(request_on(connection))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def said(url: str, line: bytes = ASK) -> tuple[list[bytes], list[str]]:
    """What the server said until it was done, and why it says no more."""
    lines: list[bytes] = []
    whys: list[str] = []

    async def whole() -> None:
        done = asyncio.Event()

        def on_done(_request: Any, why: str) -> None:
            whys.append(why)
            done.set()

        nothing: Callable[[], None] = lambda: None  # noqa: E731
        far = Remote(Url.parse(url), (), on_line=lines.append, on_done=on_done, on_room=nothing, on_end=nothing)
        far.pause(False)
        far.send(line, SECRET)
        async with asyncio.timeout(60):
            await done.wait()
            far.signal(15)
            await far.exited

    asyncio.run(whole())
    return lines, whys


BODY = b'{"jsonrpc":"2.0",\r\n "id":7, "result":{}}'


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (head() + BODY, 1),
        (head(kind="application/json; charset=utf-8") + BODY, 1),
        (head(kind="text/event-stream") + b": hi\r\n\r\nid: 1\r\nevent: message\r\ndata: " + ASK + b"\r\n\r\n", 1),
        (head(kind="text/event-stream") + b"data: {}\n\ndata: {\ndata: }\n\n", 2),
        (head("400 Bad Request") + BODY, 1),
        (head("202 Accepted"), 0),
        (head("401 Unauthorized", "text/html") + b"<p>no", 0),
        (head("307 Temporary Redirect", "application/json", "Location: http://127.0.0.1:1/"), 0),
        (head(kind="text/html") + b"<p>hello", 0),
        (head("200 OK", "application/json", "Content-Encoding: gzip") + BODY, 0),
        (head(kind="text/event-stream") + b"data: {}", 0),
        (b"garbage\r\n\r\n", 0),
        (b"", 0),
    ],
)
def test_what_it_answers_is_read_or_said_to_be_none(answer: bytes, lines: int) -> None:
    with answering(answer) as (port, asked):
        heard, whys = said(f"http://127.0.0.1:{port}/mcp?a=b")
    assert len(heard) == lines
    assert all(b"\n" not in line and b"\r" not in line and json.loads(line) is not None for line in heard)
    assert len(whys) == 1
    assert SECRET[0][1] not in whys[0]
    assert asked[0].startswith(b"POST /mcp?a=b HTTP/1.1\r\n")
    assert len(asked) == 1, "no redirect is followed, and nothing is tried twice"


def test_an_answer_that_is_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_FROM_SERVER", 1000)
    for kind in ("application/json", "text/event-stream"):
        with answering(head(kind=kind) + b"data: " + b"x" * 2000) as (port, _):
            heard, whys = said(f"http://127.0.0.1:{port}/")
        assert (heard, "too long" in whys[0]) == ([], True)


def test_a_certificate_that_nobody_vouches_for_gets_no_credential() -> None:
    with answering(head() + BODY) as (port, asked):
        heard, whys = said(f"https://127.0.0.1:{port}/")
    assert (heard, whys) == ([], ["The server cannot be reached (SSLError)"])
    assert b"Bearer" not in b"".join(asked)


def test_a_modern_message_is_mirrored_in_headers() -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    params = {"name": "grüß", "_meta": meta}
    line = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()
    with answering(head() + BODY) as (port, asked):
        said(f"http://127.0.0.1:{port}/", line)
    sent = asked[0].decode().split("\r\n")
    assert {"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: =?base64?Z3LDvMOf?="} <= set(sent)
    assert "Authorization: Bearer pX7wkZq93kLmNtR5" in sent


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Mcp-Session-Id", "A B", "", "a\r\nb"])
def test_a_credential_is_in_no_header_that_frames_a_message(name: str) -> None:
    with pytest.raises(SetupError):
        require_headers(((name, "x"),))
    assert require_headers(SECRET) == SECRET


@given(st.binary(max_size=200))
def test_whatever_a_stream_holds_nothing_is_raised_and_every_message_is_one_line(data: bytes) -> None:
    for line in events(io.BytesIO(data)):
        assert b"\n" not in line
        assert b"\r" not in line
        assert len(line) <= MAX_FROM_SERVER


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_says_the_same_on_one_line(value: object) -> None:
    assert json.loads(one_line(json.dumps(value, indent=1).encode())) == value
