"""Bytes to requests, strictly: what two readers could understand in two ways is refused.

h11 reads the request line, the headers and the order of things (RFC 9112). It is shown whole messages alone, which
were looked at here first, because it is kinder than a decision point may be: it takes bare line feeds, folded headers,
control characters and two equal lengths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import h11

MAX_HEADERS = 100

END = b"\r\n\r\n"

MAY_COME_AGAIN = frozenset(
    {"accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "connection", "forwarded"}
    | {"pragma", "te", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
)
"""Lists (RFC 9110, 5.3), of which none is used to decide anything. Two of any other header are two meanings."""

_LENGTH = re.compile(rb"[0-9]{1,10}")
_VALUE = re.compile(r"[\t !-~]*")
_TARGET = re.compile(r"/[!-\"$->@-~]*(\?[!-\"$-~]*)?")
"""In origin form, without a fragment. We are nobody's proxy, so that there is no other form to take."""

_CONTROL = re.compile(rb"[\0\r\n]")


class NotTaken(Exception):
    """What came is no request that is taken. What follows it on the connection has no meaning."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class Message:
    """A whole request."""

    method: str
    target: str
    headers: dict[str, str]
    host: str
    body: bytes


class Reader:
    """One connection's requests, one after the other."""

    def __init__(self, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self.wire = h11.Connection(h11.SERVER, max_incomplete_event_size=max_header_bytes)
        """To answer with."""
        self._max_head, self._max_body = max_header_bytes, max_body_bytes
        self._buffer = bytearray()
        self._looked_at = 0
        self._head: _Head | None = None

    @property
    def begun(self) -> bool:
        """Has some of a request come, and not all of it?"""
        return bool(self._buffer) or self._head is not None

    @property
    def expects_continue(self) -> bool:
        """Does the client wait for `100 Continue` before it sends the rest (RFC 9110, 10.1.1)?"""
        waits = self._head is not None and self._head.expects and len(self._buffer) < self._head.length
        return waits and self.wire.they_are_waiting_for_100_continue

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Message | None:
        """The next request, if all of it is there.

        Raises:
            NotTaken: it is none, or larger than it may be. The connection has to end.
        """
        if self._head is None:
            end = self._find_end()
            if end is None:
                return None
            self._head = self._read_head(bytes(self._buffer[:end]))
            del self._buffer[:end]
        head = self._head
        if len(self._buffer) < head.length:
            return None
        body = bytes(self._buffer[: head.length])
        del self._buffer[: head.length]
        self._head, self._looked_at = None, 0
        if body:  # nothing would mean that the client has hung up
            self.wire.receive_data(body)
        while not isinstance(self._next_event(), h11.EndOfMessage):
            pass  # the body, which we have
        return Message(head.method, head.target, head.headers, head.headers["host"], body)

    def start_next(self) -> None:
        """The last request was answered."""
        self.wire.start_next_cycle()

    def _find_end(self) -> int | None:
        """Where the head ends. Raises NotTaken as soon as it cannot become one, or is too long."""
        start = max(self._looked_at - len(END), 0)
        found = self._buffer.find(END, start)
        stop = len(self._buffer) if found < 0 else found + len(END)
        line = self._buffer.find(b"\n", start, stop)
        while line >= 0:
            if line == 0 or self._buffer[line - 1] != 0x0D:
                raise NotTaken(HTTPStatus.BAD_REQUEST)
            line = self._buffer.find(b"\n", line + 1, stop)
        if stop > self._max_head:
            raise NotTaken(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._looked_at = stop
        return None if found < 0 else stop

    def _read_head(self, data: bytes) -> _Head:
        lines = data[: -len(END)].split(b"\r\n")
        if any(not line or _CONTROL.search(line) or line[:1] in {b" ", b"\t"} for line in lines):
            raise NotTaken(HTTPStatus.BAD_REQUEST)
        if len(lines) - 1 > MAX_HEADERS:
            raise NotTaken(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        # before h11, which would merge two lengths and put a coding before a length
        headers = [(name.lower(), value) for name, _, value in (line.partition(b":") for line in lines[1:])]
        lengths = [value.strip(b" \t") for name, value in headers if name == b"content-length"]
        if any(name == b"transfer-encoding" for name, _ in headers):
            raise NotTaken(HTTPStatus.BAD_REQUEST if lengths else HTTPStatus.LENGTH_REQUIRED)
        if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            raise NotTaken(HTTPStatus.BAD_REQUEST)
        self.wire.receive_data(data)
        request = self._next_event()
        if not isinstance(request, h11.Request):
            raise NotTaken(HTTPStatus.BAD_REQUEST)
        return self._checked(request)

    def _checked(self, request: h11.Request) -> _Head:
        if request.http_version != b"1.1":
            raise NotTaken(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        target, headers = request.target.decode("ascii"), _headers(request.headers)
        if not _TARGET.fullmatch(target) or "host" not in headers:
            raise NotTaken(HTTPStatus.BAD_REQUEST)
        length = int(headers.get("content-length", "0"))
        if length > self._max_body:
            raise NotTaken(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        expects = headers.get("expect")
        if expects is not None and expects.lower() != "100-continue":
            raise NotTaken(HTTPStatus.EXPECTATION_FAILED)
        return _Head(request.method.decode("ascii"), target, headers, length, expects is not None)

    def _next_event(self) -> object:
        try:
            return self.wire.next_event()
        except h11.RemoteProtocolError as error:
            raise NotTaken(HTTPStatus(error.error_status_hint)) from None


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    target: str
    headers: dict[str, str]
    length: int
    expects: bool


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("ascii").lower(), value.decode("latin-1")
        if not _VALUE.fullmatch(text) or (key in found and key not in MAY_COME_AGAIN):
            raise NotTaken(HTTPStatus.BAD_REQUEST)
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
