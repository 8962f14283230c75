"""What was last heard for each trust domain, and for how long it still counts after the source went silent."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from forestall.core.model import NOTHING
from forestall.proof.fault import Fault, InvalidProof

T = TypeVar("T")

DEFAULT_BOUND_MS = 600_000
"""Milliseconds. Twice the interval at which bundles are polled unless they say otherwise, so that one miss is none."""


@dataclass(frozen=True, slots=True)
class _State(Generic[T]):
    by_domain: Mapping[str, T]
    silent_since: int | None


class Held(Generic[T]):
    """One source's word on every trust domain that it speaks for. Each new word replaces the one before, whole.

    Reading takes no lock: it sees one word or the next, never some of each.
    """

    def __init__(self, bound_ms: int) -> None:
        """`bound_ms`: how long the last word counts once the source is silent."""
        self._bound_ms = bound_ms
        self._lock = threading.Lock()
        self._state: _State[T] = _State(NOTHING, 0)

    def replace(self, by_domain: Mapping[str, T], heard_at: int | None = None) -> None:
        """This is all that the source says. It would say more as soon as there is more; or it was asked at `heard_at`,
        and is silent until it is asked again.
        """
        with self._lock:
            self._state = _State(dict(by_domain), heard_at)

    def silence(self, now: int) -> None:
        """The source went silent at `now`; what it said begins to age, unless it does already."""
        with self._lock:
            if self._state.silent_since is None:
                self._state = _State(self._state.by_domain, now)

    def forget(self) -> None:
        """The source took everything back."""
        with self._lock:
            self._state = _State(NOTHING, 0)

    @property
    def live(self) -> bool:
        return self._state.silent_since is None

    def find(self, trust_domain: str, now: int) -> T:
        """What it says of `trust_domain`.

        Raises:
            InvalidProof: `no_bundle`, where it says nothing, or said it too long ago.
        """
        state = self._state
        held = state.by_domain.get(trust_domain)
        if held is None:
            raise InvalidProof(Fault.NO_BUNDLE, "nothing is known of the trust domain")
        # a clock that was set back must not make what is old young again, so that the distance counts both ways
        if state.silent_since is not None and abs(now - state.silent_since) > self._bound_ms:
            raise InvalidProof(Fault.NO_BUNDLE, "the bundle is too old; its source has gone silent")
        return held
