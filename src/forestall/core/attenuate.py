"""The grant of a task below another, and whether one grant is within another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from forestall.core.grant import MAX_DEPTH, within
from forestall.core.model import Counted, Grant, Resource, Subject
from forestall.core.quantity import Quantity
from forestall.core.reason import Objection, Reason
from forestall.core.resource import implies, is_narrower
from forestall.core.wanted import MAX_ENTRIES, Wanted
from forestall.core.wildcard import covers

_C = TypeVar("_C", bound=Counted)


def attenuate(parent: Grant, wanted: Wanted, *, task: str, holder: Subject, at: int) -> Grant | Objection:
    """The grant of a task below `parent`: what is wanted, where that is no wider; else the first thing that is."""
    against = _chain_objection(parent, holder, at) or _wider(parent, wanted, at)
    if against is not None:
        return against
    tools = parent.tools if wanted.tools is None else wanted.tools
    effects = parent.effects if wanted.effects is None else wanted.effects
    resources = (*parent.resources, *(one for one in wanted.resources if one not in parent.resources))
    if not tools or not effects or len(resources) > MAX_ENTRIES:
        return Objection(Reason.OUT_OF_SCOPE, "a task for nothing, or with more bounds than a grant can hold")
    return replace(
        parent,
        task=task,
        holder=holder.id,
        instance=holder.instance,
        key=holder.key,
        tools=tools,
        effects=effects,
        resources=resources,
        ceiling=parent.ceiling if wanted.ceiling is None else wanted.ceiling,
        expires_at=parent.expires_at if wanted.expires_at is None else wanted.expires_at,
        longest_at=parent.longest_at or parent.expires_at,
        budget={**parent.budget, **(wanted.budget or {})},
        per_call={**parent.per_call, **(wanted.per_call or {})},
        depth=parent.depth + 1,
        max_depth=parent.max_depth if wanted.max_depth is None else wanted.max_depth,
        parent=parent.task,
        root=parent.tree,
        actors=(holder.actor, *parent.chain),
    )


def narrower(child: Grant, parent: Grant) -> bool:
    """Is all that `child` allows allowed by `parent` too? Sound: never a wrong yes, whoever made the two."""
    return (
        child.depth > parent.depth
        and child.max_depth <= parent.max_depth
        and child.expires_at <= parent.expires_at
        and child.effects <= parent.effects
        and covered(child.tools, parent.tools)
        and is_narrower(child.resources, parent.resources)
        and (parent.ceiling is None or (child.ceiling is not None and within(child.ceiling, parent.ceiling)))
        and _no_more(child.budget, parent.budget)
        and _no_more(child.per_call, parent.per_call)
    )


def covered(tools: tuple[str, ...], by: tuple[str, ...]) -> bool:
    """Is every tool that `tools` match matched by one of `by`? Exact."""
    wider = [pattern.split("*") for pattern in by]
    return all(covers(wider, pattern.split("*")) for pattern in tools)


def _chain_objection(parent: Grant, holder: Subject, at: int) -> Objection | None:
    if at >= parent.expires_at:
        return Objection(Reason.PARENT_ENDED)
    if (holder.tenant, holder.trust_domain) != (parent.tenant, parent.trust_domain):
        return Objection(Reason.OTHER_DOMAIN)
    if holder.actor in parent.chain:
        return Objection(Reason.CYCLE)
    if parent.depth >= min(parent.max_depth, MAX_DEPTH):
        return Objection(Reason.DEPTH)
    if parent.budget.get(Quantity.FAN_OUT, 0) < 1:
        return Objection(Reason.BUDGET, "a task that names no `fan_out` is not handed on")
    return None


def _wider(parent: Grant, wanted: Wanted, at: int) -> Objection | None:
    """What is more than the task above has."""
    wider = {
        "tools": wanted.tools is not None and not covered(wanted.tools, parent.tools),
        "effects": wanted.effects is not None and not wanted.effects <= parent.effects,
        "resources": not all(_agrees(one, parent.resources) for one in wanted.resources),
        "confidentiality": wanted.ceiling is not None and not within(wanted.ceiling, parent.ceiling),
        "expires_at": wanted.expires_at is not None and wanted.expires_at > parent.expires_at,
        "max_depth": wanted.max_depth is not None and wanted.max_depth > parent.max_depth,
        "budget": not _within_budget(wanted.budget or {}, parent.budget),
        "per_call": not _within_budget(wanted.per_call or {}, parent.per_call),
    }
    for name, is_wider in wider.items():
        if is_wider:
            return Objection(Reason.WIDER, f"`{name}`")
    if wanted.expires_at is not None and wanted.expires_at <= at:
        return Objection(Reason.TASK_ENDED, "a task that ends before it begins")
    if wanted.max_depth is not None and wanted.max_depth <= parent.depth:
        return Objection(Reason.DEPTH, "the new task would be deeper than it may be")
    return None


def _agrees(wanted: Resource, bounds: tuple[Resource, ...]) -> bool:
    """The bounds above stay whatever is wanted; one that asks for more than they let through is a mistake, or worse."""
    return all(
        implies(replace(wanted, tool=bound.tool), bound)
        for bound in bounds
        if bound.argument == wanted.argument
        and (covered((bound.tool,), (wanted.tool,)) or covered((wanted.tool,), (bound.tool,)))
    )


def _within_budget(wanted: Mapping[_C, int], parent: Mapping[_C, int]) -> bool:
    return all(amount <= parent.get(counted, amount) for counted, amount in wanted.items())


def _no_more(child: Mapping[_C, int], parent: Mapping[_C, int]) -> bool:
    return all(counted in child and child[counted] <= limit for counted, limit in parent.items())
