"""Clients that lie about HTTP, are slow, or never end: refused or hung up on, and the others notice nothing."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from forestall.server.http.message import Request, Response
from tests.points import until_async
from tests.web import ECHO, Line, line, listening, play, request

SMUGGLED = b"GET /secret HTTP/1.1\r\nHost: %s\r\n\r\n"

HOSTILE = {
    "a length and a coding": (400, b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
    "a coding and a length": (400, b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
    "a coding in other letters": (411, b"Transfer-Encoding: cHuNkEd"),
    "a coding after a blank": (411, b"Transfer-Encoding:\tchunked"),
    "two codings": (411, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    "a coding with a blank before its colon": (400, b"Transfer-Encoding : chunked"),
    "a folded coding": (400, b"Transfer-Encoding:\r\n chunked"),
    "two lengths": (400, b"Content-Length: 0\r\nContent-Length: 5"),
    "a length behind a bare line feed": (400, b"X: a\nContent-Length: 5"),
    "a length behind a bare carriage return": (400, b"X: a\rContent-Length: 5"),
    "two hosts": (400, b"Host: elsewhere.example"),
}


@pytest.mark.parametrize(("status", "lines"), HOSTILE.values(), ids=HOSTILE)
def test_nothing_behind_a_request_of_two_readings_is_read(status: int, lines: bytes) -> None:
    """A proxy in front and we could disagree where it ends: so the connection does."""
    asked: list[str] = []

    async def secret(request: Request) -> Response:
        asked.append(request.path)
        return Response(200)

    async def scenario() -> None:
        async with listening({**ECHO, ("GET", "/secret"): secret}) as listener, line(listener) as client:
            host = listener.address.netloc.encode()
            client.send(b"POST / HTTP/1.1\r\nHost: " + host + b"\r\n" + lines + b"\r\n\r\n0\r\n\r\n" + SMUGGLED % host)
            answer = await client.answer()
            assert (answer.status, answer.body) == (status, b"")
            assert answer.headers["connection"] == "close"
            assert await client.rest() == b""
        assert asked == []

    play(scenario)


@pytest.mark.parametrize("host", ["rebound.example", "elsewhere.example:80", "127.0.0.1:1", "127.0.0.1", ""])
def test_a_request_for_another_host_reaches_no_route(host: str) -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(request(listener, Host=host))
            answer = await client.answer()
            assert (answer.status, answer.body) == (421, b"")

    play(scenario)


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1/", "http://elsewhere.example/", "*", "/#", "/\xe4", "elsewhere:443"]
)
def test_targets_of_a_proxy_or_of_nobody(target: str) -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(request(listener, path=target))
            assert (await client.answer()).status == 400

    play(scenario)


def test_a_body_of_the_limit_and_one_byte_over_it() -> None:
    async def scenario() -> None:
        async with listening(max_body_bytes=1024) as listener, line(listener) as client:
            client.send(request(listener, "POST", body=b"x" * 1024))
            assert (await client.answer()).status == 200
            client.send(request(listener, "POST", body=b"x" * 1025))
            assert (await client.answer()).status == 413
            assert await client.rest() == b""

    play(scenario)


def test_a_body_that_never_ends_is_read_away_for_a_while_and_cut_off() -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(request(listener, "POST", Content_Length="9999999999"))

            async def flood() -> None:
                while True:
                    client.send(b"x" * 65_536)
                    await client.writer.drain()

            flooding = asyncio.create_task(flood())
            assert (await client.answer()).status == 413
            await asyncio.wait([flooding])
            assert isinstance(flooding.exception(), ConnectionError)

    play(scenario)


def test_a_head_that_never_ends() -> None:
    async def scenario() -> None:
        async with listening() as listener, line(listener) as client:
            client.send(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 10_000)
            assert (await client.answer()).status == 431

    play(scenario)


@pytest.mark.parametrize(
    "part", [b"G", b"GET / HTTP/1.1\r\nHost: h\r\n", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nx"]
)
def test_a_request_that_does_not_come_to_its_end(part: bytes) -> None:
    async def scenario() -> None:
        async with listening(request_timeout_ms=10) as listener, line(listener) as client:
            client.send(part)
            assert (await client.answer()).status == 408
            assert await client.rest() == b""

    play(scenario)


def test_a_slow_client_gets_no_more_time_for_each_byte() -> None:
    async def scenario() -> None:
        async with listening(request_timeout_ms=500) as listener, line(listener) as client:

            async def drip() -> None:
                for byte in request(listener, X="x" * 16_000):
                    client.send(bytes([byte]))
                    await client.writer.drain()
                    await asyncio.sleep(0.001)

            dripping = asyncio.create_task(drip())
            assert (await client.answer()).status == 408
            dripping.cancel()
            await asyncio.wait([dripping])

    play(scenario)


def test_a_connection_on_which_nothing_is_asked() -> None:
    async def scenario() -> None:
        async with listening(handshake_timeout_ms=10) as listener, line(listener) as client:
            assert await client.rest() == b""

    play(scenario)


def test_a_client_that_does_not_read_its_answers_is_hung_up_on() -> None:
    big = Response(200, body=b"x" * 1_000_000)

    asked = []

    async def route(request: Request) -> Response:
        asked.append(request)
        return big

    async def scenario() -> None:
        async with listening({("GET", "/"): route}, idle_timeout_s=1) as listener:
            client = await asyncio.open_connection(*listener.address.netloc.split(":"), limit=1024)
            client[1].write(request(listener) * 20)
            await until_async(lambda: bool(asked) and listener.connections == 0)
            client[1].close()

    play(scenario)


def test_clients_that_are_gone_before_their_answer_leave_nothing_behind() -> None:
    async def scenario() -> None:
        came, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def slow(_asked: Request) -> Response:
            came.release()
            await go_on.wait()
            return Response(200)

        async with listening({("GET", "/"): slow}) as listener:
            lines = [await Line.open(listener) for _ in range(20)]
            for each in lines:
                each.send(request(listener))
            for _ in lines:
                await came.acquire()
            for each in lines:
                linger = struct.pack("ii", 1, 0)  # a reset
                each.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                await each.close()
            go_on.set()
            await until_async(lambda: listener.connections == 0)
            async with line(listener) as client:
                client.send(request(listener))
                assert (await client.answer()).status == 200

    play(scenario)


def test_many_slow_clients_do_not_keep_an_honest_one_out() -> None:
    async def scenario() -> None:
        async with listening(max_connections=8, request_timeout_ms=100) as listener:
            slow = [await Line.open(listener) for _ in range(8)]
            for each in slow:
                each.send(b"GET / HTTP/1.1\r\n")
            for each in slow:
                await each.rest()
                await each.close()
            async with line(listener) as client:
                client.send(request(listener))
                assert (await client.answer()).status == 200

    play(scenario)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"\0" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n"]
)
def test_other_protocols(data: bytes) -> None:
    async def scenario() -> None:
        async with listening(request_timeout_ms=100) as listener, line(listener) as client:
            client.send(data)
            assert (await client.answer()).status in {400, 408, 505}
            assert await client.rest() == b""

    play(scenario)
