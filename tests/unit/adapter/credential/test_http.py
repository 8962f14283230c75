"""A backend is asked once, within bounds, over TLS that was verified; and what it answers is whole, or nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from forestall.adapter.credential import line as lines
from forestall.adapter.credential.http import MAX_HEAD, MAX_KEPT, Answer, Ask, Trust, Unsent, Web, path
from forestall.core.ask import CannotDo
from forestall.core.errors import SetupError
from forestall.core.reason import Reason
from forestall.testing.ports import free_port
from tests.unit.adapter.credential.raw import Peer, Play, Raw
from tests.unit.adapter.oidc.site import WAIT_S, authority, certificate, context, roots

IMPATIENT_S = 0.3
"""Seconds that an answer may take where none comes."""

SECRET = "s3cret-of-the-test"


def patient(trust: Trust | None = None, **given: Any) -> Web:
    return Web(trust or Trust(), **{"total_s": WAIT_S, "silence_s": WAIT_S, **given})


def get(web: Web, url: str, **given: Any) -> Answer:
    return web.ask(Ask("GET", url, **given))


@contextmanager
def not_had(match: str | None = None) -> Iterator[list[CannotDo]]:
    """What is inside fails as the world's fault, and shows nothing of what was sent."""
    found: list[CannotDo] = []
    with pytest.raises(CannotDo, match=match) as caught:
        yield found
    found.append(caught.value)
    assert caught.value.reason is Reason.UNAVAILABLE
    assert SECRET not in repr(caught.value)
    assert caught.value.detail.endswith(".")


def hello(peer: Peer) -> None:
    while peer.hear():
        peer.answer(b'{"hello":1}')


def once(data: bytes) -> Play:
    """Each connection gets these bytes for its request, and its end."""

    def play(peer: Peer) -> None:
        peer.hear()
        peer.say(data)

    return play


def sized(status: str, body: bytes = b"", **headers: str) -> bytes:
    given = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
def ours(tmp_path: Path) -> Trust:
    file = tmp_path / "roots.pem"
    file.write_text(roots())
    return Trust(roots=file)


# -- what is sent


def test_a_form_is_posted_over_tls_that_was_verified(ours: Trust) -> None:
    with Raw(hello, name="127.0.0.1") as server:
        form = (("scope", "a b"), ("resource", "https://one"), ("resource", "https://two"))
        answer = patient(ours).ask(Ask("POST", f"{server.url}/token?x=1", {"Authorization": SECRET}, form=form))
    assert (answer.status, answer.good, answer.json()) == (200, True, {"hello": 1})
    head, body = server.heard[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /token?x=1 HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{server.port}".encode() in head.lower()
    assert b"application/x-www-form-urlencoded" in head
    assert SECRET.encode() in head
    assert body == b"scope=a+b&resource=https%3A%2F%2Fone&resource=https%3A%2F%2Ftwo"


def test_json_and_bytes_are_sent_as_they_are() -> None:
    with Raw(hello) as server:
        patient().ask(Ask("POST", server.url, json={"a": [1, "ä"]}))
        patient().ask(Ask("PUT", server.url, {"content-type": "text/plain"}, body=b"x=y"))
        patient().ask(Ask("DELETE", server.url))
    first, second, third = server.heard
    assert first.endswith(b'\r\n\r\n{"a":[1,"\\u00e4"]}')
    assert b"application/json" in first
    assert second.lower().count(b"content-type:") == 1
    assert second.endswith(b"\r\n\r\nx=y")
    assert b"content-length" not in third.lower()


@pytest.mark.parametrize("header", [{"A": "b\r\nC: d"}, {"A\r\nB": "c"}, {"A": "\0"}, {"A b": "c"}, {"A": "\u20ac"}])
def test_a_header_holds_no_second_one(header: dict[str, str]) -> None:
    with Raw(hello) as server, not_had("characters") as found:
        get(patient(), server.url, headers=header)
    assert isinstance(found[0], Unsent)
    assert server.heard == []


ELSEWHERE = (
    *(
        "http://example.org/",
        "ftp://127.0.0.1/",
        "https://a@127.0.0.1/",
        "https://127.0.0.1/#a",
        "https:///a",
        "",
        "/a",
    ),
    *("https://127.0.0.1/a b", "https://127.0.0.1/\r\nA: b", "https://127.0.0.1:99999/", "https://127.0.0.1/a/../b"),
)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_only_https_is_asked_and_http_of_this_machine(url: str) -> None:
    with not_had("not one of https") as found:
        get(patient(), url)
    assert isinstance(found[0], Unsent)


def test_a_path_is_made_of_segments_that_stay_segments() -> None:
    assert path("https://a/v1/", "x/../y", "ä?#") == "https://a/v1/x%2F..%2Fy/%C3%A4%3F%23"
    for climbs in ("..", ".", ""):
        with pytest.raises(ValueError, match="segment"):
            path("https://a", "b", climbs)


# -- whom it is sent to


@pytest.mark.parametrize(("name", "trusted"), [("127.0.0.2", "ours"), ("localhost", "ours"), ("127.0.0.1", "others")])
def test_a_server_that_is_somebody_else_is_not_asked(tmp_path: Path, name: str, trusted: str) -> None:
    file = tmp_path / "roots.pem"
    file.write_text(roots(trusted))
    with Raw(hello, name=name) as server, not_had("not who it should be") as found:
        get(patient(Trust(file)), server.url)
    assert isinstance(found[0], Unsent)
    assert server.heard == []


def test_a_server_of_our_own_is_no_authority_of_the_machine() -> None:
    with Raw(hello, name="127.0.0.1") as server, not_had("not who it should be"):
        get(patient(), server.url)
    assert server.heard == []


def test_a_server_without_tls_is_not_asked(ours: Trust) -> None:
    with Raw(lambda peer: peer.answer(b"{}")) as server, not_had("not reached") as found:
        get(patient(ours), server.url.replace("http:", "https:"))
    assert isinstance(found[0], Unsent)


def test_a_name_of_this_machine_that_leads_elsewhere_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is what the resolver makes of it."""
    with Raw(hello) as server:

        class Elsewhere(socket.socket):
            def getpeername(self) -> tuple[str, int]:
                return "192.0.2.1", 80

        monkeypatch.setattr(lines.socket, "socket", Elsewhere)
        with not_had("does not lead to this machine"):
            get(patient(), f"http://localhost:{server.port}/")
    assert server.heard == []


def test_a_name_is_looked_up() -> None:
    with Raw(hello) as server:
        assert get(patient(), f"http://localhost:{server.port}/").good
    assert f"host: localhost:{server.port}".encode() in server.heard[0].lower()


def test_a_resolver_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def hangs(*_: object, **__: object) -> None:
        ended.wait(WAIT_S)
        raise OSError

    monkeypatch.setattr(lines.socket, "getaddrinfo", hangs)
    try:
        with not_had("not reached"):
            get(Web(Trust(), total_s=IMPATIENT_S), "https://backend.example/")
    finally:
        ended.set()


def test_a_server_that_is_not_there_was_not_asked() -> None:
    port = free_port()
    with not_had("see that it is up") as found:
        get(patient(), f"http://127.0.0.1:{port}/")
    assert isinstance(found[0], Unsent)


def pair(folder: Path, seed: str = "ours") -> tuple[Path, Path]:
    """A client's certificate and key."""
    private = ec.generate_private_key(ec.SECP256R1())
    shown, key = folder / "client.pem", folder / "client.key"
    shown.write_bytes(certificate("127.0.0.9", private, authority(seed)).public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return shown, key


def asks_for_a_certificate() -> ssl.SSLContext:
    context.cache_clear()  # this one is changed, and nobody else's
    made = context("127.0.0.1")
    context.cache_clear()
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=roots())
    return made


def test_a_client_certificate_is_shown_to_a_server_that_asks_for_one(ours: Trust, tmp_path: Path) -> None:
    shown, key = pair(tmp_path)
    with Raw(hello, tls=asks_for_a_certificate()) as server:
        assert get(patient(Trust(ours.roots, shown, key)), server.url).good
        with not_had():
            get(patient(ours), server.url)
    assert len(server.heard) == 1


def test_files_are_read_again_when_they_change(ours: Trust, tmp_path: Path) -> None:
    assert ours.roots is not None
    web = patient(ours, keep=True)
    with Raw(hello, name="127.0.0.1") as server:
        assert get(web, server.url).good
        ours.roots.write_text(roots("others"))
        with not_had("not who it should be"):
            get(web, server.url)
        ours.roots.unlink()
        with not_had("cannot be read"):
            get(web, server.url)
    web.close()


def test_files_that_cannot_be_used_are_found_at_once(ours: Trust, tmp_path: Path) -> None:
    shown, key = pair(tmp_path)
    nothing = tmp_path / "nothing.pem"
    with pytest.raises(SetupError, match=r"nothing\.pem cannot be read"):
        patient(Trust(nothing))
    nothing.write_text("nothing")
    with pytest.raises(SetupError, match="does not hold certificates"):
        patient(Trust(nothing))
    with pytest.raises(SetupError, match="look at both files"):
        patient(Trust(ours.roots, shown, nothing))
    private = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(SetupError, match="without a password"):
        patient(Trust(ours.roots, shown, key))


# -- what is answered


def test_any_status_is_an_answer_and_no_redirect_is_followed() -> None:
    with Raw(once(sized("302 Found", b"", Location="https://elsewhere.example/"))) as server:
        answer = get(patient(), server.url)
    assert (answer.status, answer.good, len(server.heard)) == (302, False, 1)


def test_headers_are_by_name_in_lower_case() -> None:
    said = sized("400 Bad", b"{}", DPoP_Nonce="n-1")
    with Raw(once(said.replace(b"\r\n\r\n", b"\r\nVary: a\r\nVary: b\r\n\r\n", 1))) as server:
        answer = get(patient(), server.url)
    assert (answer.headers["dpop-nonce"], answer.headers["vary"]) == ("n-1", "a, b")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":1,"a":2}', b"[" * 1000, b'{"a":NaN}', b"\xff"])
def test_json_that_two_readers_read_differently_is_none(body: bytes) -> None:
    with Raw(once(sized("200 OK", body))) as server:
        answer = get(patient(), server.url)
    with not_had("one meaning"):
        answer.json()


def test_answers_in_pieces_are_put_together() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with Raw(once(b"HTTP/1.1 103 Early Hints\r\n\r\n" + said)) as server:
        assert get(patient(), server.url).body == b"abcde"


def test_an_answer_has_bounds() -> None:
    with Raw(once(sized("200 OK", b"a" * 100))) as server:
        assert get(patient(max_bytes=100), server.url).body == b"a" * 100
        with not_had("more than 99 bytes"):
            get(patient(max_bytes=99), server.url)


BROKEN = {
    "nothing": b"",
    "garbage": b"\x00\x01\x02 this is not http\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "no length": b"HTTP/1.1 200 OK\r\n\r\nwho knows where this ends",
    "another language": b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "only interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + sized("200 OK"),
    "a head without end": b"HTTP/1.1 200 OK\r\nA: " + b"a" * (MAX_HEAD + 65_536),
    "compressed": sized("200 OK", b"", Content_Encoding="gzip"),
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
}


@pytest.mark.parametrize("said", BROKEN)
@pytest.mark.parametrize("name", [None, "127.0.0.1"])
def test_what_is_not_an_answer_is_none(said: str, name: str | None, ours: Trust) -> None:
    with Raw(once(BROKEN[said]), name=name) as server, not_had() as found:
        patient(ours).ask(
            Ask("POST", server.url, {"Authorization": SECRET}, form=[("secret", SECRET)], idempotent=True)
        )
    assert not isinstance(found[0], Unsent)
    assert len(server.heard) == 1


def silent(peer: Peer) -> None:
    peer.hear()
    peer.server.ended.wait(WAIT_S)


def never_greets(peer: Peer) -> None:
    peer.server.ended.wait(WAIT_S)


def dripping(peer: Peer) -> None:
    peer.hear()
    peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not peer.server.ended.wait(0.02):
        peer.say(b" ")


@pytest.mark.parametrize("play", [silent, dripping])
@pytest.mark.parametrize("name", [None, "127.0.0.1"])
def test_an_answer_has_to_come_in_time(play: Play, name: str | None, ours: Trust) -> None:
    # a machine that is busy needs its time for TLS: then silence alone runs out
    given = (
        {"total_s": IMPATIENT_S} if name is None else {"total_s": WAIT_S if play is silent else 3.0, "silence_s": 1.0}
    )
    with Raw(play, name=name) as server, not_had("not in time"):
        get(Web(ours, **given), server.url)


def test_a_handshake_has_to_come_in_time(ours: Trust) -> None:
    with Raw(never_greets) as server, not_had("not reached"):
        get(Web(ours, total_s=IMPATIENT_S), server.url.replace("http:", "https:"))


def test_several_requests_share_the_time_of_one() -> None:
    now = [0.0]
    web = Web(Trust(), total_s=5, monotonic=lambda: now[0])
    with Raw(hello) as server:
        until = web.until()
        assert web.ask(Ask("GET", server.url), until=until).good
        now[0] = 5.0
        with not_had("not reached"):
            web.ask(Ask("GET", server.url), until=until)


def test_closing_ends_what_is_under_way_and_what_comes_later() -> None:
    begun = threading.Event()
    web = patient()

    def play(peer: Peer) -> None:
        peer.hear()
        begun.set()
        peer.server.ended.wait(WAIT_S)

    with Raw(play) as server, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(get, web, server.url)
        assert begun.wait(WAIT_S)
        web.close()
        with not_had():
            asking.result(WAIT_S)
        with not_had("ending"):
            get(web, server.url)
        web.close()
    assert len(server.heard) == 1


# -- a connection that is used again


def test_a_connection_is_used_once_unless_its_caller_says_otherwise() -> None:
    with Raw(hello) as server, closing(patient()) as web:
        get(web, server.url)
        get(web, server.url)
        assert server.connections == 2
    with Raw(hello) as server, closing(patient(keep=True)) as web:
        for _ in range(3):
            get(web, server.url)
        assert server.connections == 1


def test_a_connection_is_kept_over_tls_as_well(ours: Trust) -> None:
    with Raw(hello, name="127.0.0.1") as server, closing(patient(ours, keep=True)) as web:
        assert [get(web, server.url).good for _ in range(3)] == [True] * 3
        assert server.connections == 1


def test_what_came_twice_is_nobodys_answer() -> None:
    def twice(peer: Peer) -> None:
        while peer.hear():
            peer.say(sized("200 OK", b"mine") + sized("200 OK", b"stray"))

    with Raw(twice) as server, closing(patient(keep=True)) as web:
        assert [get(web, server.url).body for _ in range(3)] == [b"mine"] * 3
        assert server.connections == 3


def test_what_comes_while_nobody_asks_is_nobodys_answer(ours: Trust) -> None:
    for name in (None, "127.0.0.1"):
        strayed = threading.Event()

        def late(peer: Peer, strayed: threading.Event = strayed) -> None:
            peer.hear()
            peer.answer(b"mine")
            if peer.server.connections == 1:
                peer.say(sized("200 OK", b"stray"))
                strayed.set()
                peer.server.ended.wait(WAIT_S)

        with Raw(late, name=name) as server, closing(patient(ours, keep=True)) as web:
            assert get(web, server.url).body == b"mine"
            assert strayed.wait(WAIT_S)
            assert get(web, server.url).body == b"mine"
            assert server.connections == 2


def hangs_up_on_the_second(peer: Peer) -> None:
    peer.hear()
    peer.answer(b"first")
    if peer.server.connections == 1:
        peer.hear()


def test_what_got_no_answer_is_asked_again_only_where_that_changes_nothing() -> None:
    with Raw(hangs_up_on_the_second) as server, closing(patient(keep=True)) as web:
        get(web, server.url)
        with not_had():
            web.ask(Ask("POST", server.url))
        assert len(server.heard) == 2
    with Raw(hangs_up_on_the_second) as server, closing(patient(keep=True)) as web:
        get(web, server.url)
        assert web.ask(Ask("PUT", server.url, idempotent=True)).body == b"first"
        assert len(server.heard) == 3


def test_an_old_connection_and_one_of_another_server_are_not_used() -> None:
    now = [0.0]
    with Raw(hello) as server, Raw(hello) as other, closing(patient(keep=True, monotonic=lambda: now[0])) as web:
        get(web, server.url)
        get(web, other.url)
        assert (server.connections, other.connections) == (1, 1)
        now[0] += 10
        get(web, server.url)
        assert server.connections == 2


def test_many_at_once_each_have_their_own_answer() -> None:
    def echo(peer: Peer) -> None:
        while asked := peer.hear():
            peer.answer(asked.split(b" ")[1])

    with Raw(echo) as server, closing(patient(keep=True)) as web, ThreadPoolExecutor(8) as pool:
        asked = [f"/{number}" for number in range(64)]
        answers = list(pool.map(lambda each: get(web, server.url + each).body.decode(), asked))
        assert answers == asked
        assert len(web._kept) <= MAX_KEPT


def test_nothing_that_was_sent_or_answered_is_shown() -> None:
    asked = Ask(
        "POST", "https://a/", {"Authorization": SECRET}, form=[("a", SECRET)], json=SECRET, body=SECRET.encode()
    )
    answer = Answer("a", 200, {"a": SECRET}, SECRET.encode())
    assert SECRET not in f"{asked!r}{answer!r}"
