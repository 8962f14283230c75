"""Which secrets are looked for: those that may open something, however many, and the last of those that do not."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator

from hypothesis import given
from hypothesis import strategies as st

from forestall.pep.sought import MAX_OVER, Sought

NOW = 1_000


def secret(number: int) -> str:
    return f"secret-number-{number:05}"


def found(sought: Sought, number: int) -> bool:
    return sought.scrubber.finds(secret(number).encode())


def test_what_is_alive_is_looked_for_however_many_there_are() -> None:
    sought = Sought()
    count = 3 * MAX_OVER
    for number in range(count):
        sought.add(str(number), [secret(number)], until=None, now=NOW)
    assert all(found(sought, number) for number in range(count))


def test_the_oldest_of_what_is_over_make_room() -> None:
    sought = Sought()
    for number in range(MAX_OVER + 1):
        sought.add(str(number), [secret(number)], until=None, now=NOW)
        sought.end(str(number))
        sought.end(str(number))
    sought.add("more", [secret(9_999)], until=None, now=NOW)
    assert not found(sought, 0)
    assert all(found(sought, number) for number in (*range(1, MAX_OVER + 1), 9_999))


def test_what_ran_out_is_over_without_being_told() -> None:
    sought = Sought()
    sought.add("task's", [secret(0)], until=NOW + 1, now=NOW)
    for number in range(1, MAX_OVER + 2):
        sought.add(str(number), [secret(number)], until=NOW, now=NOW)
    assert found(sought, 0)
    for number in range(MAX_OVER + 2, 2 * MAX_OVER + 4):
        sought.add(str(number), [secret(number)], until=NOW + 1, now=NOW + 1)
    assert not found(sought, 0)


def test_what_is_looked_for_already_is_not_prepared_again() -> None:
    sought = Sought()
    sought.add("one", [secret(0)], until=NOW + 1, now=NOW)
    before = sought.scrubber
    sought.add("one", [secret(0)], until=NOW + 2, now=NOW)
    sought.add("other", [secret(0)], until=None, now=NOW)
    assert sought.scrubber is before


def test_what_two_have_is_looked_for_until_both_are_over() -> None:
    sought = Sought()
    sought.add("one", [secret(0)], until=None, now=NOW)
    sought.add("other", [secret(0)], until=None, now=NOW)
    sought.end("one")
    for number in range(1, 2 * MAX_OVER):
        sought.add(str(number), [secret(number)], until=None, now=NOW)
        sought.end(str(number))
    assert found(sought, 0)


class _Collecting(Collection[str]):
    """While it is read, what nobody has any more is collected: a call that was dropped ends its credential."""

    def __init__(self, sought: Sought) -> None:
        self._sought = sought

    def __iter__(self) -> Iterator[str]:
        self._sought.end("dropped")
        yield secret(1)

    def __len__(self) -> int:
        return 1

    def __contains__(self, one: object) -> bool:
        return one == secret(1)


def test_an_end_may_be_told_at_any_moment_of_the_same_thread() -> None:
    sought = Sought()
    sought.add("dropped", [secret(0)], until=None, now=NOW)
    adding = threading.Thread(target=lambda: sought.add("other", _Collecting(sought), until=None, now=NOW), daemon=True)
    adding.start()
    adding.join(30)
    assert not adding.is_alive()
    assert found(sought, 0)
    assert found(sought, 1)
    for number in range(2, MAX_OVER + 3):
        sought.add(str(number), [secret(number)], until=None, now=NOW)
        sought.end(str(number))
    sought.add("more", [secret(9_999)], until=None, now=NOW)
    assert not found(sought, 0)
    assert found(sought, 1)


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["call", "task", "end"])), max_size=120))
def test_nothing_that_may_be_alive_is_forgotten(steps: list[tuple[int, str]]) -> None:
    sought, alive, now = Sought(), dict[int, int | None](), NOW
    for number, step in steps:
        now += 1
        if step == "end":
            sought.end(str(number))
            alive.pop(number, None)
            continue
        until = None if step == "call" else now + 20
        sought.add(str(number), [secret(number)], until=until, now=now)
        alive[number] = until
    assert all(found(sought, number) for number, until in alive.items() if until is None or until > now)
