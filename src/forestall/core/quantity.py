"""What a call uses up, and an output shows of itself."""

from __future__ import annotations

from enum import StrEnum


class Quantity(StrEnum):
    """What a budget counts besides calls."""

    ROWS = "rows"
    BYTES = "bytes"
    SPEND = "spend"  # whole minor units of the one currency that the mandate's owner has in mind
    SECONDS = "seconds"  # begun seconds that calls ran
    FAN_OUT = "fan_out"  # tasks delegated, at whatever depth
