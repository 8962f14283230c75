"""The time of day, for everything that is decided here."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Milliseconds since the epoch that never step back: where the machine's clock does, time goes on from before."""

    def __init__(self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall, self._steady = wall, steady
        self._ahead = wall() - steady()

    def __call__(self) -> int:
        wall = self._wall()
        steady = self._steady()  # last: a program that is paused between the two would take the pause for a step
        self._ahead = max(self._ahead, wall - steady)
        return (steady + self._ahead) // 1_000_000
