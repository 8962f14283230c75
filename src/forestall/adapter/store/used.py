"""What counts once, and was shown: proofs, assertions, tickets. In memory, and in the log before anybody is answered.

One process owns the log, so that a claim here is taken by one caller alone. The entry that says so stands in the log
before the one that it led to, and shares its sync; the index saves replaying the log. Time is the log's own: what was
let go because it had ended does not count again when a clock is set back.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forestall.core.entry import Use
from forestall.core.errors import Unavailable
from forestall.proof.fault import Fault, InvalidProof

_TIME = "time"
"""Under this name the index keeps up to when what has ended was let go. No digest is called that."""


@dataclass(frozen=True, slots=True)
class Most:
    each: int = 20_000
    """Of one workload, at the same time. Sixty a second whose proofs live for five minutes."""
    all: int = 200_000
    """Of all: about 60 MB."""


class Used:
    """Safe to use from several threads."""

    def __init__(self, most: Most | None = None) -> None:
        self._most = Most() if most is None else most
        self._lock = threading.Lock()
        self._held: dict[str, Use] = {}
        self._by: dict[str, int] = {}
        self._ends: list[tuple[int, str]] = []
        self._time = 0
        self._changed: set[str] = set()

    def claim(self, uses: Sequence[Use], now: int) -> None:
        """Take all of them, or none. Whoever gets an answer is the only one; the entry is theirs to write.

        Raises:
            InvalidProof: REPLAYED; EXPIRED, where it could be let go at once.
            Unavailable: so many are held that no more are taken. None is let go before its time.
        """
        with self._lock:
            self._let_go(now)
            names = [use.id for use in uses]
            if len(set(names)) != len(names) or any(name in self._held for name in names):
                raise InvalidProof(Fault.REPLAYED)
            if any(use.until <= self._time for use in uses):
                raise InvalidProof(Fault.EXPIRED, "the clock was later already, when what had ended was let go")
            if len(self._held) + len(uses) > self._most.all:
                raise Unavailable("As many used proofs as may be are held; wait until some have ended.")
            for use in uses:
                if self._by.get(use.by, 0) + len(uses) > self._most.each:
                    raise Unavailable(f"{use.by!r:.200} has shown as many proofs as a workload may; wait.")
            for use in uses:
                self._hold(use)

    def take(self, body: Mapping[str, Any]) -> None:
        """Of an entry that the log holds. Raises KeyError, TypeError or ValueError where it is no such entry."""
        uses = [Use(str(each["id"]), str(each["by"]), int(each["until"])) for each in body["used"]]
        at = int(body["at"])
        with self._lock:
            for use in uses:
                if use.id not in self._held:
                    self._hold(use)
            self._let_go(at)

    def changed(self) -> dict[str, Any]:
        """For the index, since it was last asked."""
        with self._lock:
            held = {name: self._held.get(name) for name in self._changed}
            rows = {name: {"by": use.by, "until": use.until} if use else None for name, use in held.items()}
            self._changed = set()
            return {**rows, _TIME: {"time": self._time}} if rows else {}

    def load(self, rows: Mapping[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError where the index holds something else."""
        with self._lock:
            for name, row in rows.items():
                if name == _TIME:
                    self._time = int(row["time"])
                else:
                    self._hold(Use(name, str(row["by"]), int(row["until"])))
            self._changed = set()

    def __len__(self) -> int:
        return len(self._held)

    # -- inside; the lock is held

    def _hold(self, use: Use) -> None:
        self._held[use.id] = use
        self._by[use.by] = self._by.get(use.by, 0) + 1
        heapq.heappush(self._ends, (use.until, use.id))
        self._changed.add(use.id)

    def _let_go(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, name = heapq.heappop(self._ends)
            use = self._held.pop(name)
            self._by[use.by] -= 1
            if not self._by[use.by]:
                del self._by[use.by]
            self._time = max(self._time, now)
            self._changed.add(name)
