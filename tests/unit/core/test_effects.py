"""Effects: which is graver, and which groups of policy an action falls in."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from forestall.core.effects import UNKNOWN, Effect, groups, highest

EVERY_SET = [
    frozenset(chosen) for chosen in chain.from_iterable(combinations(Effect, size) for size in range(len(Effect) + 1))
]


def test_from_the_mildest_to_the_gravest() -> None:
    assert sorted(Effect, key=lambda effect: effect.rank) == [
        Effect.READ,
        Effect.WRITE,
        Effect.EXTERNAL,
        Effect.DESTRUCTIVE,
        Effect.EXECUTE,
        Effect.CREDENTIAL,
        Effect.PRIVILEGE,
    ]


def test_nothing_known_is_the_highest_unknown_effect() -> None:
    assert highest([]) is Effect.DESTRUCTIVE
    assert groups(frozenset()) == UNKNOWN


@pytest.mark.parametrize("effects", EVERY_SET[1:], ids=lambda effects: "+".join(sorted(effects)))
def test_the_highest_is_among_them_and_none_is_higher(effects: frozenset[Effect]) -> None:
    assert highest(effects) in effects
    assert all(effect.rank <= highest(effects).rank for effect in effects)


@pytest.mark.parametrize("effects", EVERY_SET, ids=lambda effects: "+".join(sorted(effects)) or "none")
def test_only_what_does_nothing_but_read_is_a_read(effects: frozenset[Effect]) -> None:
    assert (Effect.READ in groups(effects)) == (effects == {Effect.READ})
    assert effects - {Effect.READ} <= groups(effects)


def test_unknown_never_counts_as_a_read() -> None:
    assert Effect.READ not in UNKNOWN
    assert groups(UNKNOWN | {Effect.READ}) == UNKNOWN
