"""A task as an operator is shown it. Not safe to share: `LogState` holds its lock around it."""

from __future__ import annotations

from forestall.adapter.store.memory import Memory
from forestall.adapter.store.tree import Task
from forestall.port import Standing, TaskView


def views(memory: Memory) -> list[TaskView]:
    """Every task that is remembered, those above before those below."""
    known = sorted(memory.trees.tasks.values(), key=lambda task: (task.grant.depth, task.opened))
    return [_view(memory, task) for task in known]


def _view(memory: Memory, task: Task) -> TaskView:
    grant, given = task.grant, None
    if task.ended is not None:
        standing = Standing.KILLED if grant.task in memory.trees.killed else Standing.ENDED
    else:
        given = memory.suspending(grant.task)
        standing = Standing.OPEN if given is None else Standing.SUSPENDED
    return TaskView(
        task=grant.task,
        parent=grant.parent,
        root=grant.tree,
        depth=grant.depth,
        holder=grant.holder,
        tenant=grant.tenant,
        trust_domain=grant.trust_domain,
        user=grant.user,
        mandate=grant.mandate,
        purpose=grant.purpose,
        state=standing,
        labels=task.labels,
        budget=grant.budget,
        spent=dict(task.account.spent),
        running=task.running,
        opened_at=task.opened_at,
        expires_at=grant.expires_at,
        why="" if given is None else given.command.why,
        since=0 if given is None else given.at,
    )
