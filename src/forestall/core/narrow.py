"""Policy may grant less than was asked for: the effects, the time, the hops of a task that it lets be opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

from forestall.core.model import Grant, Narrowing
from forestall.core.reason import Objection, Reason


def narrowest(all_of: Iterable[Narrowing]) -> Narrowing | None:
    """What is left where all of these count."""
    found: Narrowing | None = None
    for one in all_of:
        found = one if found is None else _both(found, one)
    return found


def _both(one: Narrowing, other: Narrowing) -> Narrowing:
    effects = (each.effects for each in (one, other) if each.effects is not None)
    lifetimes = (each.lifetime_ms for each in (one, other) if each.lifetime_ms is not None)
    depths = (each.max_depth for each in (one, other) if each.max_depth is not None)
    return Narrowing(
        reduce(frozenset.intersection, effects) if one.effects is not None or other.effects is not None else None,
        min(lifetimes, default=None),
        min(depths, default=None),
    )


def narrow(grant: Grant, by: Narrowing | None, at: int) -> Grant | Objection:
    """What is left of `grant`, which begins `at`; an objection where that is nothing.

    No extension gives back what was taken: `longest_at` keeps within the same time.
    """
    if by is None:
        return grant
    effects = grant.effects if by.effects is None else grant.effects & by.effects
    latest = grant.expires_at if by.lifetime_ms is None else min(grant.expires_at, at + by.lifetime_ms)
    longest = grant.longest_at if by.lifetime_ms is None else min(grant.longest_at, at + by.lifetime_ms)
    deepest = grant.max_depth if by.max_depth is None else min(grant.max_depth, by.max_depth)
    if not effects:
        return Objection(Reason.OUT_OF_SCOPE, "policy leaves none of the effects")
    if deepest < grant.depth:
        return Objection(Reason.DEPTH, "policy lets no task be as deep")
    return replace(
        grant,
        effects=effects,
        expires_at=latest,
        longest_at=longest if longest > latest else 0,
        max_depth=deepest,
    )
