"""Which secrets are looked for in what comes back: of every credential that may be alive, and the last that are over.

How many may be alive is bounded by the calls that run and by the credentials of the task, and not here: a secret that
still opens something is not forgotten because others came after it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from forestall.core.scrub import Scrubber

MAX_OVER = 64
"""Secrets of credentials that are over which are still looked for: who gives one back has kept it."""


@dataclass(frozen=True, slots=True)
class _Alive:
    secrets: tuple[str, ...] = field(repr=False)
    until: int | None
    """When it is over, in milliseconds since the epoch; None where that is told."""


class Sought:
    """Of one task. Safe to use from several threads."""

    __slots__ = ("_alive", "_ended", "_lock", "_over", "_wanted", "scrubber")

    def __init__(self) -> None:
        self._alive: dict[str, _Alive] = {}
        self._over: dict[str, None] = {}
        """The latest last."""
        self._ended: deque[str] = deque()
        """Of which that was told, and not taken in yet."""
        self._wanted: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self.scrubber = Scrubber()

    def add(self, name: str, secrets: Collection[str], *, until: int | None, now: int) -> None:
        """From now on these are looked for. `name`: the credential's; `until`: when it is over whatever is told."""
        with self._lock:
            while self._ended:
                self._end(self._ended.popleft())
            for one in [one for one, alive in self._alive.items() if alive.until is not None and alive.until <= now]:
                self._end(one)
            self._alive[name] = _Alive(tuple(secrets), until)
            wanted = frozenset(self._over).union(*(alive.secrets for alive in self._alive.values()))
            if wanted != self._wanted:
                self._wanted, self.scrubber = wanted, Scrubber(sorted(wanted))

    def end(self, name: str) -> None:
        """It is over, which is taken in when something is added. Waits for no lock: a call that was dropped tells it
        whenever Python collects what nobody has, also in a thread that is just adding.
        """
        self._ended.append(name)

    def _end(self, name: str) -> None:
        alive = self._alive.pop(name, None)
        if alive is None:
            return
        older = [secret for secret in self._over if secret not in alive.secrets]
        self._over = dict.fromkeys([*older, *alive.secrets][-MAX_OVER:])
