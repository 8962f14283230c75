"""What an action does to the world, and how surely that is known."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Effect(StrEnum):
    """The classes of effect, from the mildest to the gravest."""

    READ = "read"
    WRITE = "write"
    EXTERNAL = "external"
    DESTRUCTIVE = "destructive"
    EXECUTE = "execute"
    CREDENTIAL = "credential"
    PRIVILEGE = "privilege"

    @property
    def rank(self) -> int:
        return _RANK[self]


class Confidence(StrEnum):
    """Where a fact about a tool comes from, from the weakest to the strongest."""

    ASSUMED = "assumed"  # a server's hints, or nothing at all
    DERIVED = "derived"  # parsed from the call itself
    DECLARED = "declared"  # a person wrote or accepted it


_RANK = {effect: rank for rank, effect in enumerate(Effect)}

UNKNOWN: frozenset[Effect] = frozenset({Effect.DESTRUCTIVE, Effect.EXTERNAL})
"""What a tool is taken to do when nobody has said: the worst that an ordinary tool does."""


def highest(effects: Iterable[Effect]) -> Effect:
    """The gravest of `effects`; of none, the gravest unknown one."""
    return max(effects, key=_RANK.__getitem__, default=max(UNKNOWN, key=_RANK.__getitem__))


def groups(effects: frozenset[Effect]) -> frozenset[Effect]:
    """The effect groups that an action belongs to in policy.

    `read` holds only what does nothing but read, so that a permit for reads never reaches a tool that also sends.
    """
    effects = effects or UNKNOWN
    graver = effects - {Effect.READ}
    return graver or effects
