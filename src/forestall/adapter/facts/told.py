"""What a source of risk told last, and for how long it counts: read by every call, changed beside them.

What a source says that cannot be understood takes back what it said before: it may have been the raise that somebody
is waiting for. Where it cannot be reached, what it said counts until its bound runs out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from forestall.core.model import Grant
from forestall.core.repute import UNKNOWN, Repute, Reputes

AHEAD_MS = 60_000
"""How far a source's clock may be ahead of ours."""

LEAVING_S = 2.0
"""Seconds that the end waits for a source that is just being asked."""


class Told:
    """`port.RiskSource`, for a source that is asked now and then."""

    def __init__(self, name: str, bound_ms: int) -> None:
        self.name, self.bound_ms = name, bound_ms
        self.problem = "Nothing was heard of it yet."
        """Why it tells nothing, or nothing new; empty where all is well."""
        self._last: tuple[Reputes, int] | None = None

    def read(self, grant: Grant, at: int) -> Repute:
        last = self._last
        if last is None or at - last[1] >= self.bound_ms:
            return UNKNOWN
        return last[0].of(grant)

    def take(self, reputes: Reputes, as_of: int, now: int) -> None:
        """`as_of`: when it was so, as far as who carried it knows; the document may say that it is older."""
        if reputes.at is not None and reputes.at > now + AHEAD_MS:
            self.drop("It tells of a time that is still to come; look at its clock.")
            return
        self.problem = ""
        self._last = reputes, min(now, as_of, reputes.at or as_of)

    def drop(self, problem: str) -> None:
        self.problem, self._last = problem, None

    def late(self, problem: str) -> None:
        """It was not reached: what it told last counts until it is too old."""
        self.problem = problem


class Asked(Protocol):
    """A source that has to be asked."""

    period_s: float

    def refresh(self) -> None:
        """Ask it, and keep what it tells. Raises nothing."""
        ...

    def close(self) -> None: ...


class Asking:
    """A thread for each source, so that one that hangs keeps no other from being heard."""

    def __init__(self, sources: tuple[Asked, ...], wait: Callable[[threading.Event, float], object]) -> None:
        self._sources, self._wait = sources, wait
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(source,), name="forestall-risk", daemon=True) for source in sources
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ask no more, and wait until nothing is asked; not for ever, since a name may be looked up just then."""
        self._closed.set()
        for source in self._sources:
            source.close()
        for thread in self._threads:
            thread.join(LEAVING_S)

    def _ask(self, source: Asked) -> None:
        while not self._closed.is_set():
            source.refresh()
            self._wait(self._closed, source.period_s)
