"""What a remote server may answer, and what is made of it; a credential goes to nobody else."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.errors import SetupError
from forestall.core.place import Placed, Where
from forestall.pep.mcp import remote
from forestall.pep.mcp.bound import demands_nonce
from forestall.pep.mcp.lent import NOTHING_LENT, Lent
from forestall.pep.mcp.message import MAX_FROM_SERVER
from forestall.pep.mcp.proofs import NoProof
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


def header_of(request: bytes, name: str) -> list[str]:
    lines = request.decode().split("\r\n\r\n")[0].split("\r\n")[1:]
    return [line.partition(": ")[2] for line in lines if line.lower().startswith(f"{name}:")]


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A port where each connection gets the next of these answers, or the last of them; and what was asked there."""
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(request_on(connection))
                connection.sendall(answers[min(len(asked), len(answers)) - 1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


Proofs = Callable[[str, str, str, str | None], str]


def no_proof(*_: object) -> str:
    raise NoProof


def said(url: str, line: bytes = ASK, *, times: int = 1, proofs: Proofs | None = None) -> tuple[list[bytes], list[str]]:
    """What the server said until it was done with so many messages, one after the other; and why it says no more.

    With `proofs`, what it was sent is bound to a key.
    """
    lines: list[bytes] = []
    whys: list[str] = []

    async def whole() -> None:
        done = asyncio.Event()

        def on_done(_request: Any, why: str) -> None:
            whys.append(why)
            done.set()

        nothing: Callable[[], None] = lambda: None  # noqa: E731
        far = Remote(
            Url.parse(url),
            NOTHING_LENT,
            prove=proofs or no_proof,
            on_line=lines.append,
            on_done=on_done,
            on_room=nothing,
            on_end=nothing,
        )
        far.pause(False)
        async with asyncio.timeout(60):
            for _ in range(times):
                done.clear()
                far.send(line, SECRET, "a lease" if proofs else "")
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


def spoken(credential: str, method: str, url: str, nonce: str | None) -> str:
    return "|".join([credential, method, url, nonce or "-"])


DEMAND = 'WWW-Authenticate: DPoP realm="a, b", error="use_dpop_nonce", algs="ES256"'
ASKED_FOR_IT = head("401 Unauthorized", "text/html", DEMAND, "DPoP-Nonce: n1")


def test_a_nonce_that_is_demanded_is_brought_once_and_kept() -> None:
    answers = [ASKED_FOR_IT, head("200 OK", "application/json", "DPoP-Nonce: n2") + BODY, head() + BODY]
    with answering(*answers) as (port, asked):
        heard, _ = said(f"http://127.0.0.1:{port}/mcp?a=b", times=2, proofs=spoken)
    assert len(heard) == 2
    shown = [header_of(one, "dpop") for one in asked]
    assert shown == [[f"a lease|POST|http://127.0.0.1:{port}/mcp?a=b|{nonce}"] for nonce in ("-", "n1", "n2")]


@pytest.mark.parametrize(
    "more",
    [
        ("401 Unauthorized", DEMAND),
        ("401 Unauthorized", "DPoP-Nonce: n1"),
        ("401 Unauthorized", 'WWW-Authenticate: DPoP error="invalid_token"', "DPoP-Nonce: n1"),
        ("401 Unauthorized", 'WWW-Authenticate: Bearer error="use_dpop_nonce"', "DPoP-Nonce: n1"),
        ("401 Unauthorized", 'WWW-Authenticate: DPoP error_description="use_dpop_nonce"', "DPoP-Nonce: n1"),
        ("401 Unauthorized", DEMAND, "DPoP-Nonce: n1", "DPoP-Nonce: n2"),
        ("401 Unauthorized", DEMAND, 'DPoP-Nonce: a"b'),
        ("401 Unauthorized", DEMAND, f"DPoP-Nonce: {'n' * 513}"),
        ("400 Bad Request", DEMAND, "DPoP-Nonce: n1"),
        ("500 Internal Server Error", DEMAND, "DPoP-Nonce: n1"),
        ("200 OK", DEMAND, "DPoP-Nonce: n1"),
    ],
    ids=str,
)
def test_nothing_is_sent_twice_that_may_have_been_done(more: tuple[str, ...]) -> None:
    status, *fields = more
    with answering(head(status, "text/html", *fields)) as (port, asked):
        said(f"http://127.0.0.1:{port}/", proofs=spoken)
    assert len(asked) == 1


def test_a_server_that_demands_one_for_ever_is_asked_twice() -> None:
    again = head("401 Unauthorized", "text/html", DEMAND, "DPoP-Nonce: n2")
    with answering(ASKED_FOR_IT, again) as (port, asked):
        heard, whys = said(f"http://127.0.0.1:{port}/", proofs=spoken)
    assert (heard, len(asked)) == ([], 2)
    assert "the status 401" in whys[0]


def test_what_is_bound_to_no_key_gets_no_proof_and_no_second_attempt() -> None:
    with answering(ASKED_FOR_IT) as (port, asked):
        said(f"http://127.0.0.1:{port}/")
    assert [header_of(one, "dpop") for one in asked] == [[]]
    assert header_of(asked[0], "authorization") == [SECRET[0][1]]


def test_without_a_proof_nothing_is_sent() -> None:
    with answering(head() + BODY) as (port, asked):
        heard, whys = said(f"http://127.0.0.1:{port}/", proofs=no_proof)
    assert (heard, b"".join(asked)) == ([], b"")
    assert "was not sent" in whys[0]


@pytest.mark.parametrize(("own", "shown"), [((), 1), ((("authorization", "Bearer x"),), 0), ((("X-Key", "x"),), 1)])
def test_a_proof_goes_with_the_token_that_it_is_for(own: Any, shown: int) -> None:
    placed = Placed(Where.HEADER, "Authorization", "DPoP t"), Placed(Where.HEADER, "X-Key", "y")
    standing = Lent(placed, (), "standing")

    async def once() -> None:
        nothing: Callable[[], None] = lambda: None  # noqa: E731
        done = asyncio.Event()
        far = Remote(
            Url.parse(f"http://127.0.0.1:{port}/"),
            standing,
            prove=spoken,
            on_line=lambda _: None,
            on_done=lambda *_: done.set(),
            on_room=nothing,
            on_end=nothing,
        )
        far.pause(False)
        far.send(ASK, own)
        async with asyncio.timeout(60):
            await done.wait()
            far.signal(15)
            await far.exited

    with answering(head() + BODY) as (port, asked):
        asyncio.run(once())
    assert len(header_of(asked[0], "dpop")) == shown
    assert header_of(asked[0], "authorization") == [own[0][1] if own and not shown else "DPoP t"]


@given(st.text(alphabet='DPoP ,="\terrouse_dpop_nonce\\', max_size=400))
def test_whatever_a_challenge_says_it_is_read_or_is_none(challenge: str) -> None:
    answer: Any = SimpleNamespace(status=401, headers=Message())
    answer.headers["WWW-Authenticate"] = challenge
    assert demands_nonce(answer) in {True, False}


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Transfer-Encoding", "Mcp-Session-Id", "DPoP", "A B", "", "a\r\nb"]
)
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


@pytest.mark.parametrize("how", ["ended", "cancelled"])
def test_a_server_that_goes_on_talking_is_hung_up_on(how: str) -> None:
    """Also one that says that it will close its connection, whose answer then has the socket."""
    full, hung_up = threading.Event(), threading.Event()
    line = b'data: {"jsonrpc":"2.0","method":"n","params":"' + b"x" * 10_000 + b'"}\n\n'

    def talk() -> None:
        connection, _ = listener.accept()
        with connection:
            request_on(connection)
            connection.sendall(head(kind="text/event-stream"))
            with suppress(OSError):
                connection.setblocking(False)
                while True:
                    connection.send(line)
            full.set()
            with suppress(OSError):
                connection.setblocking(True)
                while True:
                    connection.sendall(line)
            hung_up.set()

    async def whole() -> list[bytes]:
        heard: list[bytes] = []
        done = asyncio.Event()
        nothing: Callable[[], None] = lambda: None  # noqa: E731
        far = Remote(
            Url.parse(f"http://127.0.0.1:{listener.getsockname()[1]}/"),
            NOTHING_LENT,
            prove=no_proof,
            on_line=heard.append,
            on_done=lambda *_: done.set(),
            on_room=nothing,
            on_end=nothing,
        )
        meta = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
        far.send(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": meta}).encode())
        async with asyncio.timeout(60):
            assert await asyncio.to_thread(full.wait, 60)
            if how == "cancelled":
                cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
                far.send(json.dumps(cancel).encode())
                far.pause(False)
                await done.wait()
            far.signal(9)
            await far.exited
        return heard

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        assert asyncio.run(whole()) == [], "nothing of what waits in the socket"
        assert hung_up.wait(60)
        thread.join()
