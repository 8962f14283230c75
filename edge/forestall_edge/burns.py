"""What was used, and is not good again: one insert, which one caller wins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from forestall_edge.refusal import Reason, Refused


class Burns(Protocol):
    """Safe to use from many threads. `forestall_edge.testing.BurnsContract` is what every store has to keep."""

    @property
    def shared(self) -> bool:
        """Do all verifiers of the audience use this store? Else a permit has to name its one instance."""
        ...

    @property
    def since(self) -> int:
        """Seconds since the epoch: it knows what was burnt from then on, and nothing before."""
        ...

    def burn(self, key: bytes, until: int, now: int) -> None:
        """Take it, if nobody has. Once this returned, nobody else takes it, whatever crashes.

        Args:
            key: of the permit among all permits; 32 bytes.
            until: seconds since the epoch; from then on the permit is refused for its age, and may be forgotten.
            now: seconds since the epoch.

        Raises:
            Refused: burned, expired (it may have been forgotten already), unavailable.
        """
        ...


class MemoryBurns:
    """For the one process that is the whole of an audience's instance. What was burnt is lost when it ends, so that
    permits from before its start are refused.
    """

    shared = False

    def __init__(self, now: Callable[[], float], *, most: int = 1_000_000) -> None:
        """`most`: burns that are remembered at once; a permit lives for seconds, so that this is a rate."""
        self.since = int(now())
        self._most = most
        self._until: dict[bytes, int] = {}
        self._swept_to = 0
        self._lock = threading.Lock()

    def burn(self, key: bytes, until: int, now: int) -> None:
        with self._lock:
            self._sweep(now)
            if until <= self._swept_to:
                raise Refused(Reason.EXPIRED, "it may have been used and forgotten; did the clock go back?")
            if key in self._until:
                raise Refused(Reason.BURNED)
            if len(self._until) >= self._most:
                raise Refused(Reason.UNAVAILABLE, "too many permits were used lately")
            self._until[key] = until

    def _sweep(self, now: int) -> None:
        if now <= self._swept_to:
            return
        self._swept_to = now
        self._until = {key: until for key, until in self._until.items() if until > now}
