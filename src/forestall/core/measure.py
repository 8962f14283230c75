"""How much an output is, as far as whoever carries a call out can tell: what the most for one call is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forestall.core.quantity import Quantity

MEASURED = (Quantity.BYTES, Quantity.ROWS)
"""What an output shows of itself. How long a call ran the log says; what it spent, nobody but its tool knows."""


def rows(value: Any) -> int:
    """Elements of the longest array in it, at whatever depth, or lines of its longest text; whichever are more."""
    most, waiting = 0, [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            most = max(most, len(here.splitlines()))
        elif isinstance(here, Mapping):
            waiting.extend(here.values())
        elif isinstance(here, list | tuple):
            most = max(most, len(here))
            waiting.extend(here)
    return most


def exceeds(used: Mapping[Quantity, int], limits: Mapping[Quantity, int]) -> bool:
    """Did the call use more of anything than one call may? What an output shows of itself and nobody measured is more:
    a limit that is not looked at would be none. Of the rest, what nobody knows is not held against it here, and all
    that was reserved for it counts as used.
    """
    return any(used[each] > most if each in used else each in MEASURED for each, most in limits.items())
