"""Trust bundles from files and bundle endpoints, each for one trust domain that was configured for it.

Every feed is polled in a thread of its own, so that one that hangs holds up no other. What it last said counts for a
while, and then there is no bundle: a trust domain that cannot be heard cannot take anything back either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from forestall.adapter.workload.endpoint import Endpoint, Fetch, Spiffe
from forestall.adapter.workload.follow import Waits
from forestall.adapter.workload.held import DEFAULT_BOUND_MS, Held
from forestall.core.errors import SetupError, Unavailable, cure
from forestall.proof.bundle import (
    MAX_BUNDLE,
    Bundle,
    Bundles,
    JwtAuthorities,
    X509Authorities,
    parse_bundle,
    require_newer,
)
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import require_trust_domain

POLL_S = 300
"""Seconds between polls of an endpoint whose bundle has no hint (SPIFFE_Trust_Domain_and_Bundle.md, section 6.2)."""

LEAST_POLL_S = 10
"""Seconds between polls at least, whatever the hint; and between readings of a file, which has nobody to tire."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Where the bundle of one trust domain comes from, and for how long it counts when nothing more comes."""

    trust_domain: str
    source: Path | Endpoint
    bound_ms: int = DEFAULT_BOUND_MS

    def __post_init__(self) -> None:
        """Raises SetupError."""
        try:
            require_trust_domain(self.trust_domain)
        except InvalidProof as error:
            raise SetupError(f"The trust domain of a bundle is not one: {error}.") from None
        if self.bound_ms < 2 * LEAST_POLL_S * 1000:
            raise SetupError(f"A bundle has to count for at least {2 * LEAST_POLL_S} s, twice the time between polls.")


class BundleFeeds:
    """Satisfies `proof.bundle.Bundles` for the trust domains that it has feeds for; polls from `start` to `close`."""

    def __init__(
        self,
        feeds: Sequence[Feed],
        *,
        clock: Callable[[], int],
        waits: Waits,
        web_roots: str | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is read yet.

        Args:
            feeds: one for each trust domain.
            clock: milliseconds since the epoch.
            waits: between polls.
            web_roots: PEM of the authorities of `https_web` endpoints; None for the machine's.
            on_change: called after every poll, in the poll's thread.

        Raises:
            SetupError: two feeds for one trust domain. Bundles are not merged.
        """
        self._pollers = {
            feed.trust_domain: _Poller(feed, clock=clock, waits=waits, web_roots=web_roots, on_change=on_change)
            for feed in feeds
        }
        if len(self._pollers) != len(feeds):
            raise SetupError("A trust domain has two bundles; choose one source for it.")

    @property
    def trust_domains(self) -> frozenset[str]:
        return frozenset(self._pollers)

    def start(self) -> Self:
        for each in self._pollers.values():
            each.start()
        return self

    def close(self) -> None:
        """Stop polling. What was heard ages on. May be called twice."""
        for each in self._pollers.values():
            each.close()

    def x509(self, trust_domain: str, now: int) -> X509Authorities:
        return self._find(trust_domain, now).x509

    def jwt(self, trust_domain: str, now: int) -> JwtAuthorities:
        return self._find(trust_domain, now).jwt

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for the operator: a sentence for each feed whose last poll failed."""
        return tuple(each.problem for _, each in sorted(self._pollers.items()) if each.problem)

    def _find(self, trust_domain: str, now: int) -> Bundle:
        poller = self._pollers.get(trust_domain)
        if poller is None:
            raise InvalidProof(Fault.NO_BUNDLE, "no feed is configured for the trust domain")
        return poller.held.find(trust_domain, now)


class ByTrustDomain:
    """Satisfies `proof.bundle.Bundles`: every trust domain has exactly one source, and the others are not asked for it.

    A trust domain that is configured is not overruled by what the Workload API says of it, nor helped out by it.
    """

    def __init__(self, configured: Mapping[str, Bundles], otherwise: Bundles | None) -> None:
        self._configured, self._otherwise = dict(configured), otherwise

    def x509(self, trust_domain: str, now: int) -> X509Authorities:
        return self._source(trust_domain).x509(trust_domain, now)

    def jwt(self, trust_domain: str, now: int) -> JwtAuthorities:
        return self._source(trust_domain).jwt(trust_domain, now)

    def _source(self, trust_domain: str) -> Bundles:
        source = self._configured.get(trust_domain, self._otherwise)
        if source is None:
            raise InvalidProof(Fault.NO_BUNDLE, "no source is configured for the trust domain")
        return source


class _Poller:
    """One feed: its thread, what it last said, and what went wrong since."""

    def __init__(
        self,
        feed: Feed,
        *,
        clock: Callable[[], int],
        waits: Waits,
        web_roots: str | None,
        on_change: Callable[[], None],
    ) -> None:
        self.held: Held[Bundle] = Held(feed.bound_ms)
        self.problem = ""
        self._feed, self._clock, self._waits, self._web_roots = feed, clock, waits, web_roots
        self._on_change = on_change
        self._last: Bundle | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._fetch = Fetch()
        self._thread = threading.Thread(target=self._run, name=f"bundle-{feed.trust_domain}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            self._fetch.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            failures = 0 if self._poll() else failures + 1
            self._on_change()
            usual = self._interval_s()
            self._waits.wait(self._closed, min(usual, self._waits.before(failures)) if failures else usual)

    def _interval_s(self) -> float:
        """As the bundle hints, within reason: often enough that one miss does not make it too old."""
        if isinstance(self._feed.source, Path):
            return LEAST_POLL_S
        hint = (self._last.refresh_hint_s if self._last is not None else None) or POLL_S
        return min(max(hint, LEAST_POLL_S), self._feed.bound_ms / 2000)

    def _poll(self) -> bool:
        feed = self._feed
        try:
            now = self._clock()  # before the fetch: a slow one is no younger for it
            bundle = require_newer(parse_bundle(self._read(now), feed.trust_domain), self._last)
        except Unavailable as error:
            self.problem = f"The bundle of {feed.trust_domain} was not renewed. {error}"
        except InvalidProof as error:
            self.problem = f"The bundle of {feed.trust_domain} cannot be used: {error}."
        except Exception as error:  # noqa: BLE001 - whatever it is: the next poll has to come
            self.problem = f"The bundle of {feed.trust_domain} cannot be used: {type(error).__name__}."
        else:
            self._last, self.problem = bundle, ""
            self.held.replace({feed.trust_domain: bundle}, now)
            return True
        return False

    def _read(self, now: int) -> bytes:
        source = self._feed.source
        if isinstance(source, Path):
            return _read_file(source)
        with self._lock:
            fetch = self._fetch = Fetch()
            if self._closed.is_set():
                fetch.stop()
        if source.spiffe is None:
            return fetch.web(source, self._web_roots)
        return fetch.spiffe(source, source.spiffe.id, self._of_endpoint(source.spiffe), now)

    def _of_endpoint(self, spiffe: Spiffe) -> X509Authorities:
        """Whose signature the endpoint has to show.

        A trust domain that serves itself is followed from the last bundle, however old that is by now: else nothing
        could be heard again after an outage. Its certificates still end.
        """
        if spiffe.id.trust_domain == self._feed.trust_domain and self._last is not None:
            return self._last.x509
        return parse_bundle(_read_file(spiffe.initial), spiffe.id.trust_domain).x509


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise Unavailable(f"{path}: {cure(error)}.") from None
