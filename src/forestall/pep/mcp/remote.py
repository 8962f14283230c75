"""A server at the other end of HTTP, which behaves to the rest of the gateway like one at the end of pipes.

MCP's Streamable HTTP: each message is a POST; its answer is JSON, or a stream of events that ends with it. Revisions
with a handshake have a session and a stream of the server's own; 2026-07-28 has neither, and mirrors each message in
headers.

Certificates are verified; plain HTTP is for this machine alone. Redirects are not followed: a credential would go with
them. Nothing that the client's configuration holds goes into a header: there is no way to say it here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from forestall.core.errors import SetupError
from forestall.pep.mcp import methods
from forestall.pep.mcp.bound import PROOF, Ask, Prove, demands_nonce, nonce_of
from forestall.pep.mcp.lent import Lent, is_free
from forestall.pep.mcp.message import MAX_FROM_SERVER, Id
from forestall.pep.mcp.proofs import NoProof

CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 600.0
"""Seconds without a byte after which an answer is given up. Tools run long, and streams send comments meanwhile."""

AT_ONCE = 32
"""Messages on their way. What is beyond waits."""

LISTEN_AGAIN_S = 5.0
"""Seconds between two attempts at the server's own stream."""

END_WITHIN_S = 2.0
"""Seconds for the end of a session to be told."""

CANCELLED = "notifications/cancelled"

WANTS_CREDENTIAL = "it wants a credential, or another one"
"""The end of what is said of a server that answers 401 or 403."""

Headers = tuple[tuple[str, str], ...]
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""Methods whose message names something, and where (MCP 2026-07-28, "Mcp-Name")."""


@dataclass(frozen=True, slots=True)
class Url:
    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises SetupError where it is not one that a credential may be sent to."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port, parts = "", None, urlsplit("")
        if parts.scheme not in {"http", "https"} or not host or not text.isascii() or not text.isprintable():
            raise SetupError("--url is the whole address of a server, such as https://tools.example.org/mcp.")
        if parts.username is not None or parts.fragment or " " in text:
            raise SetupError("--url holds no user, no password and no fragment; a credential has a class of its own.")
        if parts.scheme == "http" and not is_this_machine(host):
            raise SetupError("--url with http is for this machine alone; use https.")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        secure = parts.scheme == "https"
        return cls(secure, host, port or (443 if secure else 80), path)

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"

    @property
    def whole(self) -> str:
        return self.origin + self.path


def is_this_machine(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_headers(headers: Headers) -> Headers:
    """Those that a credential may be in: none that frames a message, or is the protocol's own. Raises SetupError."""
    for name, _ in headers:
        if not is_free(name):
            raise SetupError(f"A credential cannot be in the header {name!r:.80}; give it another `name`.")
    return headers


@dataclass(slots=True)
class Post:
    """A message on its way."""

    line: bytes = field(repr=False)
    headers: Headers = field(repr=False)
    message: Mapping[str, Any] = field(repr=False)
    bound: str = ""
    """Of the credential in the headers that goes with a proof, its name."""
    is_cut: bool = False
    """Nobody waits for its answer any more. Whoever keeps sending is still heard by a socket that is shut."""

    @property
    def id(self) -> Id | None:
        """Of the request that waits for an answer."""
        return self.message.get("id") if "method" in self.message else None

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))

    @property
    def meta(self) -> Mapping[str, Any]:
        params = self.message.get("params")
        meta = params.get("_meta") if isinstance(params, dict) else None
        return meta if isinstance(meta, dict) else {}


class Remote:
    """Made on the loop. As a sink: `send`, `discard`, `close`, `waiting`, `broken`. As a source: `pause`, `end`. As a
    process: `signal`, `exited`, `reap`.

    `on_line` hears what the server says, `on_done` of a request that will not be answered any more, with why, and
    `on_end` once that nothing more will come; all on the loop.
    """

    pid = -1
    stderr = -1

    def __init__(
        self,
        url: Url,
        standing: Lent,
        *,
        prove: Prove,
        on_line: Callable[[bytes], None],
        on_done: Callable[[Id, str], None],
        on_room: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._url, self._standing, self._prove = url, standing, prove
        self._nonce: str | None = None
        """The server's latest, for proofs (RFC 9449, 9)."""
        self._on_line, self._on_done, self._on_room, self._on_end = on_line, on_done, on_room, on_end
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = self._loop.create_future()
        self._queue: deque[Post] = deque()
        self._running = 0
        self._closing = self._ended = False
        self._session = self._version = self._modern = ""
        self._listening = False
        self._open: dict[socket.socket, Post | None] = {}
        """And what each is for; None of the server's own stream. Not the connections: where a server says that it will
        close, its answer has the socket, and the connection none.
        """
        self._lock = threading.Lock()
        self._flow = threading.Event()
        self._stop = threading.Event()
        self._context = _verified() if url.secure else None

    # -- as a sink

    @property
    def waiting(self) -> int:
        """Bytes that no connection has taken."""
        return sum(len(post.line) for post in self._queue)

    @property
    def broken(self) -> bool:
        return self._ended

    def send(self, line: bytes, headers: Headers = (), bound: str = "") -> None:
        if self._ended or self._closing:
            return
        message = json.loads(line)
        if self._modern and isinstance(message, dict) and message.get("method") == CANCELLED:
            self._cancel(message)
            return
        self._queue.append(Post(line, headers, message if isinstance(message, dict) else {}, bound))
        self._begin()

    def _cancel(self, message: Mapping[str, Any]) -> None:
        """Without a session, the end of its answer's stream is what tells a server (MCP 2026-07-28, "Cancellation")."""
        params = message.get("params")
        request = params.get("requestId") if isinstance(params, dict) else None
        self._queue = deque(post for post in self._queue if post.id is None or post.id != request)
        with self._lock:
            found = [(one, post) for one, post in self._open.items() if post is not None and post.id == request]
        for opened, post in found:
            post.is_cut = True
            _shut(opened)

    def discard(self) -> None:
        self._queue.clear()

    def close(self) -> None:
        """Say no more; over once what is on its way is answered."""
        self._closing = True
        self._end_if_idle()

    # -- as a source

    def pause(self, paused: bool) -> None:
        if paused:
            self._flow.clear()
        else:
            self._flow.set()

    def end(self) -> None:
        self.signal(signal.SIGKILL)

    # -- as a process

    def signal(self, number: int) -> None:
        """Whatever the signal: nothing more is said or heard."""
        del number
        if self._ended:
            return
        self._ended = True
        self._stop.set()
        self._flow.set()
        self._queue.clear()
        with self._lock:
            found = list(self._open)
        for opened in found:
            _shut(opened)
        if self._session:
            threading.Thread(target=self._farewell, daemon=True).start()
        else:
            self._gone()

    def reap(self) -> int:
        return 0

    def _gone(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)
            self._on_end()

    # -- on the loop

    def _begin(self) -> None:
        while self._queue and self._running < AT_ONCE:
            post = self._queue.popleft()
            self._running += 1
            ask = Ask("POST", self._headers(post), self._bound(post), post.line)
            threading.Thread(target=self._post, args=(post, ask), daemon=True).start()

    def _headers(self, post: Post) -> dict[str, str]:
        found = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        found["User-Agent"] = "forestall"
        version = post.meta.get(methods.PROTOCOL_VERSION)
        if isinstance(version, str) and version in methods.MODERN:
            self._modern = version
        if self._modern and not self._version:
            found["MCP-Protocol-Version"] = self._modern
            found |= _mirrored(post)
        else:
            found |= self._of_session()
        return found | dict(self._kept(post)) | dict(post.headers)

    def _kept(self, post: Post) -> Headers:
        """Of what goes with every message, what this one has nothing of its own for."""
        own = {name.lower() for name, _ in post.headers}
        return tuple((name, value) for name, value in self._standing.headers if name.lower() not in own)

    def _bound(self, post: Post) -> str:
        """Of what it goes with, that which wants a proof: only `Authorization` can be it."""
        kept = {name.lower() for name, _ in self._kept(post)}
        return post.bound or (self._standing.bound if "authorization" in kept else "")

    def _own(self, method: str, **more: str) -> Ask:
        """A request that carries no message."""
        return Ask(method, {**more, **self._of_session(), **dict(self._standing.headers)}, self._standing.bound)

    def _of_session(self) -> dict[str, str]:
        found = {"Mcp-Session-Id": self._session} if self._session else {}
        return found | ({"MCP-Protocol-Version": self._version} if self._version else {})

    def _heard(self, post: Post | None, line: bytes, session: str) -> None:
        if self._ended:
            return
        if post is not None and post.method == "initialize":
            self._session = session or self._session
            self._version = _version_in(line) or self._version
        self._on_line(line)

    def _done(self, post: Post, why: str) -> None:
        self._running -= 1
        if self._ended:
            return
        if post.id is not None:
            self._on_done(post.id, why)
        if post.method == "notifications/initialized" and not self._listening:
            self._listening = True
            threading.Thread(target=self._listen, daemon=True).start()
        self._begin()
        self._on_room()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._closing and not self._running and not self._queue:
            self.signal(signal.SIGTERM)

    def _say(self, call: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(call, *args)

    # -- in threads

    def _post(self, post: Post, ask: Ask) -> None:
        why = "The server ended its answer early"
        try:
            with self._answered(ask, post) as answer:
                for line in _lines(answer):
                    self._flow.wait()
                    if post.is_cut or self._stop.is_set():
                        break
                    self._say(self._heard, post, line, answer.getheader("Mcp-Session-Id", ""))
                if answer.status >= 300:
                    why = _status_said(answer.status)
        except _Refused as error:
            why = str(error)
        except NoProof:
            why = "The decision point made no proof for the request's credential, so it was not sent"
        except (OSError, HTTPException, ValueError) as error:
            why = _failure_said(error)
        self._say(self._done, post, why)

    def _listen(self) -> None:
        """The server's own stream, where it has one (MCP up to 2025-11-25)."""
        while not self._stop.is_set():
            ask = self._own("GET", Accept="text/event-stream")
            with suppress(*_FAILURES), self._answered(ask) as answer:
                if answer.status != 200:
                    return
                for line in _lines(answer):
                    self._flow.wait()
                    if self._stop.is_set():
                        break
                    self._say(self._heard, None, line, "")
            self._stop.wait(LISTEN_AGAIN_S)

    def _farewell(self) -> None:
        """Tell the server that the session is over, if it hears it in time."""
        with suppress(*_FAILURES), self._answered(self._own("DELETE"), last=True) as answer:
            answer.read(1024)
        self._say(self._gone)

    @contextmanager
    def _answered(self, ask: Ask, post: Post | None = None, *, last: bool = False) -> Iterator[HTTPResponse]:
        """Ask, once; and once more where the server refused that for want of its nonce, which it gave."""
        used = None
        for attempt in (1, 2):
            with self._connected(post, last=last) as connection:
                used, headers = self._nonce, ask.headers
                if ask.bound:
                    headers = {**headers, PROOF: self._prove(ask.bound, ask.method, self._url.whole, used)}
                connection.request(ask.method, self._url.path, ask.body, dict(headers))
                with connection.getresponse() as answer:
                    given = nonce_of(answer) if ask.bound else None
                    self._nonce = given or self._nonce
                    if attempt == 1 and given not in {None, used} and demands_nonce(answer):
                        continue
                    yield answer
                    return

    @contextmanager
    def _connected(self, post: Post | None, *, last: bool) -> Iterator[HTTPConnection]:
        """A connection that `signal` can end from another thread; but not the last one, which it has asked for."""
        connection = self._connection(END_WITHIN_S if last else CONNECT_WITHIN_S)
        opened: socket.socket | None = None
        try:
            connection.connect()
            if not last:
                opened = connection.sock
                opened.settimeout(ANSWER_WITHIN_S)
                with self._lock:
                    self._open[opened] = post
                if self._stop.is_set():  # it was ended meanwhile
                    raise ConnectionAbortedError
            yield connection
        finally:
            if opened is not None:
                with self._lock:
                    self._open.pop(opened, None)
            connection.close()

    def _connection(self, timeout: float) -> HTTPConnection:
        if self._context is None:
            return HTTPConnection(self._url.host, self._url.port, timeout=timeout)
        return HTTPSConnection(self._url.host, self._url.port, timeout=timeout, context=self._context)


class _Refused(Exception):
    """What the server answered is no answer. `str()` says why, in words of ours."""


def _status_said(status: int) -> str:
    said = f"The server answered with the status {status}"
    if status in {401, 403}:
        return f"{said}: {WANTS_CREDENTIAL}"
    if status in {404, 405, 406, 415}:
        return f"{said}: nothing takes messages of MCP there (Streamable HTTP)"
    return f"{said}: a redirect, which is not followed; name the address that it leads to" if status < 400 else said


def _failure_said(error: Exception) -> str:
    """Without what the other side says, but for what is wrong with its certificate."""
    said = f"The server cannot be reached ({type(error).__name__})"
    if reason := getattr(error, "verify_message", ""):
        return f"{said}: its certificate is not one that this machine trusts: {reason}"
    return f"{said}: its name is not known" if isinstance(error, socket.gaierror) else said


_FAILURES = (OSError, HTTPException, ValueError, NoProof, _Refused)


def _shut(opened: socket.socket) -> None:
    """Whoever waits on it hears that nothing more comes. When it is closed, the other side is told at once, also where
    that was kept from sending: its kernel would go on asking for room for a minute.
    """
    with suppress(OSError):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opened.shutdown(socket.SHUT_RDWR)


def _verified() -> Any:
    import ssl

    return ssl.create_default_context()


def _mirrored(post: Post) -> dict[str, str]:
    """What the message says, once more, for those on the way (MCP 2026-07-28, "Standard headers")."""
    found = {"Mcp-Method": _field(post.method)} if post.method else {}
    params = post.message.get("params")
    name = params.get(_NAMED.get(post.method, "")) if isinstance(params, dict) else None
    return found | ({"Mcp-Name": _field(name)} if isinstance(name, str) else {})


def _field(text: str) -> str:
    if text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?"):
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'surrogatepass')).decode()}?="


def _version_in(line: bytes) -> str:
    with suppress(ValueError, AttributeError, RecursionError):
        version = json.loads(line)["result"]["protocolVersion"] if b'"result"' in line else ""
        return version if isinstance(version, str) and version in methods.HANDSHAKE else ""
    return ""


def _lines(answer: HTTPResponse) -> Iterator[bytes]:
    """The messages in an answer. A failure may hold one as well: the error that says why.

    Raises:
        _Refused: there are none where there should be.
    """
    kind = answer.getheader("Content-Type", "").partition(";")[0].strip().lower()
    if answer.getheader("Content-Encoding", "identity") != "identity":
        raise _Refused("The server's answer is compressed, which nobody asked for")
    if kind == "text/event-stream" and answer.status == 200:
        yield from events(answer)
        return
    body = answer.read(MAX_FROM_SERVER + 1)
    if len(body) > MAX_FROM_SERVER:
        raise _Refused("The server's answer is too long")
    if kind == "application/json" and body.strip():
        yield one_line(body)
    elif answer.status < 300 and body.strip():
        raise _Refused("The server's answer is neither JSON nor a stream of events")


def events(stream: Any) -> Iterator[bytes]:
    """The data of each event of a stream (WHATWG HTML, "Server-sent events"). `stream` has `readline(limit)`.

    Raises:
        _Refused: one is too long.
    """
    data: list[bytes] = []
    size = 0
    while line := stream.readline(MAX_FROM_SERVER + 1):
        size += len(line)
        if size > MAX_FROM_SERVER:
            raise _Refused("An event of the server's is too long")
        text = line.rstrip(b"\r\n")
        if not text:
            if data:
                yield one_line(b"\n".join(data))
            data, size = [], 0
        elif text.startswith(b"data:"):
            data.append(text[5:].removeprefix(b" "))


def one_line(message: bytes) -> bytes:
    """JSON has line breaks between its tokens alone, where a space says the same."""
    return message.strip().replace(b"\r", b" ").replace(b"\n", b" ")
