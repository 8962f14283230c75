"""Ask a configured server for one small document, over TLS that was verified, within bounds of time and size.

No redirect is followed and no proxy is used: where a document comes from is configured. `http` is for this machine
alone, and only where a rule lets it be; then the connection itself has to lead to a loopback address.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from forestall.core.errors import Unavailable
from forestall.proof.fault import InvalidProof
from forestall.proof.url import require_location

TOTAL_S = 10.0
"""Seconds for a whole answer, however slowly its bytes come. Looking up the name of the host is not among them."""

SILENCE_S = 5.0
"""Seconds without a byte."""

GOOD = frozenset({http.HTTPStatus.OK, http.HTTPStatus.CREATED})


@dataclass(frozen=True, slots=True)
class Request:
    """GET, or POST of JSON where there is a body."""

    url: str
    max_bytes: int
    """Of the answer."""
    loopback: bool
    """Let the address be http on this machine."""
    roots: str | None = field(default=None, repr=False)
    """PEM of the authorities that the server's certificate may come from; None for the machine's."""
    bearer: str | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)


Fetch = Callable[[Request], bytes]
"""The whole answer to a request. Raises Unavailable: it was not reached, is not who it should be, or did not answer
with a document of some size in time. The message holds nothing of what was sent.
"""


class Web:
    """Satisfies `Fetch`, from any thread. `close` ends what is under way, for good."""

    def __init__(self, *, total_s: float = TOTAL_S, silence_s: float = SILENCE_S) -> None:
        """`total_s`: seconds for a whole answer; `silence_s`: seconds without a byte."""
        self._total_s, self._silence_s = total_s, min(total_s, silence_s)
        self._lock = threading.Lock()
        self._lines: set[_Line] = set()
        self._closed = False

    def __call__(self, request: Request) -> bytes:
        line = _Line()
        with self._lock:
            if self._closed:
                raise Unavailable("The server is not asked any more; this process is ending.")
            self._lines.add(line)
        timer = threading.Timer(self._total_s, line.stop)
        timer.daemon = True
        timer.start()
        try:
            return _get(request, line, self._silence_s)
        except ssl.SSLCertVerificationError:
            raise Unavailable(f"{_host(request)} is not who it should be; look at its certificate.") from None
        except (OSError, http.client.HTTPException):
            raise Unavailable(f"{_host(request)} does not answer as it should; see that it is up.") from None
        finally:
            timer.cancel()
            line.close()
            with self._lock:
                self._lines.discard(line)

    def close(self) -> None:
        """May be called twice."""
        with self._lock:
            self._closed = True
            lines = list(self._lines)
        for line in lines:
            line.stop()


class _Line:
    """A connection that another thread can end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self.stopped = False

    def open(self, host: str, port: int, silence_s: float) -> socket.socket:
        plain = socket.create_connection((host, port), timeout=silence_s)
        with self._lock:
            # a second handle on the connection: TLS takes the first one over, and `stop` must not touch TLS
            self._handle = plain.dup()
            if self.stopped:
                self._handle.shutdown(socket.SHUT_RDWR)
        return plain

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            if self._handle is not None:
                self._handle.close()
            self._handle = None


def _get(request: Request, line: _Line, silence_s: float) -> bytes:
    try:
        require_location(request.url, loopback=request.loopback)
    except InvalidProof:
        raise Unavailable("The address is not one of https; look at what is configured.") from None
    parts = urlsplit(request.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    with line.open(host, parts.port or (443 if secure else 80), silence_s) as plain:
        if not secure:
            _require_loopback(plain)
            return _ask(http.client.HTTPConnection(parts.netloc), plain, request, line)
        with _context(request.roots).wrap_socket(plain, server_hostname=host) as secured:
            return _ask(http.client.HTTPSConnection(parts.netloc), secured, request, line)


def _context(roots: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=roots)
    except (ssl.SSLError, ValueError):
        raise Unavailable("The authorities of the server are not certificates in PEM; look at their file.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _require_loopback(plain: socket.socket) -> None:
    """A name such as `localhost` leads where the resolver says, and nothing protects what is sent there."""
    if not ipaddress.ip_address(plain.getpeername()[0]).is_loopback:
        raise Unavailable("An http address does not lead to this machine; use https.")


def _ask(connection: http.client.HTTPConnection, line: socket.socket, request: Request, watched: _Line) -> bytes:
    connection.sock = line
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Accept": "application/json", "Connection": "close"}
    if request.bearer is not None:
        headers["Authorization"] = f"Bearer {request.bearer}"
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    connection.request("GET" if request.body is None else "POST", target, body=request.body, headers=headers)
    with connection.getresponse() as answer:
        data = _read(answer, parts.hostname or "", request.max_bytes)
    if watched.stopped:  # an answer without a length ends where the line does, also where we cut it
        raise Unavailable(f"{parts.hostname} did not send the whole answer in time.")
    return data


def _read(answer: http.client.HTTPResponse, host: str, max_bytes: int) -> bytes:
    if answer.status not in GOOD:
        raise Unavailable(f"{host} answered with status {answer.status}; look at the address.")
    if answer.getheader("Content-Encoding", "identity") != "identity":
        raise Unavailable(f"{host} answered in an encoding that was not asked for.")
    data = answer.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Unavailable(f"{host} sent more than {max_bytes} bytes.")
    if answer.length:  # `read` with a limit does not say that the rest never came
        raise Unavailable(f"{host} hung up before the whole answer was there.")
    return data


def _host(request: Request) -> str:
    return urlsplit(request.url).hostname or "The server"
