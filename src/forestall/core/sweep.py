"""Find what a crash left unfinished, and finish its books.

A permit without an outcome may have acted: it is settled as ambiguous. What fails here stays unsettled, and the next
sweep finds it again. Credentials that it may have brought into being have records of their own: `core.lend.end_all`.
"""

from __future__ import annotations

from collections.abc import Sequence

from forestall.core.ask import CannotDo, Flow, Record
from forestall.core.entry import settled
from forestall.core.fate import Fate
from forestall.core.model import Permit


def sweep(unsettled: Sequence[Permit], at: int) -> Flow[tuple[Permit, ...]]:
    """Settle each permit as ambiguous. Answers those that could not be settled now."""
    left = []
    for permit in unsettled:
        try:
            yield Record(settled(permit, Fate.AMBIGUOUS, at, detail="swept"))
        except CannotDo:
            left.append(permit)
    return tuple(left)
