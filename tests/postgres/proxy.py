"""Between a client and the server: carries what both say, until it is told to lose what the server answers."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

CHUNK = 65_536
READY = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery, idle (PostgreSQL, 55.7): the server has done what it was asked."""


@dataclass
class Proxy:
    """On 127.0.0.1. `lose`: the next answer to what is asked on each session is taken from the server and not given on;
    then the connection is cut (`cut`), or nothing comes any more. A session still begins.
    """

    server: int
    port: int = 0
    lose: threading.Event = field(default_factory=threading.Event)
    lost: int = 0
    """How often the server has done what it was asked, and nobody heard of it."""
    cut: bool = True
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self.server))
                self._open += [client, server]
                self._start(self._carry, client, server, False)
                self._start(self._carry, server, client, True)

    def _carry(self, giver: socket.socket, taker: socket.socket, answers: bool) -> None:
        begun = False
        with suppress(OSError):
            while data := giver.recv(CHUNK):
                if answers and begun and self.lose.is_set():
                    while not data.endswith(READY) and (more := giver.recv(CHUNK)):
                        data += more
                    self.lost += 1
                    if self.cut:
                        break
                    continue
                begun = begun or data.endswith(READY)
                taker.sendall(data)
        for each in (giver, taker):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
