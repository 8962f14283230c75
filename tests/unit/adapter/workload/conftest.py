"""A clock that is set by hand, waits that end when the test says so, and an agent on a real socket."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from forestall.adapter.workload.follow import Waits
from forestall.adapter.workload.spiffe import WorkloadApi
from forestall.proof.bundle import Bundle, JwtAuthorities, X509Authorities, parse_bundle
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.svid import verify_jwt_svid
from forestall.testing.authority import HOUR_MS, Authority
from forestall.testing.workload_api import WorkloadApiServer

NOW = 1_795_000_000_000
WAIT_S = 30.0
"""Seconds after which something that has to happen has failed to; nothing waits for it to pass."""
AUDIENCE = "https://forestall.example"


class Only:
    """One trust domain's bundle, as it is now."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def _bundle(self, trust_domain: str) -> Bundle:
        if trust_domain != self._authority.trust_domain:
            raise InvalidProof(Fault.NO_BUNDLE)
        return parse_bundle(self._authority.bundle(), trust_domain)

    def x509(self, trust_domain: str, now: int) -> X509Authorities:
        return self._bundle(trust_domain).x509

    def jwt(self, trust_domain: str, now: int) -> JwtAuthorities:
        return self._bundle(trust_domain).jwt


class Clock:
    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Watched:
    """A client whose every change can be waited for, and whose waits between tries last until the test ends them."""

    def __init__(self, endpoint: str, clock: Clock, *, bound_ms: int = HOUR_MS) -> None:
        self.waited: list[float] = []
        self._changed = threading.Condition()
        self._let_through = 0
        self._passed: Counter[int] = Counter()
        self.api = WorkloadApi(
            endpoint,
            clock=clock,
            waits=Waits(random=lambda: 0.0, wait=self._wait),
            bound_ms=bound_ms,
            on_change=self._notify,
        )

    def start(self) -> Self:
        self.api.start()
        return self

    def until(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, WAIT_S), self.api.problems

    def again(self) -> None:
        """Each of the three streams, all of them waiting, is tried once more."""
        with self._changed:
            self._let_through += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._let_through = sys.maxsize
            self._changed.notify_all()
        self.api.close()

    def _wait(self, _closed: threading.Event, seconds: float) -> None:
        thread = threading.get_ident()
        with self._changed:
            self.waited.append(seconds)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._passed[thread] < self._let_through)
            self._passed[thread] += 1

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(clock: Clock) -> Authority:
    return Authority("example.org", clock)


@pytest.fixture
def agent(authority: Authority, clock: Clock) -> Iterator[WorkloadApiServer]:
    def validate(audience: str, token: str) -> str | None:
        bundles = Only(authority)
        try:
            domains = frozenset({authority.trust_domain})
            svid = verify_jwt_svid(token, bundles, audience=audience, trust_domains=domains, now=clock(), skew_ms=0)
        except InvalidProof:
            return None
        return str(svid.id)

    # a socket's path may have 107 bytes, which pytest's own folders can exceed
    with (
        tempfile.TemporaryDirectory() as folder,
        WorkloadApiServer(Path(folder) / "agent.sock", authority, validate=validate) as server,
    ):
        yield server


@pytest.fixture
def waiting(agent: WorkloadApiServer, clock: Clock) -> Iterator[Watched]:
    """A client that was told thrice that there is no identity for it yet, and waits."""
    watched = Watched(agent.endpoint, clock).start()
    watched.until(lambda: len(watched.waited) == 3)
    yield watched
    watched.close()


@pytest.fixture
def client(agent: WorkloadApiServer, clock: Clock) -> Iterator[Watched]:
    """A client of an agent that gave it the identity `/agent`."""
    agent.register("/agent")
    watched = Watched(agent.endpoint, clock).start()
    watched.until(lambda: watched.api.live)
    yield watched
    watched.close()
