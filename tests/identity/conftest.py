"""The provider, installed and started; and a verifier that trusts it, by the rules of a real `identity.toml`."""

from __future__ import annotations

import fcntl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from forestall.adapter.oidc.checking import Check, check_blocking
from forestall.adapter.oidc.keys import Times
from forestall.adapter.oidc.verifier import Verifier
from forestall.adapter.oidc.web import Request, Web
from forestall.clock import Clock
from forestall.home import Home
from forestall.identities import load_identities
from forestall.proof.algorithm import Algorithm
from tests.identity.provider import AUDIENCE, HERE, WAIT_S, Provider
from tests.tokens import key

T = TypeVar("T")

RULES = """
[[trust_domains]]
name = "example.org"
tenant = "acme"

[[issuers]]
kind = "listed"
issuer = "{issuer}"
audience = "{audience}"
trust_domain = "example.org"
algorithms = ["RS256", "ES256"]
loopback = true

[[issuers.workloads]]
path = "/agents/billing"
claims = {{ sub = "billing-agent", scope = "identity" }}

[[users]]
issuer = "{issuer}"
client = "front-end"
tenant = "acme"
loopback = true
"""

TIMES = Times(ttl_ms=600_000, bound_ms=3_600_000, least_interval_ms=10_000)


KEYS = (key(Algorithm.RS256), key(Algorithm.ES256))
"""The provider's own. Its ID tokens are signed with the first."""

IMPATIENT_S = 0.3
"""Seconds that an answer may take where none comes; elsewhere an answer has all the time that a busy machine needs."""


def started(log: Path, algorithm: Algorithm = Algorithm.RS256) -> Provider:
    return Provider(KEYS, key(Algorithm.ES256, "client"), log, algorithm).start()


class World:
    """A provider, a verifier that trusts it, and a clock that the test moves."""

    def __init__(self, provider: Provider, root: Path) -> None:
        root.mkdir()
        self.provider, self.home = provider, Home(root)
        self.now = Clock()()  # tokens are dated by the provider's own clock, which is this machine's
        self.web = Web(total_s=WAIT_S, silence_s=WAIT_S)
        self.impatient = Web(total_s=IMPATIENT_S)
        self.fetched: list[str] = []
        self.asked = threading.Event()
        (self.home.root / "identity.toml").write_text(RULES.format(issuer=provider.issuer, audience=AUDIENCE))
        self.verifier = Verifier(load_identities(self.home), fetch=self.fetch, times=TIMES)
        self._count = 0

    def fetch(self, request: Request) -> bytes:
        self.fetched.append(request.url)
        self.asked.set()
        return self.web(request)

    def mode(self, name: str) -> None:
        """What the provider gets wrong; where it says nothing, we do not wait long."""
        self.web = self.impatient if name in {"silent", "drip"} else Web(total_s=WAIT_S, silence_s=WAIT_S)
        self.provider.mode(name)

    def later(self, milliseconds: int) -> None:
        self.now += milliseconds

    def jti(self) -> str:
        self._count += 1
        return f"assertion-of-the-test-{self._count}"

    def token(self, **given: Any) -> str:
        return self.provider.workload_token(now=Clock()(), jti=self.jti(), **given)

    def check(self, check: Check[T]) -> T:
        return check_blocking(check, wait_s=WAIT_S)

    def workload(self, token: str) -> str:
        return str(self.check(self.verifier.workload(token, now=self.now)).id)

    def close(self) -> None:
        self.web.close()
        self.impatient.close()
        self.verifier.close()


@pytest.fixture(scope="session")
def installed() -> Path:
    """The provider at its locked version, installed if it is not there yet."""
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = HERE / "node_modules" / ".package-lock.json"
        if not there.exists() or there.stat().st_mtime < (HERE / "package-lock.json").stat().st_mtime:
            subprocess.run([HERE / "install.sh"], check=True, timeout=600)
    return HERE


@pytest.fixture(scope="session")
def shared(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One provider for all tests, gone when they are."""
    provider = started(tmp_path_factory.mktemp("provider") / "log")
    yield provider
    provider.stop()


@pytest.fixture
def provider(shared: Provider) -> Provider:
    """As if it had been started just now."""
    shared.reset(*KEYS)
    return shared


@pytest.fixture
def another(installed: Path, tmp_path: Path) -> Iterator[Provider]:
    """A second one, of its own."""
    provider = started(tmp_path / "another.log", Algorithm.ES256)
    yield provider
    provider.stop()


@pytest.fixture
def world(provider: Provider, tmp_path: Path) -> Iterator[World]:
    world = World(provider, tmp_path / "home")
    yield world
    world.close()
