"""What the kernel does for a process that holds secrets, and for what it started (Linux, prctl(2))."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

_SET_DUMPABLE = 4
_SET_CHILD_SUBREAPER = 36


def hide() -> bool:
    """Nobody but root reads this process's memory, environment or descriptors, and it leaves no core. Did it work?"""
    return _prctl(_SET_DUMPABLE, 0)


def show() -> bool:
    """Other processes of the same user may look at this one again: the decision point does, when it is greeted."""
    return _prctl(_SET_DUMPABLE, 1)


def adopt() -> bool:
    """Whatever loses its parent below this process becomes its child, and not the system's. Did it work?"""
    return _prctl(_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> bool:
    library = _library()
    return library is not None and library.prctl(option, value, 0, 0, 0) == 0


@cache
def _library() -> Any:
    """Imported only where there is a secret: it is not light."""
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
