"""The permits that this gateway took: none is taken twice."""

from __future__ import annotations

from collections.abc import Callable

ROOM = 4096
"""Permits that are kept before those that ran out are looked for."""


class Burned:
    def __init__(self, wall: Callable[[], int]) -> None:
        """`wall`: milliseconds since the epoch."""
        self._wall = wall
        self._until: dict[str, int] = {}
        """By id: when it runs out, and need not be kept any more."""
        self._room = ROOM

    def take(self, permit: str, expires_at: int) -> bool:
        """False if it was taken before."""
        if permit in self._until:
            return False
        if len(self._until) >= self._room:
            self._forget(self._wall())
        self._until[permit] = expires_at
        return True

    def _forget(self, now: int) -> None:
        self._until = {name: until for name, until in self._until.items() if until > now}
        self._room = max(ROOM, 2 * len(self._until))  # under a load that keeps it full, it is not searched every time
