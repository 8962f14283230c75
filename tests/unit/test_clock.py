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
