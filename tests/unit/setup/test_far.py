"""Listing the tools of a remote server that is none, that hangs, refuses, lies, or talks without end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from forestall.core.errors import Unavailable
from forestall.setup import far
from forestall.setup.far import Address
from forestall.setup.listing import Limits, list_remote
from tests.points import until
from tests.unit.adapter.oidc.site import Site
from tests.unit.pep.test_remote import answering, head
from tests.unit.setup.scripted import TOOL

LIMITS = Limits(first=20, answer=20, settle=0.05)
SECRET = "pX7wkZq93kLmNtR5"
ADDRESS = {"Authorization": f"Bearer {SECRET}"}


def why(url: str, limits: Limits = LIMITS, **headers: str) -> str:
    with pytest.raises(Unavailable) as caught:
        list_remote(Address(url, headers), limits)
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (head("401 Unauthorized", "text/html") + b"no", "status 401: it wants a credential, or another one"),
        (head("403 Forbidden", "text/html") + b"no", "status 403: it wants a credential"),
        (head("404 Not Found", "text/html") + b"no", "nothing takes messages of MCP there"),
        (head("405 Method Not Allowed", "text/html"), "nothing takes messages of MCP there"),
        (
            head("307 Temporary Redirect", "text/html", "Location: http://127.0.0.1:9/"),
            "a redirect, which is not followed",
        ),
        (head("500 Oops", "text/html"), "status 500"),
        (head(kind="text/html") + b"<p>hello", "neither JSON nor a stream of events"),
        (head() + b"hello", "The message is not JSON"),
        (head() + b"[]", "not a message of MCP"),
        (head() + b'{"jsonrpc":"2.0","id":1,"id":2}', "occurs twice"),
        (head() + b'{"jsonrpc":"2.0","id":1,"result":{}}', "ended its answer early"),
        (head() + b'{"jsonrpc":"2.0","id":1}', "has no result"),
        (head("202 Accepted"), "ended its answer early"),
        (head(kind="text/event-stream") + b"data: {}\n\n", "ended its answer early"),
        (b"SSH-2.0-OpenSSH\r\n", "cannot be reached (BadStatusLine)"),
        (b"", "cannot be reached (RemoteDisconnected)"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(answer: bytes, says: str) -> None:
    with answering(answer) as (port, asked):
        said = why(f"http://127.0.0.1:{port}/mcp", **ADDRESS)
    assert says in said, said
    assert SECRET not in said
    assert f"Bearer {SECRET}".encode() in asked[0]


def test_what_a_server_says_of_a_secret_is_not_repeated() -> None:
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": f"bad {SECRET}"}}
    again = {**error, "id": 2}
    with answering(head() + json.dumps(error).encode(), head() + json.dumps(again).encode()) as (port, _):
        assert why(f"http://127.0.0.1:{port}/", **ADDRESS) == "the server refuses to list its tools: 'bad ***'"


def test_nobody_there_and_no_such_name_are_said() -> None:
    assert "cannot be reached (ConnectionRefusedError)" in why("http://127.0.0.1:9/")
    assert "its name is not known" in why("https://no-such-host.invalid/")


@pytest.mark.parametrize("name", ["127.0.0.1", "other.example"])
def test_a_certificate_that_nobody_vouches_for_is_said(name: str) -> None:
    with Site(lambda _: None, name=name) as site:
        said = why(f"{site.url}/", **ADDRESS)
    assert "its certificate is not one that this machine trusts" in said
    assert site.asked == []


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://example.org/", {}),
        ("https://u:p@example.org/", {}),
        ("https://127.0.0.1:9/", {"Host": "a"}),
        ("https://127.0.0.1:9/", {"Mcp-Session-Id": "a"}),
        ("https://127.0.0.1:9/", {"X-A": "a\r\nX-B: b"}),
        ("https://127.0.0.1:9/", {"X-A": "\u00e4"}),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_not(url: str, headers: dict[str, str]) -> None:
    assert "cannot be asked" in why(url, **headers)


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer(self, message)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.shutdown()


def say(handler: BaseHTTPRequestHandler, *messages: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    for message in messages:
        handler.wfile.write(b"data: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n\n")


RESULTS: dict[str, Any] = {
    "initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "far", "version": "1"}},
    "tools/list": {"tools": [TOOL]},
}


def test_it_lists_what_a_server_streams_and_passes_over_what_else_it_says() -> None:
    def answer(handler: BaseHTTPRequestHandler, message: dict[str, Any]) -> None:
        noise = {"method": "notifications/message", "params": {"level": "info", "data": "x"}}
        own = [{"id": message["id"], "result": RESULTS[message["method"]]}] if message["method"] in RESULTS else []
        say(handler, noise, *own)

    with serving(answer) as url:
        found = list_remote(Address(url), LIMITS)
    assert (found.about, list(found.tools.values())) == ("far 1", [TOOL])


def test_one_that_hangs_is_given_up() -> None:
    over = Event()

    def answer(handler: BaseHTTPRequestHandler, message: dict[str, Any]) -> None:
        over.wait(30)

    try:
        with serving(answer) as url:
            assert "did not answer initialize within 0.2 s" in why(url, Limits(first=0.2, answer=0.2, settle=0.01))
            over.set()
    finally:
        over.set()


def test_more_than_is_read_at_once_waits_at_the_server_and_comes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "MOST_WAITING", 4)
    many = 300

    def answer(handler: BaseHTTPRequestHandler, message: dict[str, Any]) -> None:
        say(handler, *({"method": "n", "params": {"number": number}} for number in range(many)))

    with serving(answer) as url, far.Far(Address(url)) as channel:
        channel.write(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}')
        came = [channel.read(time.monotonic() + 20) for _ in range(many)]
        assert [json.loads(line or b"{}")["params"]["number"] for line in came] == list(range(many))
        with pytest.raises(far.Unanswered, match="ended its answer early") as caught:
            channel.read(time.monotonic() + 20)
    assert caught.value.number == 1


def test_a_server_is_read_no_faster_than_it_is_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "MOST_WAITING", 4)
    many = 12

    def answer(handler: BaseHTTPRequestHandler, message: dict[str, Any]) -> None:
        say(handler, *[{"method": "n", "params": {}}] * many)

    with serving(answer) as url, far.Far(Address(url)) as channel:
        channel.write(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}')
        until(lambda: not channel._remote._flow.is_set())
        for _ in range(many):
            assert channel.read(time.monotonic() + 20) is not None
        assert channel._remote._flow.is_set()


def test_whoever_goes_while_a_server_talks_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "MOST_WAITING", 4)
    hung_up = Event()

    def answer(handler: BaseHTTPRequestHandler, message: dict[str, Any]) -> None:
        say(handler)
        try:
            while True:
                handler.wfile.write(b'data: {"jsonrpc":"2.0","method":"n","params":"' + b"x" * 100_000 + b'"}\n\n')
        except OSError:
            hung_up.set()

    with serving(answer) as url:
        with far.Far(Address(url)) as channel:
            channel.write(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}')
            assert channel.read(time.monotonic() + 20) is not None
        assert hung_up.wait(60)
        assert not channel._thread.is_alive()
