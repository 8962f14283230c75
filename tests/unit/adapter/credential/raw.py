"""A server that sends exactly the bytes that the test says, over http or TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from tests.unit.adapter.oidc.site import WAIT_S, context

Play = Callable[["Peer"], None]


class Peer:
    """One connection, of a client that sends its requests one at a time."""

    def __init__(self, server: Raw, line: socket.socket) -> None:
        self.server, self.line = server, line

    def hear(self) -> bytes:
        """The next request, whole; empty where the client hung up."""
        data = b""
        while b"\r\n\r\n" not in data or len(data.split(b"\r\n\r\n", 1)[1]) < _length(data):
            more = self.line.recv(65_536)
            if not more:
                return b""
            data += more
        self.server.heard.append(data)
        return data

    def say(self, data: bytes) -> None:
        self.line.sendall(data)

    def answer(self, body: bytes, status: str = "200 OK") -> None:
        self.say(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def _length(data: bytes) -> int:
    for line in data.split(b"\r\n\r\n", 1)[0].lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":", 1)[1])
    return 0


class Raw:
    """Serves from `with` to its end, each connection by `play`. `name`: what its certificate is for; None for http."""

    def __init__(self, play: Play, *, name: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.heard: list[bytes] = []
        self.connections = 0
        self.ended = threading.Event()
        self._play = play
        self._tls = context(name) if name is not None else tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(WAIT_S)
        self._socket.close()
        for line in self._open:
            with suppress(OSError), line:
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WAIT_S)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            handle = line.dup()  # TLS takes the first one over
            self._open.append(handle)
            thread = threading.Thread(target=self._serve, args=(line, handle))
            self._threads.append(thread)
            thread.start()

    def _serve(self, line: socket.socket, handle: socket.socket) -> None:
        line.settimeout(WAIT_S)
        with suppress(OSError), line:
            if self._tls is None:
                self._play(Peer(self, line))
            else:
                with self._tls.wrap_socket(line, server_side=True) as secured:
                    self._play(Peer(self, secured))
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)
