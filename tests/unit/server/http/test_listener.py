from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from forestall.config import Http
from forestall.core.errors import SetupError, Unavailable
from forestall.server.http.listener import listen
from forestall.server.http.message import Request, Response, Routes, json_response
from tests.web import ECHO, Line, line, listening, play, request


def test_a_request_and_its_answer() -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(request(listener, "POST", body=b"hello"))
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, b"POST / hello")
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["content-type"] == "text/plain"
            assert "server" not in answer.headers
            assert listener.url == f"http://{listener.address.netloc}"

    play(scenario)


def test_what_a_route_is_given() -> None:
    seen: list[Request] = []

    async def route(asked: Request) -> Response:
        seen.append(asked)
        return json_response(200, {"a": "ä"})

    async def scenario() -> None:
        async with listening({("GET", "/a"): route}) as listener, line(listener) as client:
            client.send(request(listener, path="/a?b=c", DPoP="proof"))
            assert (await client.answer()).body == '{"a":"ä"}'.encode()
            (asked,) = seen
            assert (asked.method, asked.path, asked.query) == ("GET", "/a", "b=c")
            assert asked.url == f"{listener.url}/a"
            assert asked.headers["dpop"] == "proof"
            assert (asked.certificate, asked.chain) == (None, ())
            assert "proof" not in repr(asked)
            assert "b=c" not in repr(asked)

    play(scenario)


def test_methods_and_paths_that_are_not_there() -> None:
    async def scenario() -> None:
        async with listening({("GET", "/"): ECHO["GET", "/"]}) as listener, line(listener) as client:
            client.send(request(listener, "HEAD"))
            head = await client.answer(head=True)
            assert (head.status, head.headers["content-length"]) == (200, "7")
            client.send(request(listener, "OPTIONS"))
            options = await client.answer()
            assert (options.status, options.headers["allow"], options.body) == (204, "GET, HEAD, OPTIONS", b"")
            client.send(request(listener, "POST"))
            wrong = await client.answer()
            assert (wrong.status, wrong.headers["allow"], wrong.body) == (405, "GET, HEAD, OPTIONS", b"")
            for path in ("/a", "//", "/%2f", "/./", "/?/a", "/.."):
                client.send(request(listener, path=path))
                answer = await client.answer()
                assert (answer.status, answer.body) == ((200, b"GET / ") if path == "/?/a" else (404, b"")), path

    play(scenario)


def test_requests_that_come_at_once_on_one_connection_are_answered_in_order() -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(b"".join(request(listener, "POST", body=b"%d" % number) for number in range(50)))
            for number in range(50):
                assert (await client.answer()).body == b"POST / %d" % number

    play(scenario)


def test_two_hundred_requests_at_once() -> None:
    """None is answered until all are there."""

    async def scenario() -> None:
        count, all_here = 0, asyncio.Event()

        async def wait_for_all(asked: Request) -> Response:
            nonlocal count
            count += 1
            if count == 200:
                all_here.set()
            await all_here.wait()
            return Response(200, body=asked.body)

        async with listening({("POST", "/"): wait_for_all}, answer_timeout_ms=60_000) as listener:
            lines = await asyncio.gather(*(Line.open(listener) for _ in range(200)))
            for number, each in enumerate(lines):
                each.send(request(listener, "POST", body=b"%d" % number))
            answers = await asyncio.gather(*(each.answer() for each in lines))
            assert [answer.body for answer in answers] == [b"%d" % number for number in range(200)]
            await asyncio.gather(*(each.close() for each in lines))

    play(scenario)


def test_a_client_that_half_closes_is_still_answered() -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(request(listener) * 2)
            client.writer.write_eof()
            assert (await client.rest()).count(b"HTTP/1.1 200 OK") == 2

    play(scenario)


def test_a_client_that_asks_to_end_is_hung_up_on() -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(request(listener, Connection="close"))
            assert (await client.rest()).endswith(b"\r\n\r\nGET / ")

    play(scenario)


def test_a_client_that_waits_for_leave_gets_it() -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(request(listener, "POST", Expect="100-continue", Content_Length="2"))
            assert (await client.answer()).status == 100
            client.send(b"hi")
            assert (await client.answer()).body == b"POST / hi"

    play(scenario)


@pytest.mark.parametrize(
    "response",
    [
        Response(200, {"X": "a\r\nSet-Cookie: b"}),
        Response(200, {"X y": "a"}),
        Response(200, {"X": "ä"}),
        Response(999),
        {"status": 200},
        None,
    ],
    ids=str,
)
def test_a_route_that_answers_with_what_cannot_be_is_a_bare_500(response: Any) -> None:
    async def route(_asked: Request) -> Any:
        return response

    async def scenario() -> None:
        complaints: list[str] = []
        async with listening({("GET", "/"): route}, complaints=complaints) as listener, line(listener) as client:
            client.send(request(listener))
            answer = await client.answer()
            assert (answer.status, answer.body) == (500, b"")
            assert "set-cookie" not in answer.headers

    play(scenario)


def test_a_route_that_raises_is_a_bare_500_and_the_operator_is_told_what_is_no_secret() -> None:
    async def raises(asked: Request) -> Response:
        raise ValueError(asked.body.decode())

    def raises_at_once(asked: Request) -> Any:
        raise ValueError(asked.body.decode())

    async def cancels(asked: Request) -> Response:
        raise asyncio.CancelledError(asked.body.decode())

    async def scenario() -> None:
        complaints: list[str] = []
        routes: Routes = {("POST", "/a"): raises, ("POST", "/b"): raises_at_once, ("POST", "/c"): cancels}
        async with listening(routes, complaints=complaints) as listener, line(listener) as client:
            for path in "abc":
                client.send(request(listener, "POST", f"/{path}", b"a secret"))
                answer = await client.answer()
                assert (answer.status, answer.body) == (500, b"")
        assert complaints == [
            "A fault of Forestall's own, ValueError, in POST /a",
            "A fault of Forestall's own, ValueError, in POST /b",
            "A fault of Forestall's own, CancelledError, in POST /c",
        ]

    play(scenario)


def test_a_route_that_hangs_is_given_up_and_the_connection_goes_on() -> None:
    async def scenario() -> None:
        complaints: list[str] = []
        let_go = asyncio.Event()

        async def hangs(_asked: Request) -> Response:
            await asyncio.Event().wait()
            raise AssertionError

        async def will_not_end(_asked: Request) -> Response:
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    continue
            return Response(200)

        routes: Routes = {("GET", "/a"): hangs, ("GET", "/b"): will_not_end, **ECHO}
        async with (
            listening(routes, complaints=complaints, answer_timeout_ms=10) as listener,
            line(listener) as client,
        ):
            for path in ("/a", "/b"):
                client.send(request(listener, path=path))
                assert (await client.answer()).status == 503
            client.send(request(listener, "POST", body=b"x"))
            assert (await client.answer()).status == 200
            let_go.set()
        assert complaints == [
            "A request was given up after 0.01 s: GET /a",
            "A request was given up after 0.01 s: GET /b",
        ]

    play(scenario)


def test_what_is_being_answered_when_it_closes_is_answered_and_nothing_more() -> None:
    async def scenario() -> None:
        asked_for, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_asked: Request) -> Response:
            asked_for.set()
            await go_on.wait()
            return Response(200, body=b"done")

        async with listening({("GET", "/"): slow}) as listener:
            async with line(listener) as busy, line(listener) as idle:
                busy.send(request(listener) * 2)
                await asked_for.wait()
                closing = asyncio.create_task(listener.close(60))
                assert await idle.rest() == b""
                go_on.set()
                answer = await busy.answer()
                assert (answer.body, answer.headers["connection"]) == (b"done", "close")
                assert await busy.rest() == b""
                await closing
            with pytest.raises(ConnectionError):
                await Line.open(listener)

    play(scenario)


def test_what_is_not_answered_within_the_grace_is_cut_off() -> None:
    async def scenario() -> None:
        asked_for, cancelled = asyncio.Event(), asyncio.Event()

        async def hangs(_asked: Request) -> Response:
            asked_for.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

        async with listening({("GET", "/"): hangs}) as listener, line(listener) as client:
            client.send(request(listener))
            await asked_for.wait()
            await listener.close(0)
            assert await client.rest() == b""
            await cancelled.wait()

    play(scenario)


def test_the_longest_waiting_connection_makes_room_for_a_new_one() -> None:
    async def scenario() -> None:
        async with listening(max_connections=2) as listener:
            first, second = await Line.open(listener), await Line.open(listener)
            for each in (first, second):
                each.send(request(listener))
                await each.answer()
            async with line(listener) as third:
                assert await first.rest() == b""
                third.send(request(listener))
                assert (await third.answer()).status == 200
                second.send(request(listener))
                assert (await second.answer()).status == 200
            await first.close()
            await second.close()

    play(scenario)


def test_where_all_are_busy_nobody_new_comes_in() -> None:
    async def scenario() -> None:
        asked_for, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_asked: Request) -> Response:
            asked_for.set()
            await go_on.wait()
            return Response(200)

        async with listening({("GET", "/"): slow}, max_connections=1) as listener, line(listener) as busy:
            busy.send(request(listener))
            await asked_for.wait()
            async with line(listener) as late:
                assert await late.rest() == b""
            go_on.set()
            assert (await busy.answer()).status == 200

    play(scenario)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"listen": "0.0.0.0:0"}, "without TLS"),
        ({"listen": "[::]:0"}, "without TLS"),
        ({"listen": "192.0.2.1:0"}, "without TLS"),
        ({"listen": "forestall.example:0"}, "write an address"),
        ({"listen": "127.0.0.1"}, "write an address"),
        ({"listen": "127.0.0.1:65536"}, "write an address"),
        ({"listen": "127.0.0.1:-1"}, "write an address"),
        ({"listen": "127.1:0"}, "write an address"),
        ({"listen": ":0"}, "write an address"),
        ({"issuer": "http://forestall.example"}, "`issuer`"),
        ({"issuer": "https://forestall.example/?a"}, "`issuer`"),
        ({"issuer": "https://a@forestall.example"}, "`issuer`"),
        ({"issuer": "forestall.example"}, "`issuer`"),
        ({"tls_certificate": "a"}, "needs both"),
        ({"tls_key": "a"}, "needs both"),
        ({"client_ca": "a"}, "over TLS alone"),
        ({"tls_certificate": "missing", "tls_key": "missing"}, "cannot be read"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, str], words: str) -> None:
    async def scenario() -> None:
        with pytest.raises(SetupError, match=words):
            await listen(Http(**{"listen": "127.0.0.1:0", **settings}), {})

    play(scenario)


def test_an_address_that_is_taken() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(Unavailable, match="cannot listen"):
                await listen(Http(listen=f"127.0.0.1:{port}"), {})

    play(scenario)


def test_where_no_connection_can_be_accepted_it_goes_on_once_one_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left, as far as anybody can tell."""

    async def scenario() -> None:
        complaints: list[str] = []
        loop = asyncio.get_running_loop()
        accept, fail = loop.sock_accept, [OSError(24, "Too many open files"), ConnectionAbortedError()]

        async def accepting(bound: socket.socket) -> Any:
            if fail:
                raise fail.pop(0)
            return await accept(bound)

        monkeypatch.setattr(loop, "sock_accept", accepting)
        async with listening(complaints=complaints) as listener, line(listener) as client:
            client.send(request(listener))
            assert (await client.answer()).status == 200
        (complaint,) = complaints
        assert "Too many open files" in complaint

    play(scenario)
