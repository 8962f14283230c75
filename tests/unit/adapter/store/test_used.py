"""What was used is used: for everybody, over restarts, until it has ended; nothing is let go before its time."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapter.store.used import Most, Used
from forestall.core.entry import Use, used
from forestall.core.errors import Unavailable
from forestall.proof.fault import Fault, InvalidProof
from tests.tokens import refused

A, B = Use("a", "x", 100), Use("b", "x", 200)


def body(*uses: Use, at: int = 10) -> dict[str, Any]:
    return {**used("id", uses, at, durable=True).body, "at": at}


def test_what_was_claimed_is_not_claimed_again() -> None:
    held = Used()
    held.claim([A], 10)
    for uses in ([A], [B, A]):
        with refused(Fault.REPLAYED):
            held.claim(uses, 20)
    held.claim([B], 20)  # of what was refused as a whole nothing was taken


def test_one_thing_twice_in_one_claim_is_a_replay() -> None:
    with refused(Fault.REPLAYED):
        Used().claim([A, A], 10)


def test_what_the_log_says_was_used_is() -> None:
    held = Used()
    held.take(body(A, B))
    held.take(body(A, B))
    assert len(held) == 2
    with refused(Fault.REPLAYED):
        held.claim([A], 20)


def test_what_has_ended_is_let_go_and_does_not_come_back_with_the_clock() -> None:
    held = Used()
    held.claim([A, B], 10)
    held.claim([], 100)
    assert len(held) == 1
    with refused(Fault.EXPIRED):
        held.claim([A], 50)
    with refused(Fault.REPLAYED):
        held.claim([B], 150)


def test_the_index_holds_what_the_log_held() -> None:
    held, again = Used(), Used()
    held.claim([A, B], 10)
    held.claim([], 100)
    rows = held.changed()
    again.load({name: row for name, row in rows.items() if row is not None})
    with refused(Fault.REPLAYED):
        again.claim([B], 110)
    with refused(Fault.EXPIRED):
        again.claim([A], 50)
    assert held.changed() == {}
    held.claim([Use("c", "x", 300)], 250)
    assert held.changed()["b"] is None


def test_nothing_is_let_go_to_make_room() -> None:
    held = Used(Most(each=2, all=3))
    held.claim([A, B], 10)
    with pytest.raises(Unavailable, match="'x' has shown"):
        held.claim([Use("c", "x", 300)], 20)
    held.claim([Use("d", "y", 300)], 20)
    with pytest.raises(Unavailable, match="As many"):
        held.claim([Use("e", "z", 300)], 20)
    with refused(Fault.REPLAYED):
        held.claim([A], 20)
    held.claim([Use("c", "x", 300)], 100)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=30))
def test_whatever_comes_nothing_counts_twice(steps: list[tuple[str, int, int, bool]]) -> None:
    """Against a set that forgets nothing; each thing ends when it ends, whatever the clock does."""
    held, once, until = Used(), set[str](), dict[str, int]()
    for name, end, now, restart in steps:
        use = Use(name, "x", until.setdefault(name, end))
        if use.until > now:
            with suppress(InvalidProof):
                held.claim([use], now)
                assert name not in once
                once.add(name)
        if restart:
            rows, held = whole(held), Used()
            held.load(rows)


def whole(held: Used) -> dict[str, Any]:
    held._changed = set(held._held) or {"none"}
    return {name: row for name, row in held.changed().items() if row is not None}


@pytest.mark.parametrize("used", [{}, {"used": None}, {"used": [{}]}, {"used": [{"id": "a", "by": "x", "until": "?"}]}])
def test_an_entry_that_is_none_is_not_taken(used: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Used().take({"at": 1, **used})
