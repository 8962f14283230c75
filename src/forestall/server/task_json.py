"""A task, and an order that stands, as the command line is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forestall.core.control import Command
from forestall.core.model import Counted
from forestall.port import TaskView


def task_json(task: TaskView) -> dict[str, Any]:
    return {
        "task": task.task,
        "parent": task.parent,
        "depth": task.depth,
        "holder": task.holder,
        "tenant": task.tenant,
        "trust_domain": task.trust_domain,
        "user": task.user,
        "mandate": task.mandate,
        "purpose": task.purpose,
        "state": task.state.value,
        "labels": {
            "integrity": task.labels.integrity.value,
            "confidentiality": task.labels.confidentiality.value,
        },
        "budget": _amounts(task.budget),
        "spent": _amounts(task.spent),
        "running": task.running,
        "opened_at": task.opened_at,
        "expires_at": task.expires_at,
        "why": task.why,
        "since": task.since,
    }


def order_json(at: int, command: Command) -> dict[str, Any]:
    target = command.target
    return {
        "order": command.order.value,
        "reach": target.reach.value,
        "name": target.name,
        "trust_domain": target.trust_domain,
        "tenant": target.tenant,
        "level": command.level.value if command.level is not None else None,
        "why": command.why,
        "by": command.by,
        "at": at,
    }


def _amounts(amounts: Mapping[Counted, int]) -> dict[str, int]:
    return {counted.value: amount for counted, amount in amounts.items()}
