"""A proxy between the broker and the server, over TLS on both sides, that does what its rule says to each request."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from interop.authority import HOST, Authority

WAIT_S = 60.0


class Doing(StrEnum):
    PASS = "pass"
    LIE = "lie"  # say that it was done, and do not do it
    CUT = "cut"  # do it, and hang up
    TWICE = "twice"  # do it, and answer twice
    AGAIN = "again"  # do it twice, and answer once
    HOLD = "hold"  # do nothing until `release`, then do it; whoever asked has gone


Rule = Callable[[str, str], Doing]
"""Of a method and the path behind `/v1/`."""


def always(method: str, path: str) -> Doing:
    del method, path
    return Doing.PASS


class Proxy:
    """A context: inside it the proxy runs. `rule` may be changed at any time."""

    def __init__(self, address: str, authority: Authority) -> None:
        self.rule: Rule = always
        self._behind = urlsplit(address).netloc
        self._trust = ssl.create_default_context(cafile=authority.ca)
        self._free, self._held = threading.Event(), threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.server("proxy"))
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, name="proxy")
        self.address = f"https://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def release(self) -> None:
        """Do now what was held, once; answers when it is done."""
        assert self._held.acquire(timeout=WAIT_S), "something is held"
        self._free.set()
        assert self._done.acquire(timeout=WAIT_S)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # whoever asked has gone
                    self.close_connection = True

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return self._do
                raise AttributeError(name)

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                doing = proxy.rule(self.command, self.path.removeprefix("/v1/"))
                self.close_connection = True
                if doing is Doing.LIE:
                    self._answer(204, b"")
                    return
                if doing is Doing.HOLD:
                    proxy._held.release()
                    proxy._free.wait(WAIT_S)
                status, found = self._forward(body)
                if doing is Doing.AGAIN:
                    status, found = self._forward(body)
                if doing is Doing.HOLD:
                    proxy._done.release()
                if doing in {Doing.PASS, Doing.TWICE, Doing.AGAIN}:
                    self._answer(status, found)
                if doing is Doing.TWICE:
                    self._answer(status, found)

            def _forward(self, body: bytes) -> tuple[int, bytes]:
                kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                behind = http.client.HTTPSConnection(proxy._behind, timeout=WAIT_S, context=proxy._trust)
                try:
                    behind.request(self.command, self.path, body or None, kept)
                    with behind.getresponse() as answer:
                        return answer.status, answer.read()
                finally:
                    behind.close()

            def _answer(self, status: int, found: bytes) -> None:
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, *_: object) -> None: ...

        return Handler
