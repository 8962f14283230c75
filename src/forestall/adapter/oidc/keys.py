"""An issuer's keys: fetched when they are needed, kept for a while, and gone when the issuer is silent for too long.

1. Keys count without asking for `ttl_ms`; after that the next token asks again, and waits for the answer.
2. A token with a `kid` that is not among them asks at once: that is how a rotation is noticed.
3. Nobody makes us ask more often than every `least_interval_ms`, whatever is sent and whatever goes wrong.
4. One question at a time: whoever comes while it is under way waits for the same answer.
5. Where the issuer does not answer, or with nonsense, the keys count on until they are `bound_ms` old. Then there
   are none, and no token of that issuer is good: one that cannot be heard cannot take a key back either.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from urllib.parse import urlsplit

from forestall.adapter.oidc.token_file import read_small, read_token
from forestall.adapter.oidc.web import Fetch, Request
from forestall.core.errors import Unavailable
from forestall.identities import KeySource
from forestall.proof.algorithm import Algorithm
from forestall.proof.discovery import MAX_DOCUMENT, discovery_url, read_discovery
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import MAX_SET, KeySet, parse_set

MAX_ROOTS = 1024 * 1024
"""Bytes of a file of authorities in PEM; a whole machine's have about 230,000."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long keys count, in milliseconds."""

    ttl_ms: int = 600_000
    """Without asking again: how long a key that the issuer took back may still be believed."""
    bound_ms: int = 3_600_000
    """When asking does not help."""
    least_interval_ms: int = 10_000
    """Between two questions, so that nobody makes us a flood on the issuer."""

    def __post_init__(self) -> None:
        if not 0 < self.least_interval_ms <= self.ttl_ms <= self.bound_ms:
            raise ValueError("keys are asked for, at the longest, when they no longer count without asking")


@dataclass(frozen=True, slots=True)
class _Held:
    keys: KeySet
    asked_at: int


class IssuerKeys:
    """The keys of one issuer. Safe to use from any thread; reading them takes no lock."""

    def __init__(
        self,
        issuer: str,
        source: KeySource,
        *,
        algorithms: frozenset[Algorithm],
        loopback: bool,
        fetch: Fetch,
        times: Times,
        discovery: str = "",
    ) -> None:
        """Nothing is fetched yet.

        Args:
            issuer: as configured.
            source: where its keys are, and how to ask for them.
            algorithms: those that any rule for the issuer allows.
            loopback: let the issuer and its keys be at an http address of this machine.
            fetch: called in a thread of its own.
            times: how long keys count.
            discovery: where the issuer's document is; empty: where OpenID Connect has it.
        """
        self.issuer = issuer
        self.problem = ""
        """What went wrong when the issuer was last asked, for the operator; empty where nothing did."""
        self._source, self._algorithms, self._loopback = source, algorithms, loopback
        self._fetch, self._times = fetch, times
        self._discovery = discovery or discovery_url(issuer)
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._asked_at: int | None = None
        self._flight: Future[None] | None = None

    def held(self, now: int) -> KeySet:
        """The keys that count now.

        Raises:
            InvalidProof: NO_BUNDLE, where there are none, or they are too old.
        """
        held = self._held
        if held is None:
            raise InvalidProof(Fault.NO_BUNDLE, "the issuer's keys are not known")
        # a clock that was set back must not make what is old young again, so that the distance counts both ways
        if abs(now - held.asked_at) >= self._times.bound_ms:
            raise InvalidProof(Fault.NO_BUNDLE, "the issuer's keys are too old; it has gone silent")
        return held.keys

    def due(self, now: int, *, unknown: bool = False) -> Future[None] | None:
        """What to wait for before `held` is believed: a question that is under way, maybe from this moment on.

        None where what is held will do, or where it is too early to ask again.

        Args:
            now: milliseconds since the epoch. What comes of it is as old as this, however long it takes.
            unknown: a token names a key that is not among those held.
        """
        with self._lock:
            held, times = self._held, self._times
            if not unknown and held is not None and abs(now - held.asked_at) < times.ttl_ms:
                return None
            if self._flight is not None:
                return self._flight
            if self._asked_at is not None and abs(now - self._asked_at) < times.least_interval_ms:
                return None
            self._asked_at, self._flight = now, Future()
            self._flight.set_running_or_notify_cancel()  # from here on nobody who waits can cancel it for the others
            flight = self._flight
        threading.Thread(target=self._run, args=(flight, now), name=f"keys-{self.issuer}", daemon=True).start()
        return flight

    def _run(self, flight: Future[None], now: int) -> None:
        held, problem = self._held, ""
        try:
            held = _Held(self._load(), now)
        except Unavailable as error:
            problem = f"The keys of {self.issuer} were not renewed. {error}"
        except InvalidProof as error:
            problem = f"The keys of {self.issuer} cannot be used: {error}."
            if error.fault is Fault.NOT_PUBLIC:
                held = None  # whoever can read the set can sign with those that we hold
        except Exception as error:  # noqa: BLE001 - whatever it is: who waits has to go on, and the next has to ask
            problem = f"The keys of {self.issuer} cannot be used: {type(error).__name__}."
        with self._lock:
            self._held, self.problem, self._flight = held, problem, None
        flight.set_result(None)

    def _load(self) -> KeySet:
        source, location = self._source, self._source.jwks
        roots = None
        if source.ca_file is not None:
            try:
                roots = read_small(source.ca_file, MAX_ROOTS).decode("ascii")
            except UnicodeDecodeError:
                raise Unavailable(f"{source.ca_file} is not certificates in PEM; look at what is there.") from None
        if location is None:
            document = self._fetch(self._request(self._discovery, MAX_DOCUMENT, roots))
            location = read_discovery(
                document, issuer=self.issuer, algorithms=self._algorithms, loopback=self._loopback
            ).jwks_uri
        return parse_set(self._fetch(self._request(location, MAX_SET, roots)))

    def _request(self, url: str, max_bytes: int, roots: str | None) -> Request:
        """Our own token goes where an operator sent it, and nowhere that only a document names."""
        source = self._source
        shown = source.token_file is not None and _origin(url) == _origin(source.jwks or self.issuer)
        bearer = read_token(source.token_file) if source.token_file is not None and shown else None
        return Request(url, max_bytes, self._loopback, roots, bearer)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
