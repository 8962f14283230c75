"""What a task and all above it have reserved, spent and got back for an entry of the log. Not safe to share: `LogState`
holds its lock around it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from forestall.adapter.store.rows import Unsettled
from forestall.adapter.store.tree import Task, Trees
from forestall.core.budget import uses
from forestall.core.entry import Kind
from forestall.core.fate import Fate
from forestall.core.grant_json import effects_from_json
from forestall.core.model import Counted
from forestall.core.quantity import Quantity

RESERVED = frozenset({Kind.OPENED, Kind.PERMITTED})
"""Entries that something may have been reserved for."""

ONE_TASK_MORE = frozenset({Quantity.FAN_OUT})
"""What a task spends on each one that is opened below it."""

_SECOND_MS = 1000


def reservation(body: Mapping[str, Any]) -> tuple[str, Collection[Counted]]:
    """What was reserved for this entry, one of `RESERVED`, and of which task."""
    if body["kind"] == Kind.PERMITTED:
        return str(body["task"]), effects_from_json(body["effects"])
    return str(body.get("parent", "")), ONE_TASK_MORE if body.get("parent") else ()


def amounts_of(chain: Iterable[Task], counted: Collection[Counted]) -> dict[Counted, int]:
    """What is taken from each account of the chain: see `core.budget.uses`."""
    return uses([task.grant for task in chain], counted)


def spend(trees: Trees, chain: Iterable[Task], amounts: Mapping[Counted, int]) -> None:
    for task in chain:
        task.account.spend(amounts)
        trees.changed_tasks.add(task.grant.task)


def unspend(trees: Trees, chain: Iterable[Task], amounts: Mapping[Counted, int]) -> None:
    for task in chain:
        task.account.unspend(amounts)
        trees.changed_tasks.add(task.grant.task)


def used_by_call(
    amounts: Mapping[Counted, int], fate: Fate, used: Mapping[Quantity, int], body: Mapping[str, Any], known: Unsettled
) -> Mapping[Quantity, int]:
    """How much of each quantity a call used, as far as that is known. What took how long, the log says itself.

    `amounts`: what was spent on it. `used`: what its outcome says, and `body` is that entry's.
    """
    if fate is Fate.NOT_STARTED:
        return {each: 0 for each in amounts if isinstance(each, Quantity)}
    if fate is Fate.AMBIGUOUS or Quantity.SECONDS in used:
        return used
    seconds = -(-(int(body["at"]) - int(known.body["at"])) // _SECOND_MS)
    return {Quantity.SECONDS: max(0, seconds), **used}
