"""A reverse proxy in front of a server that nobody can change: what has no permit does not get there.

HTTP/1.1 on both sides, over `h11`. One request of a client at a time; the request is kept until it was verified, the
answer is passed on as it comes. Each goes to the upstream on a connection of its own. Everything has a bound.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from forestall_edge.gate import MAX_BODY, Gate, Incoming, Passed
from forestall_edge.refusal import Reason, Refused

_log = logging.getLogger("forestall_edge")

CHUNK = 65_536

HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"host",
        b"content-length",
    }
)
"""Of one connection (RFC 9110, 7.6.1), or written anew."""

OWN = frozenset({b"forestall-permit"})
"""Never passed on, whatever the gate says."""


@dataclass(frozen=True, slots=True)
class Limits:
    connections: int = 128
    """Of clients at once; more are closed at once."""
    head: int = 32_768
    """Bytes of a request line and its headers, and of an answer's."""
    body: int = MAX_BODY
    """Bytes of a request's body."""
    request_s: float = 30.0
    """Seconds for a whole request, from its first wait to its last byte."""
    connect_s: float = 10.0
    """Seconds to reach the upstream."""
    silent_s: float = 300.0
    """Seconds in which the upstream says nothing, or the client takes nothing."""


@dataclass(frozen=True, slots=True)
class Upstream:
    host: str
    port: int
    tls: ssl.SSLContext | None
    name: str
    """What its `Host` is."""
    path: str
    """What its paths begin with, without a slash at the end."""

    @classmethod
    def at(cls, url: str) -> Upstream:
        """Raises ValueError: not an http or https URL of a host."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in url:
            raise ValueError("the upstream is an http or https URL, such as http://127.0.0.1:8000")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        return cls(parts.hostname, port, tls, parts.netloc, parts.path.rstrip("/"))


class Proxy:
    def __init__(self, gate: Gate, upstream: Upstream, limits: Limits = Limits()) -> None:
        self._gate, self._upstream, self._limits = gate, upstream, limits
        self._open = 0

    async def serve(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        """Listens, until the server is closed. Raises OSError."""
        return await asyncio.start_server(self._client, host, port, ssl=tls, limit=CHUNK)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= self._limits.connections:
            writer.transport.abort()
            return
        self._open += 1
        try:
            await _Exchange(self._gate, self._upstream, self._limits, reader, writer).run()
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.IncompleteReadError):
            pass  # of this connection alone, and whoever was on it is gone or not to be talked to
        finally:
            self._open -= 1
            writer.close()


class _Exchange:
    """Of one client's connection."""

    def __init__(
        self,
        gate: Gate,
        upstream: Upstream,
        limits: Limits,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._gate, self._upstream, self._limits = gate, upstream, limits
        self._reader, self._writer = reader, writer
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.request_s):
                    head = await self._head()
                    if head is None:
                        return
                    request = await self._whole(head)
            except Refused as refused:
                _log.warning("refused: %s", refused)
                await self._say(413 if refused.reason is Reason.TOO_LARGE else 400, b"{}", close=True)
                return
            except h11.RemoteProtocolError as error:
                await self._say(error.error_status_hint, b"{}", close=True)
                return
            await self._go_on(request)
            if self._client.our_state is not h11.DONE or self._client.their_state is not h11.DONE:
                return
            self._client.start_next_cycle()

    # -- the request

    async def _head(self) -> h11.Request | None:
        """None where the client leaves between two requests."""
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        if len(event.target) + sum(len(name) + len(value) for name, value in event.headers) > self._limits.head:
            raise h11.RemoteProtocolError("more than a request may have before its body", error_status_hint=431)
        return event  # h11 itself bounds what is not whole yet, and no more

    async def _event(self) -> object:
        """The next that the client said, whole."""
        while (event := self._client.next_event()) is h11.NEED_DATA:
            if self._client.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            self._client.receive_data(await self._reader.read(CHUNK))
        return event

    async def _whole(self, head: h11.Request) -> Incoming:
        """Raises Refused: too_large, bad_arguments."""
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > self._limits.body:
                raise Refused(Reason.TOO_LARGE)
        if not isinstance(event, h11.EndOfMessage):
            raise Refused(Reason.BAD_ARGUMENTS, "no whole request")
        target, method = head.target.decode("ascii"), head.method.decode("ascii")
        if not target.startswith("/") or "#" in target or method in {"CONNECT", "TRACE"}:
            raise Refused(Reason.BAD_ARGUMENTS, "no request for a path")
        path, _, query = target.partition("?")
        return Incoming(method, path, query, list(head.headers), bytes(body))

    # -- on to the upstream

    async def _go_on(self, request: Incoming) -> None:
        try:
            passed = await asyncio.to_thread(self._gate.check, request)
        except Refused as refused:
            _log.warning("refused: %s", refused)
            await self._say(403, self._gate.answer(request))
            return
        upstream = self._upstream
        try:
            async with asyncio.timeout(self._limits.connect_s):
                reader, writer = await asyncio.open_connection(upstream.host, upstream.port, ssl=upstream.tls)
        except (OSError, TimeoutError) as error:
            _log.warning("the upstream cannot be reached (%s)", type(error).__name__)
            await self._say(502, b"{}")
            return
        try:
            await self._forward(request, passed, reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            if self._client.our_state is not h11.SEND_RESPONSE:
                raise
            _log.warning("the upstream did not answer (%s)", type(error).__name__)
            await self._say(502, b"{}", close=True)
        finally:
            writer.transport.abort()

    async def _forward(
        self, request: Incoming, passed: Passed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send it, and stream the answer; a client that leaves ends both."""
        server = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limits.head)
        target = self._upstream.path + request.path + (f"?{request.query}" if request.query else "")
        headers = [(name, value) for name, value in passed.headers if name not in HOP | OWN]
        headers += [(b"host", self._upstream.name.encode()), (b"connection", b"close")]
        if passed.body or request.method not in {"GET", "HEAD", "DELETE", "OPTIONS"}:
            headers.append((b"content-length", str(len(passed.body)).encode()))
        start = h11.Request(method=request.method, target=target, headers=_named(request, headers))
        for event in (start, *([h11.Data(data=passed.body)] if passed.body else []), h11.EndOfMessage()):
            writer.write(server.send(event) or b"")
        async with asyncio.timeout(self._limits.silent_s):
            await writer.drain()
        answering = asyncio.ensure_future(self._answer(server, reader))
        leaving = asyncio.ensure_future(self._until_gone())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
            else:
                raise ConnectionError("the client left")
        finally:
            for work in (answering, leaving):
                work.cancel()
            await asyncio.wait({answering, leaving})

    async def _until_gone(self) -> None:
        """Return once the client has closed its side. What it sends meanwhile is its next request, and kept."""
        kept = 0
        while chunk := await self._reader.read(CHUNK):
            self._client.receive_data(chunk)
            kept += len(chunk)
            if kept > self._limits.head:
                raise ConnectionError("the client sends more than one request ahead")
        self._client.receive_data(b"")

    async def _answer(self, server: h11.Connection, reader: asyncio.StreamReader) -> None:
        """What the upstream says, as it comes."""
        begun = False
        while True:
            async with asyncio.timeout(self._limits.silent_s):
                event = server.next_event()
                if event is h11.NEED_DATA:
                    server.receive_data(await reader.read(CHUNK))
                    continue
                match event:
                    case h11.InformationalResponse(status_code=101):
                        raise ConnectionError("the upstream changes the protocol")
                    case h11.Response():
                        begun = True
                        headers = [
                            (name, value) for name, value in event.headers if name not in HOP - {b"content-length"}
                        ]
                        await self._send(
                            h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
                        )
                    case h11.Data():
                        await self._send(h11.Data(data=event.data))
                    case h11.EndOfMessage():
                        await self._send(h11.EndOfMessage())
                        return
                    case h11.ConnectionClosed():
                        raise ConnectionError("the upstream ended" + (" in its answer" if begun else ""))
                    case _:
                        pass

    # -- back to the client

    async def _say(self, status: int, body: bytes, *, close: bool = False) -> None:
        """An answer of our own."""
        if self._client.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
        ]
        headers += [("connection", "close")] if close else []
        with suppress(h11.LocalProtocolError):
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                await self._send(event)

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._client.send(event) or b"")
        async with asyncio.timeout(self._limits.silent_s):
            await self._writer.drain()


def _named(request: Incoming, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without what the client's own `Connection` says is of its connection."""
    spoken = [value for name, value in request.headers if name == b"connection"]
    named = {each.strip().lower() for value in spoken for each in value.split(b",")}
    return [
        (name, value)
        for name, value in headers
        if name in {b"host", b"connection", b"content-length"} or name not in named
    ]
