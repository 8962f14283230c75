"""Time goes on, whatever is done to the machine's clock."""

from __future__ import annotations

from forestall.clock import Clock


class Time:
    """A machine's two clocks, in nanoseconds."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000_000_000, 5_000_000

    def go(self, wall_ms: int, steady_ms: int | None = None) -> None:
        self.wall += wall_ms * 1_000_000
        self.steady += (wall_ms if steady_ms is None else steady_ms) * 1_000_000


def test_a_clock_that_is_set_back_goes_on_from_where_it_was() -> None:
    time = Time()
    clock = Clock(lambda: time.wall, lambda: time.steady)
    start = clock()
    time.go(10)
    assert clock() == start + 10
    time.go(-3_600_000, 5)
    assert clock() == start + 15, "an hour back is no hour more for what expires"
    time.go(10)
    assert clock() == start + 25


def test_a_clock_that_is_set_forward_or_slept_is_followed() -> None:
    time = Time()
    clock = Clock(lambda: time.wall, lambda: time.steady)
    start = clock()
    time.go(3_600_000, 5)
    assert clock() == start + 3_600_000
    time.go(-3_600_000, 5)
    assert clock() == start + 3_600_005


def test_a_pause_between_the_two_readings_is_no_step_forward() -> None:
    """A machine that is busy pauses a program anywhere; it would be ahead of everybody else's clock ever after."""
    time, pause_ms = Time(), 0

    def paused(reading: int) -> int:
        time.go(pause_ms)
        return reading

    clock = Clock(lambda: paused(time.wall), lambda: paused(time.steady))
    start = clock()
    pause_ms = 40
    for _ in range(3):
        clock()
    pause_ms = 0
    assert clock() == start + 6 * 40
