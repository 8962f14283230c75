"""What is fetched comes from who was asked, whole, and within bounds; else it is not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest

from forestall.adapter.oidc.web import Request, Web
from forestall.core.errors import Unavailable
from forestall.testing.ports import free_port
from tests.unit.adapter.oidc.site import WAIT_S, Asked, Site, roots

IMPATIENT_S = 0.3
"""Seconds that an answer may take where none comes."""


def get(url: str, web: Web | None = None, **given: Any) -> bytes:
    options: dict[str, Any] = {"max_bytes": 100, "loopback": False, "roots": roots(), **given}
    return (web or Web(total_s=WAIT_S, silence_s=WAIT_S))(Request(url, **options))


def hello(asked: Asked) -> None:
    asked.say(b"hello")


def test_a_document_is_fetched_over_tls_that_was_verified() -> None:
    with Site(hello) as site:
        assert get(site.url + "/a/b?c=d") == b"hello"
    ((method, path, headers, body),) = site.asked
    assert (method, path, body) == ("GET", "/a/b?c=d", b"")
    assert "Authorization" not in headers
    assert headers["Host"] == f"127.0.0.1:{site.port}"


def test_a_question_with_a_body_is_posted_with_our_token() -> None:
    with Site(lambda asked: asked.say(b"made", 201)) as site:
        assert get(site.url, body=b"{}", bearer="our-own") == b"made"
    ((method, path, headers, body),) = site.asked
    assert (method, path, body) == ("POST", "/", b"{}")
    assert (headers["Authorization"], headers["Content-Type"]) == ("Bearer our-own", "application/json")


@pytest.mark.parametrize(("name", "trusted"), [("127.0.0.2", "ours"), ("localhost", "ours"), ("127.0.0.1", "others")])
def test_a_server_that_is_somebody_else_is_not_asked(name: str, trusted: str) -> None:
    with Site(hello, name=name) as site, pytest.raises(Unavailable, match="not who it should be"):
        get(site.url, roots=roots(trusted))
    assert site.asked == []


def test_a_server_of_our_own_is_no_authority_of_the_machine() -> None:
    with Site(hello) as site, pytest.raises(Unavailable, match="not who it should be"):
        get(site.url, roots=None)


def test_authorities_have_to_be_certificates() -> None:
    with Site(hello) as site, pytest.raises(Unavailable, match="PEM"):
        get(site.url, roots="no certificates")


@pytest.mark.parametrize("status", [204, 206, 301, 302, 307, 308, 400, 401, 403, 404, 500, 503])
def test_nothing_but_success_is_an_answer(status: int) -> None:
    with (
        Site(lambda asked: asked.say(b"", status, Location=site.url + "/elsewhere")) as site,
        pytest.raises(Unavailable, match=f"status {status}"),
    ):
        get(site.url)
    assert len(site.asked) == 1


def test_an_answer_has_bounds() -> None:
    with Site(lambda asked: asked.say(b"a" * 100)) as site:
        assert get(site.url) == b"a" * 100
        with pytest.raises(Unavailable, match="more than 99 bytes"):
            get(site.url, max_bytes=99)


def test_an_answer_that_was_cut_short_is_none() -> None:
    with Site(lambda asked: asked.say(b"short", Content_Length="50")) as site, pytest.raises(Unavailable):
        get(site.url)


def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    with (
        Site(lambda asked: asked.say(b"", Content_Encoding="gzip")) as site,
        pytest.raises(Unavailable, match="encoding"),
    ):
        get(site.url)


def silent(ended: threading.Event) -> Callable[[Asked], None]:
    def answer(_: Asked) -> None:
        ended.wait(WAIT_S)

    return answer


def dripping(ended: threading.Event) -> Callable[[Asked], None]:
    def answer(asked: Asked) -> None:
        asked.send_response(200)
        asked.end_headers()
        while not ended.wait(0.02):
            asked.wfile.write(b" ")

    return answer


@pytest.mark.parametrize("answer", [silent, dripping])
def test_an_answer_has_to_come_in_time(answer: Callable[[threading.Event], Callable[[Asked], None]]) -> None:
    ended = threading.Event()
    with Site(answer(ended)) as site:
        try:
            with pytest.raises(Unavailable):
                get(site.url, Web(total_s=IMPATIENT_S), max_bytes=10**9)
        finally:
            ended.set()


def test_closing_ends_what_is_under_way_and_what_comes_later() -> None:
    begun, ended = threading.Event(), threading.Event()
    web = Web(total_s=WAIT_S, silence_s=WAIT_S)

    def answer(_: Asked) -> None:
        begun.set()
        ended.wait(WAIT_S)

    with Site(answer) as site:
        refused: list[Unavailable] = []

        def ask() -> None:
            with pytest.raises(Unavailable) as caught:
                get(site.url, web)
            refused.append(caught.value)

        asking = threading.Thread(target=ask)
        asking.start()
        assert begun.wait(WAIT_S)
        web.close()
        asking.join(WAIT_S)
        assert len(refused) == 1
        ended.set()
        with pytest.raises(Unavailable, match="ending"):
            get(site.url, web)
        web.close()
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "https://a@127.0.0.1/", "https://127.0.0.1/#a", "https:///a", ""]
)
def test_only_https_is_asked(url: str) -> None:
    with pytest.raises(Unavailable, match="address"):
        get(url)


def test_http_is_for_this_machine_and_only_where_it_may_be() -> None:
    with Site(hello, name=None) as site:
        assert get(site.url, loopback=True) == b"hello"
        assert get(f"http://localhost:{site.port}/", loopback=True) == b"hello"
        with pytest.raises(Unavailable, match="https"):
            get(site.url)
        with pytest.raises(Unavailable, match="https"):
            get("http://example.org/", loopback=True)


def test_a_name_of_this_machine_that_leads_elsewhere_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is what the resolver makes of it."""
    with Site(hello, name=None) as site:
        real = socket.create_connection

        class Elsewhere:
            def __init__(self, line: socket.socket) -> None:
                self.line = line

            def __getattr__(self, name: str) -> Any:
                return getattr(self.line, name)

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                self.line.close()

            def getpeername(self) -> tuple[str, int]:
                return "192.0.2.1", 80

        monkeypatch.setattr(socket, "create_connection", lambda *a, **k: Elsewhere(real(*a, **k)))
        with pytest.raises(Unavailable, match="does not lead to this machine"):
            get(f"http://localhost:{site.port}/", loopback=True)
    assert site.asked == []


def test_a_server_that_is_not_there_does_not_answer() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match="see that it is up"):
        get(f"https://127.0.0.1:{port}/")


def test_nothing_that_was_sent_is_shown() -> None:
    request = Request("https://127.0.0.1/", 1, loopback=False, bearer="s3cret", body=b"s3cret")
    assert "s3cret" not in repr(request)
    with Site(lambda asked: asked.say(b"", 403)) as site, pytest.raises(Unavailable) as caught:
        get(site.url, bearer="s3cret", body=b"s3cret")
    assert "s3cret" not in str(caught.value)
