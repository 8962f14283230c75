"""The decision point's HTTP/1.1 listener (docs/http.md): bounded in connections, bytes and time.

Without TLS it listens at addresses of this machine alone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forestall.config import Http
from forestall.core.errors import SetupError, Unavailable, cure
from forestall.server.http.address import Address, Names, parse_listen
from forestall.server.http.connection import Connection, House
from forestall.server.http.message import Routes
from forestall.server.http.router import Router
from forestall.server.http.tls import Authorities, Tls

BACKLOG = 256
"""Connections that wait to be accepted."""

GRACE_S = 2.0
"""Seconds that requests which are being answered have when the listener closes."""

PAUSE_S = 0.1
"""Seconds until it is tried again to accept, where there was no descriptor left for it."""


async def listen(
    settings: Http,
    routes: Routes,
    *,
    root: Path = Path(),
    authorities: Authorities = tuple,
    complain: Callable[[str], None] = lambda _sentence: None,
) -> Listener:
    """Listen, and answer until it is closed.

    Args:
        settings: `[http]`; `listen` is not empty.
        routes: everything that may be asked.
        root: what relative files are relative to.
        authorities: asked whenever a connection begins.
        complain: takes a sentence for the operator, without a full stop at its end.

    Raises:
        SetupError: the settings contradict each other or the disk: above all, plain HTTP beyond this machine.
        Unavailable: the address is taken.
    """
    address = parse_listen(settings.listen)
    tls = _tls(settings, root, authorities, complain)
    if tls is None and not address.loopback:
        raise SetupError(
            f"[http] listens at {address.netloc} without TLS; set `tls_certificate` and `tls_key`, "
            "or listen at 127.0.0.1."
        )
    if not address.loopback and not settings.issuer:
        raise SetupError('[http] has no `issuer`: what clients call it, such as "https://forestall.example".')
    Names.of((), settings.issuer, secure=tls is not None)  # before anything is bound
    bound = _bind(address)
    return Listener(settings, routes, bound, tls, complain)


class Listener:
    """Made by `listen`, on the loop that it then runs on."""

    def __init__(
        self, settings: Http, routes: Routes, bound: socket.socket, tls: Tls | None, complain: Callable[[str], None]
    ) -> None:
        self._settings, self._socket, self._tls, self._complain = settings, bound, tls, complain
        host, port = bound.getsockname()[:2]
        self.address = Address(host, port)
        names = Names.of((self.address,), settings.issuer, secure=tls is not None)
        self._router = Router(routes, timeout_s=settings.answer_timeout_ms / 1000, complain=complain)
        self._house = House(settings, names, self._router, self._came, self._gone)
        self._connections: set[Connection] = set()
        self._beginning: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._accepting = asyncio.create_task(self._accept())

    @property
    def url(self) -> str:
        """Where it is found: the issuer, where one is set, else the address."""
        scheme = "http" if self._tls is None else "https"
        return self._settings.issuer or f"{scheme}://{self.address.netloc}"

    @property
    def connections(self) -> int:
        return len(self._connections) + len(self._beginning)

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Accept nothing more, let what is being answered be answered, and end the rest. May be called twice."""
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._socket.close()
        for beginning in tuple(self._beginning):
            beginning.cancel()
        for connection in tuple(self._connections):
            connection.finish()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), grace_s)
        for connection in tuple(self._connections):
            connection.abort()
        if self._router.strays:
            await asyncio.wait(self._router.strays, timeout=grace_s)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._socket)
            except ConnectionError:
                continue  # whoever it was has gone again
            except OSError as error:
                self._complain(f"No connection over HTTP can be accepted: {cure(error)}")
                await asyncio.sleep(PAUSE_S)
                continue
            if not self._has_room():
                accepted.close()
                continue
            beginning = loop.create_task(self._begin(accepted))
            self._beginning.add(beginning)
            beginning.add_done_callback(self._begun)

    def _has_room(self) -> bool:
        """Where there is none, the connection that has waited longest for a request makes some."""
        if self.connections < self._settings.max_connections:
            return True
        waiting = [(since, each) for each in self._connections if (since := each.idle_since) is not None]
        if waiting:
            min(waiting, key=lambda one: one[0])[1].abort()
        return bool(waiting)

    async def _begin(self, accepted: socket.socket) -> None:
        """A client that fails at TLS is none."""
        loop = asyncio.get_running_loop()
        accepted.setblocking(False)
        try:
            with suppress(OSError):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                await loop.connect_accepted_socket(self._make, accepted)
            else:
                limit = self._settings.handshake_timeout_ms / 1000
                await loop.connect_accepted_socket(
                    self._make,
                    accepted,
                    ssl=self._tls.context(),
                    ssl_handshake_timeout=limit,
                    ssl_shutdown_timeout=limit,
                )
        except OSError:
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._beginning.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._complain(f"A connection could not begin: {type(error).__name__}")

    def _make(self) -> Connection:
        return Connection(self._house)

    def _came(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._empty.clear()

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()


def _tls(settings: Http, root: Path, authorities: Authorities, complain: Callable[[str], None]) -> Tls | None:
    files = (settings.tls_certificate, settings.tls_key)
    if not any(files):
        if settings.client_ca:
            raise SetupError("[http] has a `client_ca`, but no `tls_certificate`: clients show theirs over TLS alone.")
        return None
    if not all(files):
        raise SetupError("[http] has one of `tls_certificate` and `tls_key`; it needs both.")
    certificate, key = (root / Path(file).expanduser() for file in files)
    client_ca = root / Path(settings.client_ca).expanduser() if settings.client_ca else None
    return Tls(certificate, key, client_ca, authorities=authorities, complain=complain)


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind((address.host, address.port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise Unavailable(f"[http] cannot listen at {address.netloc}: {cure(error)}.") from None
    return bound
