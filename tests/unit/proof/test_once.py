"""What is burnt has a name that nobody else's has, and that an attacker cannot choose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forestall.proof.once import once

names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), min_size=1, max_size=3)


@given(names, names)
def test_different_parts_have_different_names(one: list[str], other: list[str]) -> None:
    assert (once(*one, until=1).id == once(*other, until=2).id) == (one == other)


def test_a_name_has_one_length() -> None:
    assert len(once("dpop", "j" * 10_000, until=1).id) == 43
    assert once("dpop", "j", until=7).until == 7
