"""Does a task's authority cover an action?"""

from __future__ import annotations

from functools import lru_cache

from forestall.core.model import Facts, Grant, Mandate, Subject, Tool
from forestall.core.reason import Reason
from forestall.core.wildcard import matches

MAX_DEPTH = 8
"""Hops from the task that a user's request opened. Longer chains have no honest use that we know of."""


def objection(grant: Grant | None, subject: Subject, tool: Tool, facts: Facts, at: int) -> Reason | None:
    """The first reason why `grant` does not cover this; None when it does."""
    if grant is None:
        return Reason.NO_GRANT
    if grant.holder != subject.id:
        return Reason.NOT_HOLDER
    if at >= grant.expires_at:
        return Reason.TASK_ENDED
    if facts.depth > MAX_DEPTH or grant.depth > MAX_DEPTH:
        return Reason.DEPTH
    if not covers_tool(grant.tools, tool.id) or not (tool.effects | facts.effects) <= grant.effects:
        return Reason.OUT_OF_SCOPE
    return None


def from_mandate(mandate: Mandate, task: str, subject: Subject, at: int) -> Grant:
    return Grant(
        task=task,
        holder=subject.id,
        purpose=mandate.purpose,
        mandate=mandate.name,
        tools=mandate.tools,
        effects=mandate.effects,
        expires_at=at + mandate.lifetime_ms,
        budget=mandate.budget,
    )


@lru_cache(maxsize=4096)
def covers_tool(patterns: tuple[str, ...], tool: str) -> bool:
    """Is `tool` matched by one of the patterns? `*` stands for any run of characters, and nothing else is special."""
    return any(matches(pattern.split("*"), tool) for pattern in patterns)
