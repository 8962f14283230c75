"""What became of what was permitted."""

from __future__ import annotations

from enum import StrEnum


class Fate(StrEnum):
    """How a permit ended."""

    DONE = "done"
    FAILED = "failed"  # the tool ran, and said that it failed
    NOT_STARTED = "not_started"  # certainly nothing happened
    AMBIGUOUS = "ambiguous"  # it may have happened
