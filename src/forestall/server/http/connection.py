"""One client's connection: requests in order, one at a time, each wait within a bound."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

from forestall.server.http.message import Request, Response
from forestall.server.http.reader import Message, NotTaken, Reader
from forestall.server.http.router import Router, bare

if TYPE_CHECKING:
    from forestall.config import Http
    from forestall.server.http.address import Names

LINGER_S = 1.0
"""Seconds in which what a client goes on sending after a refusal is read away: hung up on at once, it would not see
the answer.
"""

MAX_LINGER = 256 * 1024
"""Bytes of the same."""

MAX_LIFE_S = 300
"""Seconds after which a connection takes no further request: what was verified when it began is verified anew."""


@dataclass(frozen=True, slots=True)
class House:
    """What all connections of a listener share."""

    limits: Http
    names: Names
    router: Router
    came: Callable[[Connection], None]
    gone: Callable[[Connection], None]


class Connection(asyncio.Protocol):
    """Reading is paused while a request is answered, so that nothing piles up behind it."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        limits = house.limits
        self._reader = Reader(max_header_bytes=limits.max_header_bytes, max_body_bytes=limits.max_body_bytes)
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed_request = False
        self._stuffed = self._last = False
        self._lingered: int | None = None
        self._since = self._idle_since = self._loop.time()
        self._certificate: bytes | None = None
        self._chain: tuple[bytes, ...] = ()

    @property
    def idle_since(self) -> float | None:
        """When it began to wait for a request; None where it has one."""
        return None if self._answering is not None or self._reader.begun else self._idle_since

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._house.came(self)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self._certificate, self._chain = _certificates(secured)
        # a client connects because it has a request
        self._arm(self._house.limits.handshake_timeout_ms / 1000, self.abort)

    def data_received(self, data: bytes) -> None:
        if self._lingered is not None:
            self._lingered += len(data)
            if self._lingered > MAX_LINGER:
                self.abort()
            return
        self._reader.feed(data)
        self._go_on()

    def pause_writing(self) -> None:
        self._stuffed = True

    def resume_writing(self) -> None:
        self._stuffed = False
        self._go_on()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._answering is None:
            self._house.gone(self)
        else:  # it counts for as long as it makes work: nobody begins more by hanging up
            self._answering.add_done_callback(lambda _: self._house.gone(self))

    # -- what the listener calls

    def finish(self) -> None:
        """Answer what is being answered, and end."""
        self._last = True
        if self._answering is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
        if self._transport is not None:
            self._transport.abort()

    # -- requests

    def _go_on(self) -> None:
        """Take the next request, if it is there and nothing is in its way."""
        if self._answering is not None or self._stuffed or self._lingered is not None or self._is_closing():
            return
        try:
            message = self._reader.next()
        except NotTaken as refusal:
            self._refuse(refusal.status)
            return
        if message is None:
            self._wait_for_more()
            return
        assert self._transport is not None
        self._transport.pause_reading()
        self._disarm()
        self._answering = self._loop.create_task(self._answer(message))

    def _wait_for_more(self) -> None:
        if self._reader.expects_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        if self._reader.begun and not self._timed_request:
            self._timed_request = True
            self._arm(self._house.limits.request_timeout_ms / 1000, self._too_late)

    async def _answer(self, message: Message) -> None:
        origin = self._house.names.origin(message.host)
        if origin is None:
            response = bare(HTTPStatus.MISDIRECTED_REQUEST)
        else:
            response = await self._house.router.answer(self._request(message, origin))
        if self._is_closing():
            return
        try:
            self._send(response, message)
        except (h11.LocalProtocolError, ValueError):  # a route gave a status or a header that cannot be
            self._send(bare(HTTPStatus.INTERNAL_SERVER_ERROR), message)
        self._answering = None
        if self._reader.wire.our_state is h11.DONE and self._reader.wire.their_state is h11.DONE:
            self._start_next()
        elif self._transport is not None:
            self._transport.close()
            self._arm(self._house.limits.request_timeout_ms / 1000, self.abort)

    def _request(self, message: Message, origin: str) -> Request:
        path, _, query = message.target.partition("?")
        return Request(
            method=message.method,
            path=path,
            query=query,
            headers=message.headers,
            body=message.body,
            url=origin + path,
            certificate=self._certificate,
            chain=self._chain,
        )

    def _start_next(self) -> None:
        assert self._transport is not None
        self._reader.start_next()
        self._timed_request = False
        self._idle_since = self._loop.time()
        self._arm(float(self._house.limits.idle_timeout_s), self.abort)
        self._transport.resume_reading()
        self._go_on()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer, and hear nothing more: where the next request would begin nobody can say."""
        self._last = True
        self._send(bare(status), None)
        self._lingered = 0
        self._arm(LINGER_S, self.abort)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _too_late(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    # -- answers

    def _send(self, response: Response, message: Message | None) -> None:
        status = HTTPStatus(response.status)
        last = self._last or self._loop.time() - self._since >= MAX_LIFE_S
        headers = {
            **response.headers,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Date": formatdate(time.time(), usegmt=True),
        }
        if status is not HTTPStatus.NO_CONTENT:
            headers["Content-Length"] = str(len(response.body))
        if last:
            headers["Connection"] = "close"
        head = h11.Response(status_code=status, headers=list(headers.items()), reason=status.phrase)
        body = b"" if message is not None and message.method == "HEAD" else response.body
        self._write(head, *((h11.Data(data=body),) if body else ()), h11.EndOfMessage())

    def _write(self, *events: h11.Event) -> None:
        parts = [self._reader.wire.send(event) or b"" for event in events]
        if self._transport is not None:
            self._transport.write(b"".join(parts))

    # -- time

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()


def _certificates(secured: ssl.SSLObject) -> tuple[bytes | None, tuple[bytes, ...]]:
    """The client's, where it showed one that was verified, and what it sent with it.

    On a session that was taken up again nothing was verified this time.
    """
    leaf = None if secured.session_reused else secured.getpeercert(binary_form=True)
    if leaf is None:
        return None, ()
    # public since Python 3.13; the same object has it before
    holder = secured if hasattr(secured, "get_unverified_chain") else getattr(secured, "_sslobj", None)
    listed = getattr(holder, "get_unverified_chain", lambda: None)() or [leaf]
    chain = tuple(each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in listed)
    return leaf, chain
