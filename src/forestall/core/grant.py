"""Does a task's authority cover an action?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from forestall.core.label import Confidentiality, Integrity, Label
from forestall.core.model import NOTHING, Facts, Grant, Json, Subject, Tool
from forestall.core.reason import Reason
from forestall.core.resource import objected_argument
from forestall.core.wildcard import matches

MAX_DEPTH = 8
"""Hops from the task that a user's request opened. Longer chains have no honest use that we know of."""


def objection(
    grant: Grant | None, subject: Subject, tool: Tool, facts: Facts, at: int, arguments: Mapping[str, Json] = NOTHING
) -> Reason | None:
    """The first reason why `grant` does not cover this; None when it does. A bound argument must be in `arguments`."""
    against = holder_objection(grant, subject, at)
    if against is not None or grant is None:
        return against
    if facts.depth > MAX_DEPTH or grant.depth > MAX_DEPTH:
        return Reason.DEPTH
    if not covers_tool(grant.tools, tool.id) or not (tool.effects | facts.effects) <= grant.effects:
        return Reason.OUT_OF_SCOPE
    if grant.ceiling is not None and not within(tool.output.join(facts.labels).confidentiality, grant.ceiling):
        return Reason.OUT_OF_SCOPE
    if grant.resources and objected_argument(grant.resources, tool.id, arguments, facts.paths) is not None:
        return Reason.OUT_OF_SCOPE
    return None


def holder_objection(grant: Grant | None, subject: Subject, at: int) -> Reason | None:
    """Why this subject may not use the grant now, whatever for. Another tenant's task is one that does not exist."""
    if grant is None or (grant.tenant, grant.trust_domain) != (subject.tenant, subject.trust_domain):
        return Reason.NO_GRANT
    if grant.holder != subject.id or grant.instance not in {"", subject.instance} or grant.key not in {"", subject.key}:
        return Reason.NOT_HOLDER
    if at >= grant.expires_at:
        return Reason.TASK_ENDED
    return None


def within(level: Confidentiality, ceiling: Confidentiality | None) -> bool:
    """Is data of this level what a task with this ceiling may know?"""
    if ceiling is None:
        return True
    return Label(Integrity.TRUSTED, level).may_flow(Label(Integrity.TRUSTED, ceiling))


@lru_cache(maxsize=4096)
def covers_tool(patterns: tuple[str, ...], tool: str) -> bool:
    """Is `tool` matched by one of the patterns? `*` stands for any run of characters, and nothing else is special."""
    return any(matches(pattern.split("*"), tool) for pattern in patterns)
