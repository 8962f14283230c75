"""A permit acts at most once, however many there are."""

from __future__ import annotations

from forestall.pep.mcp.burned import ROOM, Burned


class Clock:
    def __init__(self) -> None:
        self.now = 0
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.now


def test_a_permit_is_taken_once() -> None:
    burned = Burned(Clock())
    assert burned.take("a", 10)
    assert not burned.take("a", 10)
    assert burned.take("b", 10)


def test_none_that_could_still_be_used_is_forgotten() -> None:
    clock = Clock()
    burned = Burned(clock)
    taken = [(f"p{number}", 1 + number % 2 * 10) for number in range(2 * ROOM)]
    assert all(burned.take(*one) for one in taken)
    clock.now = 1
    assert all(burned.take(f"q{number}", 11) for number in range(ROOM + 1))
    assert not any(burned.take(permit, until) for permit, until in taken if until > clock.now)


def test_those_that_ran_out_are_let_go() -> None:
    clock = Clock()
    burned = Burned(clock)
    for number in range(3 * ROOM):
        clock.now = number
        burned.take(f"p{number}", number + 1)
    assert len(burned._until) <= ROOM


def test_a_full_record_is_not_searched_for_each_permit() -> None:
    clock = Clock()
    burned = Burned(clock)
    for number in range(4 * ROOM):
        burned.take(f"p{number}", 1)
    assert clock.looks <= 2
