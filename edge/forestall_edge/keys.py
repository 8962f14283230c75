"""Whom a resource takes permits from: the keys and the epoch that a decision point publishes, fixed, in a file or at a
URL. A key is the one that `kid` names, and nothing is ever tried.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from forestall_edge.canonical import NotJson, parse
from forestall_edge.refusal import Reason, Refused
from forestall_edge.token import read_key

MAX_DOCUMENT = 65_536
"""Bytes. A key has about 250."""

MAX_KEYS = 64

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Trust:
    """What a decision point says of itself."""

    issuer: str
    keys: Mapping[str, ec.EllipticCurvePublicKey] = field(repr=False)
    """By `kid`."""
    epoch: int = 0
    """Orders that were in force when it said so. Permits from before the last of them are refused."""


class Keys(Protocol):
    """Safe to use from many threads."""

    def trust(self) -> Trust:
        """As far as it is known now. Raises Refused: unavailable."""
        ...


class FixedKeys:
    """As they were when the program was started."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def trust(self) -> Trust:
        return self._trust


class Polled:
    """Keys that are looked at every `poll_s`. Those that cannot be looked at count on until they are too old."""

    def __init__(self, *, poll_s: float, max_age_s: float, steady: Callable[[], float]) -> None:
        self._poll_s, self._max_age_s, self._steady = poll_s, max_age_s, steady
        self._lock = threading.Lock()
        self._known: tuple[Trust, float] | None = None
        """And when that was read."""
        self._looked = -float("inf")

    def trust(self) -> Trust:
        now = self._steady()
        is_needed = self._usable(now) is None
        if now - self._looked >= self._poll_s and self._lock.acquire(blocking=is_needed):
            try:
                if now - self._looked >= self._poll_s:
                    self._look(now)
            finally:
                self._lock.release()
        trust = self._usable(self._steady())
        if trust is None:
            raise Refused(Reason.UNAVAILABLE, "the keys are not there, cannot be read, or are too old")
        return trust

    def _usable(self, now: float) -> Trust | None:
        if self._known is None or now - self._known[1] > self._max_age_s:
            return None
        return self._known[0]

    def _look(self, now: float) -> None:
        with suppress(OSError, HTTPException, Refused, ValueError):
            self._known = self._read(), now
        self._looked = now  # only now: until then, who needs what is being read waits for it

    def _read(self) -> Trust:
        raise NotImplementedError


class KeyFile(Polled):
    """`run/permits.json` of a decision point on this machine, or what `forestall keys jwks` printed."""

    def __init__(
        self,
        path: Path,
        *,
        poll_s: float = 1.0,
        max_age_s: float = 86_400.0,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(poll_s=poll_s, max_age_s=max_age_s, steady=steady)
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def _read(self) -> Trust:
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            seen = status.st_ino, status.st_size, status.st_mtime_ns
            if self._known is not None and seen == self._seen:
                return self._known[0]
            trust = read_trust(file.read(MAX_DOCUMENT + 1))
        self._seen = seen
        return trust


class KeyUrl(Polled):
    """`/.well-known/forestall-permits.json` of a decision point: https, or http of this machine. Follows nothing."""

    def __init__(
        self,
        url: str,
        *,
        poll_s: float = 5.0,
        max_age_s: float = 3_600.0,
        timeout_s: float = 2.0,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError: another kind of address."""
        super().__init__(poll_s=poll_s, max_age_s=max_age_s, steady=steady)
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise ValueError("keys come from an https address, or an http address of this machine")
        self._url, self._timeout_s = url, timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def _read(self) -> Trust:
        with self._opener.open(self._url, timeout=self._timeout_s) as answer:
            if answer.status != 200:
                raise Refused(Reason.UNAVAILABLE)
            return read_trust(answer.read(MAX_DOCUMENT + 1))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def read_trust(data: bytes, issuer: str | None = None) -> Trust:
    """What a document says: a JWK Set (RFC 7517, 5) with `issuer` and `epoch`. `issuer`: where it has none of its own.

    Raises:
        Refused: unavailable; it is none, or holds what no public document holds.
    """
    try:
        value = parse(data, max_bytes=MAX_DOCUMENT)
    except NotJson:
        raise Refused(Reason.UNAVAILABLE, "the keys are not JSON with one meaning") from None
    if not isinstance(value, dict) or not isinstance(members := value.get("keys"), list) or len(members) > MAX_KEYS:
        raise Refused(Reason.UNAVAILABLE, "not a key set")
    named, epoch = value.get("issuer", issuer), value.get("epoch", 0)
    if not isinstance(named, str) or not named or (issuer is not None and named != issuer):
        raise Refused(Reason.UNAVAILABLE, "the keys name no issuer, or another")
    if type(epoch) is not int:
        raise Refused(Reason.UNAVAILABLE, "the epoch is not a whole number")
    return Trust(named, _keys(members), epoch)


def _keys(members: list[Any]) -> Mapping[str, ec.EllipticCurvePublicKey]:
    keys: dict[str, ec.EllipticCurvePublicKey] = {}
    for member in members:
        if not isinstance(member, dict) or "d" in member or "k" in member:
            raise Refused(Reason.UNAVAILABLE, "a key is not public")
        kid = member.get("kid")
        if member.get("crv") != "P-256" or member.get("use", "sig") != "sig" or not isinstance(kid, str):
            continue
        if kid in keys:
            raise Refused(Reason.UNAVAILABLE, "two keys have one id")
        keys[kid] = read_key(member)[0]
    return keys
