"""One connection to a server: bytes there and back, every wait within a bound, over TLS that was verified.

TLS is worked in memory, so that the bound holds for a handshake that drips as well, and so that another thread can cut
the connection without touching TLS.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 65_536
"""Bytes that are taken from a connection at a time."""

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


@dataclass(slots=True)
class Pace:
    """How long the rest may take."""

    until: float
    """On the clock of `monotonic`."""
    silence_s: float
    """Seconds without a byte."""
    monotonic: Callable[[], float]

    def wait_s(self) -> float:
        """For the next byte. Raises TimeoutError, where there is no time left."""
        left = self.until - self.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, self.silence_s)


@dataclass(slots=True)
class Line:
    """Raises OSError alone: a timeout and what is wrong with TLS are among them."""

    plain: socket.socket
    pace: Pace
    secured: ssl.SSLObject | None = None
    _incoming: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)
    _outgoing: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        self.secured = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._step(self.secured.do_handshake)

    def send(self, data: bytes) -> None:
        if self.secured is None:
            self._send(data)
        else:
            self._step(self.secured.write, data)

    def receive(self) -> bytes:
        """What came; empty where the server has ended the connection, as it should be ended."""
        if self.secured is None:
            return self._receive()
        try:
            return self._step(self.secured.read, CHUNK)
        except ssl.SSLZeroReturnError:
            return b""

    def is_quiet(self) -> bool:
        """Nothing came since the last answer, not even an end. What did come belongs to nobody."""
        if self._incoming.pending or (self.secured is not None and self.secured.pending()):
            return False
        self.plain.settimeout(0)
        try:
            self.plain.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def cut(self) -> None:
        """From any thread: whoever waits here is told."""
        with suppress(OSError):
            self.plain.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.plain.close()

    def _step(self, step: Callable[..., T], *given: object) -> T:
        while True:
            try:
                done = step(*given)
            except ssl.SSLWantReadError:
                self._flush()
                data = self._receive()
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush()  # why we hang up
                raise
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._send(data)

    def _send(self, data: bytes) -> None:
        self.plain.settimeout(self.pace.wait_s())
        self.plain.sendall(data)

    def _receive(self) -> bytes:
        self.plain.settimeout(self.pace.wait_s())
        return self.plain.recv(CHUNK)


def connect(host: str, port: int, pace: Pace) -> Line:
    """To the first address that takes it. Raises OSError."""
    failed: OSError = OSError("no address")
    for family, address in look_up(host, port, pace):
        plain = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            plain.settimeout(pace.wait_s())
            plain.connect(address)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            plain.close()
            failed = error
        else:
            return Line(plain, pace)
    raise failed


def look_up(host: str, port: int, pace: Pace) -> Sequence[Address]:
    """The system's resolver has no bound of its own, so that a name is looked up in a thread that can be left behind.

    Raises OSError.
    """
    with suppress(ValueError):
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        return ((family, (host, port)),)
    answers: queue.SimpleQueue[Sequence[Address] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(socket.AddressFamily(each[0]), each[4]) for each in found])
        except OSError as error:
            answers.put(error)
        except UnicodeError:  # a name that cannot be one
            answers.put(OSError("not a name"))

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=pace.wait_s())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer
