"""Forestall's own sessions at a PostgreSQL server: kept, looked at before use, begun anew where gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from forestall.adapter.credential.postgresql_session import Lost, Refused, Row, Session
from forestall.adapter.credential.source import SecretSource

KEPT = 4
"""Idle sessions that are kept."""
MOST = 16
"""At once. Whoever asks beyond that waits its turn."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, and how Forestall logs in there."""

    parameters: Mapping[str, str]
    """As libpq knows them, without a password."""
    password: SecretSource | None = None
    """None where a certificate or the operating system's user is who it is."""


@dataclass
class Server:
    address: Address
    timeout_s: float
    """For one exchange, beginning a session included."""
    _idle: list[Session] = field(default_factory=list, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: bool = False

    def __post_init__(self) -> None:
        self._turns = threading.BoundedSemaphore(MOST)

    def deadline(self) -> float:
        return time.monotonic() + self.timeout_s

    @contextmanager
    def session(self, deadline: float) -> Iterator[Session]:
        """Raises Lost or Refused where none can be had. It is kept for the next one, unless what is done with it raises
        Lost or something that nobody expected.
        """
        if not self._turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Lost("too many wait for the server")
        try:
            session = self._take() or Session(self._parameters(), deadline)
            try:
                yield session
            except Refused:
                self._keep(session)
                raise
            except BaseException:
                session.close()
                raise
            self._keep(session)
        finally:
            self._turns.release()

    def ask(self, statement: str, values: tuple[str | None, ...], deadline: float) -> list[Row]:
        """One statement. Raises Lost, Refused."""
        with self.session(deadline) as session:
            return session.ask(statement, values, deadline)

    def close(self) -> None:
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def _take(self) -> Session | None:
        while True:
            with self._guard:
                if not self._idle:
                    return None
                session = self._idle.pop()
            if session.usable:
                return session
            session.close()

    def _keep(self, session: Session) -> None:
        with self._guard:
            if not self._closed and len(self._idle) < KEPT:
                self._idle.append(session)
                return
        session.close()

    def _parameters(self) -> dict[str, str]:
        # What runs on after nobody waits for it any more must not act much later.
        patience_ms = max(1000, int(self.timeout_s * 1000))
        own = {
            "application_name": "forestall",
            "client_encoding": "UTF8",
            "gssencmode": "disable",
            "options": f"-c statement_timeout={patience_ms} -c lock_timeout={patience_ms} -c search_path=pg_catalog",
        }
        if self.address.password is None:
            return {**self.address.parameters, **own, "require_auth": "none"}
        password = self.address.password.read()
        return {**self.address.parameters, **own, "require_auth": "scram-sha-256", "password": password}
