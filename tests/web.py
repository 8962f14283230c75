"""What tests of the HTTP listener share: the listener itself, and a client that sends whatever it likes."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from forestall.config import Http
from forestall.server.http.listener import Listener, listen
from forestall.server.http.message import Request, Response, Routes

WAIT_S = 60.0
"""Seconds after which something that has to happen has failed to; nothing waits for it to pass."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Line:
    """A connection to the listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, listener: Listener, tls: ssl.SSLContext | None = None) -> Line:
        name = None if tls is None else "127.0.0.1"
        opening = asyncio.open_connection(listener.address.host, listener.address.port, ssl=tls, server_hostname=name)
        return cls(*await asyncio.wait_for(opening, WAIT_S))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head: bool = False) -> Answer:
        async with asyncio.timeout(WAIT_S):
            data = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = data.decode().split("\r\n")[:-2]
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = 0 if head else int(headers.get("content-length", "0"))
            return Answer(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def rest(self) -> bytes:
        """Everything until the listener hangs up, which it has to."""
        async with asyncio.timeout(WAIT_S):
            data = b""
            with suppress(ConnectionError, ssl.SSLError):
                while more := await self.reader.read(65_536):
                    data += more
            return data

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


def request(listener: Listener, method: str = "GET", path: str = "/", body: bytes = b"", **headers: str) -> bytes:
    given = {"Host": listener.address.netloc, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body or method == "POST":
        given.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value != "-")]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


async def echo(asked: Request) -> Response:
    return Response(200, {"Content-Type": "text/plain"}, f"{asked.method} {asked.path} ".encode() + asked.body)


ECHO: Routes = {("GET", "/"): echo, ("POST", "/"): echo}


@asynccontextmanager
async def listening(
    routes: Routes = ECHO,
    *,
    complaints: list[str] | None = None,
    more: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Listener]:
    said: list[str] = [] if complaints is None else complaints
    http = Http(**{"listen": "127.0.0.1:0", **settings})
    listener = await listen(http, routes, complain=said.append, **(more or {}))
    try:
        yield listener
    finally:
        await asyncio.wait_for(listener.close(), WAIT_S)
    if complaints is None:
        assert said == []


@asynccontextmanager
async def line(listener: Listener, tls: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    opened = await Line.open(listener, tls)
    try:
        yield opened
    finally:
        await opened.close()


def play(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 4 * WAIT_S))


@contextmanager
def beside(routes: Routes, *, more: Mapping[str, Any] | None = None, **settings: Any) -> Iterator[str]:
    """The listener in a thread of its own, for clients that block. Its URL."""
    found: list[str] = []
    ready, loop, done = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        async with listening(routes, more=more, **settings) as listener:
            found.append(listener.url)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(WAIT_S)
        loop.close()
