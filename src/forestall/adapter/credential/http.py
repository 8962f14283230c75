"""Ask a backend over HTTP: one request, one whole answer, within bounds of time and size.

The address comes from settings. No redirect is followed, no proxy is used, TLS is verified, and `http` is for this
machine alone. What was sent and got no answer is never sent again, unless its caller says that this changes nothing.

HTTP/1.1 does not say which request an answer answers. A backend, or something before it, that answers twice could
therefore have its stray answer taken for the next one's, and a connection is kept only where the caller says that its
answers can be told apart (`Web.keep`).
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import h11

from forestall.adapter.credential.line import Line, Pace, connect
from forestall.core.ask import CannotDo
from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput, SetupError, cure
from forestall.core.model import Json
from forestall.core.reason import Reason
from forestall.proof.fault import InvalidProof
from forestall.proof.url import require_location

SILENCE_S = 5.0
"""Seconds without a byte."""

MAX_BYTES = 262_144
"""Of an answer's body. The largest that a broker waits for, a list of what is alive, is far below it."""

MAX_HEAD = 65_536
"""Bytes of an answer's status line and headers."""

MAX_INTERIM = 8
"""Answers with a status of 1xx before the one that counts."""

MAX_KEPT, KEPT_S = 4, 10.0
"""Connections that wait for a next request at most, and for how many seconds: servers hang up after 5 s and more."""


class Unsent(CannotDo):
    """The server was not reached, and certainly heard nothing of the request."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose server it has to be, and who we are to it. Files are read again when they change."""

    roots: Path | None = None
    """PEM of the authorities that the server's certificate may come from, and no others; None for the machine's."""
    certificate: Path | None = None
    """PEM of our own certificate and those between; None where we show none."""
    key: Path | None = None
    """PEM of its private key; None where it is in the same file."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. At most one of `form`, `json` and `body`."""

    method: str
    url: str
    """From settings; what else is in it went through `path`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Sequence[tuple[str, str]] | None = field(default=None, repr=False)
    json: Json | None = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    idempotent: bool = False
    """It may reach the server twice."""


@dataclass(frozen=True, slots=True)
class Answer:
    host: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    """By name in lower case; what came several times is joined with a comma (RFC 9110, 5.3)."""
    body: bytes = field(repr=False)

    @property
    def good(self) -> bool:
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    def json(self) -> Json:
        """The one value of the body. Raises CannotDo(unavailable), which holds nothing of it."""
        try:
            return parse(self.body, max_bytes=len(self.body))
        except InvalidInput:
            raise unavailable(f"{self.host} answered {self.status} and not with JSON that has one meaning.") from None


def unavailable(sentence: str) -> CannotDo:
    return CannotDo(Reason.UNAVAILABLE, sentence)


def path(base: str, *segments: str) -> str:
    """`base` and below it these segments, each percent-encoded whole. Raises ValueError for one that is none."""
    if not all(segments) or not {".", ".."}.isdisjoint(segments):
        raise ValueError("a segment of a path is empty, or climbs")
    return base.rstrip("/") + "".join(f"/{quote(each, safe='')}" for each in segments)


class Web:
    """Asks, from any thread. `close` ends what is under way, for good."""

    def __init__(
        self,
        trust: Trust,
        *,
        total_s: float,
        silence_s: float = SILENCE_S,
        max_bytes: int = MAX_BYTES,
        keep: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """A client of whoever `trust` says.

        Args:
            trust: whose server it has to be.
            total_s: seconds for one request and its whole answer, looking up the name among them.
            silence_s: seconds without a byte.
            max_bytes: of an answer's body.
            keep: use connections again: each answer says, in a way that its reader checks, what it is the answer to.
            monotonic: seconds, from any start.

        Raises:
            SetupError: a file of `trust` cannot be used.
        """
        self._identity = _Identity(trust)
        self._total_s, self._silence_s, self._max_bytes, self._keep = total_s, silence_s, max_bytes, keep
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._busy: dict[int, Line] = {}
        self._kept: list[_Kept] = []
        self._closed = False
        self._identity.context()

    def until(self) -> float:
        """When a request that begins now has to be answered: for several that have the time of one."""
        return self._monotonic() + self._total_s

    def ask(self, ask: Ask, *, until: float | None = None) -> Answer:
        """Raises CannotDo(unavailable), with nothing secret; Unsent, where the server heard nothing of it."""
        origin = _origin_of(ask.url)
        head, body = _message(ask, origin)
        pace = Pace(self.until() if until is None else until, self._silence_s, self._monotonic)
        way = _Way(origin, self._context() if origin.secure else None)
        line = self._take(way, pace)
        if line is not None:
            try:
                return self._exchange(line, way, head, body)
            except CannotDo:
                if not ask.idempotent:
                    raise
        return self._exchange(self._open(way, pace), way, head, body)

    def close(self) -> None:
        """May be called twice."""
        with self._lock:
            self._closed = True
            lines, kept = list(self._busy.values()), list(self._kept)
            self._kept.clear()
        for line in lines:
            line.cut()
        for each in kept:
            each.line.close()

    def _context(self) -> ssl.SSLContext:
        try:
            return self._identity.context()
        except SetupError as error:
            raise Unsent(Reason.UNAVAILABLE, str(error)) from None

    def _open(self, way: _Way, pace: Pace) -> Line:
        host, line = way.origin.host, None
        try:
            line = connect(host, way.origin.port, pace)
            self._watch(line)
            if way.context is not None:
                line.secure(way.context, host)
            elif not ipaddress.ip_address(line.plain.getpeername()[0]).is_loopback:
                # a name such as `localhost` leads where the resolver says, and nothing protects what is sent there
                raise Unsent(Reason.UNAVAILABLE, "An http address does not lead to this machine; use https.")
        except (OSError, CannotDo) as error:
            if line is not None:
                self._drop(line)
            raise _not_reached(host, error) from None
        return line

    def _exchange(self, line: Line, way: _Way, head: h11.Request, body: bytes) -> Answer:
        host, whole = way.origin.host, False
        try:
            answer, whole = _talk(line, head, body, host, self._max_bytes)
        except (OSError, h11.RemoteProtocolError):
            raise unavailable(f"{host} does not answer as it should, or not in time; see that it is up.") from None
        finally:
            self._put_back(line, way) if whole and self._keep else self._drop(line)
        return answer

    def _watch(self, line: Line) -> None:
        with self._lock:
            if self._closed:
                raise Unsent(Reason.UNAVAILABLE, "The server is not asked any more; this process is ending.")
            self._busy[id(line)] = line

    def _drop(self, line: Line) -> None:
        with self._lock:
            self._busy.pop(id(line), None)
        line.close()

    def _put_back(self, line: Line, way: _Way) -> None:
        with self._lock:
            self._busy.pop(id(line), None)
            self._kept.append(_Kept(line, way, self._monotonic()))
            too_many = [self._kept.pop(0)] if self._closed or len(self._kept) > MAX_KEPT else []
        for each in too_many:
            each.line.close()

    def _take(self, way: _Way, pace: Pace) -> Line | None:
        """A kept connection, young, to the same server with the same papers, on which nothing came since."""
        while True:
            with self._lock:
                found = next((each for each in reversed(self._kept) if each.way == way), None)
                if found is None:
                    return None
                self._kept.remove(found)
            if self._monotonic() - found.since < KEPT_S and found.line.is_quiet():
                found.line.pace = pace
                self._watch(found.line)
                return found.line
            found.line.close()


@dataclass(frozen=True, slots=True)
class _Origin:
    secure: bool
    host: str
    port: int
    netloc: str


@dataclass(frozen=True, slots=True)
class _Way:
    origin: _Origin
    context: ssl.SSLContext | None


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    line: Line
    way: _Way
    since: float


class _Identity:
    """The TLS settings that the files of `trust` amount to now."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._lock = threading.Lock()
        self._made: tuple[tuple[object, ...], ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """Raises SetupError."""
        trust = self._trust
        seen = tuple(_look(file) for file in (trust.roots, trust.certificate, trust.key) if file is not None)
        with self._lock:
            if self._made is None or self._made[0] != seen:
                self._made = seen, _context(trust)
            return self._made[1]


def _look(file: Path) -> tuple[int, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {cure(error)}.") from None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _context(trust: Trust) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=trust.roots)
    except (OSError, ValueError):
        raise SetupError(f"{trust.roots} does not hold certificates in PEM; put the authority's there.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trust.certificate is not None:
        try:  # an empty password: one that is asked for at a terminal would be waited for
            context.load_cert_chain(trust.certificate, trust.key, password="")
        except (OSError, ValueError):
            raise SetupError(
                f"{trust.certificate} and its key are not a certificate in PEM and the key that goes with it, "
                "without a password; look at both files."
            ) from None
    return context


def _origin_of(url: str) -> _Origin:
    try:
        require_location(url, loopback=True)
    except InvalidProof:
        raise Unsent(Reason.UNAVAILABLE, "An address is not one of https; look at what is configured.") from None
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return _Origin(secure, parts.hostname or "", parts.port or (443 if secure else 80), parts.netloc)


def _message(ask: Ask, origin: _Origin) -> tuple[h11.Request, bytes]:
    body, kind = _body(ask)
    parts = urlsplit(ask.url)
    given = {name.lower(): value for name, value in ask.headers.items()}
    headers = {"host": origin.netloc, "accept": "application/json", **kind, **given}
    if body or ask.method not in {"GET", "HEAD", "DELETE"}:
        headers["content-length"] = str(len(body))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        return h11.Request(method=ask.method, target=target, headers=list(headers.items())), body
    except (h11.LocalProtocolError, UnicodeEncodeError):
        sentence = f"What {origin.host} is to be sent has characters that no header holds; look at the settings."
        raise Unsent(Reason.UNAVAILABLE, sentence) from None


def _body(ask: Ask) -> tuple[bytes, dict[str, str]]:
    if ask.form is not None:
        return urlencode(list(ask.form)).encode("ascii"), {"content-type": "application/x-www-form-urlencoded"}
    if ask.json is not None:
        return json.dumps(ask.json, separators=(",", ":")).encode("ascii"), {"content-type": "application/json"}
    return ask.body or b"", {}


def _talk(line: Line, head: h11.Request, body: bytes, host: str, max_bytes: int) -> tuple[Answer, bool]:
    """The answer, and whether nothing is left on the connection after it, which may go on."""
    wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    whole = wire.send(head) or b""
    whole += (wire.send(h11.Data(body)) or b"") if body else b""
    line.send(whole + (wire.send(h11.EndOfMessage()) or b""))
    response = _head(line, wire)
    headers: dict[str, str] = {}
    for name, value in response.headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    _require_end(response.status_code, head.method, headers, host)
    data = bytearray()
    while not isinstance(event := _next(line, wire), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        data += event.data
        if len(data) > max_bytes:
            raise unavailable(f"{host} sent more than {max_bytes} bytes.")
    alone = wire.our_state is h11.DONE and wire.their_state is h11.DONE and wire.trailing_data == (b"", False)
    return Answer(host, response.status_code, headers, bytes(data)), alone


def _head(line: Line, wire: h11.Connection) -> h11.Response:
    for _ in range(MAX_INTERIM):
        event = _next(line, wire)
        if isinstance(event, h11.Response):
            return event
    raise h11.RemoteProtocolError("too many answers before the one that counts")


def _next(line: Line, wire: h11.Connection) -> h11.Event:
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(line.receive())
        elif isinstance(event, h11.Event) and not isinstance(event, h11.ConnectionClosed):
            return event
        else:
            raise h11.RemoteProtocolError("the connection ended")


def _require_end(status: int, method: bytes, headers: Mapping[str, str], host: str) -> None:
    """An answer that ends where the connection does also ends where somebody cuts it."""
    if headers.get("content-encoding", "identity") != "identity":
        raise unavailable(f"{host} answered in an encoding that was not asked for.")
    bare = method == b"HEAD" or status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
    if not (bare or "content-length" in headers or "transfer-encoding" in headers):
        raise unavailable(f"{host} does not say how long its answer is.")


def _not_reached(host: str, error: Exception) -> CannotDo:
    if isinstance(error, CannotDo):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unsent(Reason.UNAVAILABLE, f"{host} is not who it should be; look at its certificate.")
    return Unsent(Reason.UNAVAILABLE, f"{host} is not reached; see that it is up, and that the address is right.")
