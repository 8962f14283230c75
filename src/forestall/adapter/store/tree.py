"""The trees of tasks, and the labels that flow in them. Not safe to share: `LogState` holds its lock around it.

A tree is remembered as a whole until nothing in it can happen any more, so that what was recorded late, below a task
that had ended, is told from what was recorded in time: by its place in the log, not by when it was heard of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from forestall.adapter.store.account import Account
from forestall.core.control import Order
from forestall.core.label import CLEAN, Label
from forestall.core.model import Actor, Grant

Holder = tuple[str, Actor]
"""Its tenant, its trust domain and its id."""

MAX_KILLED = 16_384
"""Names of killed tasks that are kept, also when their tree is forgotten. One whose name is not is denied as well, as a
task that nobody knows.
"""

MAX_OF_HOLDER = 16_384
"""Tasks of one holder that are remembered at a time, some 50 MB: those that are open, and those that ended in a tree
that goes on. Then it gets no more until some are forgotten. An agent has a few, and a busy one some hundreds.
"""


@dataclass(slots=True)
class Task:
    grant: Grant
    labels: Label
    account: Account
    opened: int
    """Where the log has it."""
    running: int = 0
    """Its own permits without an outcome."""
    ended: int | None = None
    """Where in the log it ended; None while it is open."""
    opened_at: int = 0
    """When, in milliseconds since the epoch."""

    def open_at(self, index: int) -> bool:
        """Was it open where the log has entry `index`?"""
        return self.ended is None or index < self.ended


@dataclass(slots=True)
class Trees:
    tasks: dict[str, Task] = field(default_factory=dict)
    instances: dict[str, Label] = field(default_factory=dict)
    """What each workload instance has seen; those that are clean are left out."""
    killed: dict[str, int] = field(default_factory=dict)
    """Tasks that a kill ended, or kept from living, and where the log has their end."""
    changed_tasks: set[str] = field(default_factory=set)
    changed_killed: set[str] = field(default_factory=set)
    changed_instances: set[str] = field(default_factory=set)
    _of_holder: Counter[Holder] = field(default_factory=Counter)
    """How many tasks of each are remembered."""
    _members: dict[str, set[str]] = field(default_factory=dict)
    """Of each tree, by its root."""
    _below: dict[str, set[str]] = field(default_factory=dict)
    _held: dict[str, set[str]] = field(default_factory=dict)
    """Open tasks of each instance."""

    def add(self, task: Task) -> None:
        """As it is: to open one, see `open`."""
        grant = task.grant
        self.tasks[grant.task] = task
        self._of_holder[_holder(grant)] += 1
        self._members.setdefault(grant.tree, set()).add(grant.task)
        self.changed_tasks.add(grant.task)
        if grant.parent:
            self._below.setdefault(grant.parent, set()).add(grant.task)
        if grant.instance and task.ended is None:
            self._held.setdefault(grant.instance, set()).add(grant.task)

    def open(self, grant: Grant, seen: Label, index: int, barred: Order | None = None) -> bool:
        """Take a task in that entry `index` opened. Below a task that had ended by then, or `barred` by an order that
        stood then, it never lives.

        What its holder was told when it was opened the holder knows in any case.
        """
        parent, known = self.tasks.get(grant.parent), grant.task in self.tasks
        lives = not known and barred is None and (parent.open_at(index) if parent else not grant.parent)
        if lives:
            labels = seen.join(self.instances.get(grant.instance, CLEAN))
            ended = parent.ended if parent else None
            self.add(Task(grant, labels, Account(grant.budget), index, ended=ended))
            self.learn(grant.task, labels)
        if not known and (barred is Order.KILL or grant.parent in self.killed):
            self._note_killed(grant.task, index)
        self.learn_instance(grant.instance, seen)
        return lives

    def has_room_for(self, holder: Holder) -> bool:
        """May it hold one task more?"""
        return self._of_holder[holder] < MAX_OF_HOLDER

    def chain(self, name: str) -> list[Task]:
        """The task, and those above it; nothing where it is not known."""
        chain = []
        task = self.tasks.get(name)
        while task is not None:
            chain.append(task)
            task = self.tasks.get(task.grant.parent)
        return chain

    def tree_of(self, name: str) -> str | None:
        """Which tree an open task is in; None where it is not known, or over."""
        task = self.tasks.get(name)
        return task.grant.tree if task is not None and task.ended is None else None

    def above(self, name: str) -> Iterator[str]:
        return (task.grant.task for task in self.chain(name)[1:])

    def is_open(self, name: str, at: int) -> bool:
        """Is it open, with everything above it, and not out of time?"""
        chain = self.chain(name)
        return bool(chain) and all(task.ended is None and at < task.grant.expires_at for task in chain)

    def end(self, name: str, index: int, *, killed: bool = False) -> list[str]:
        """The task and everything below it is over from entry `index` on. Answers those that were open."""
        ended = []
        left = [name]
        while left:
            current = left.pop()
            task = self.tasks.get(current)
            left += self._below.get(current, ())
            if task is None:
                continue
            if task.ended is None:
                ended.append(current)
            if task.open_at(index):
                task.ended = index
                self._note(current, index, killed=killed)
            self._held.get(task.grant.instance, set()).discard(current)
            self.changed_tasks.add(current)
        return ended

    def _note(self, name: str, index: int, *, killed: bool) -> None:
        """How it ended: what the log has first counts."""
        if killed:
            self._note_killed(name, index)
        elif self.killed.pop(name, None) is not None:
            self.changed_killed.add(name)

    def _note_killed(self, name: str, index: int) -> None:
        self.killed[name] = index
        self.changed_killed.add(name)
        if len(self.killed) > MAX_KILLED:
            oldest = next(iter(self.killed))
            del self.killed[oldest]
            self.changed_killed.add(oldest)

    def learn(self, name: str, label: Label) -> None:
        """The task's holder has seen data of this label, and so has whoever it works for."""
        left = [(name, label)]
        while left:
            name, label = left.pop()
            for task in self.chain(name):
                joined = task.labels.join(label)
                if joined != task.labels:
                    task.labels = joined
                    self.changed_tasks.add(task.grant.task)
                left += self._instance_learns(task.grant.instance, label)

    def knows(self, name: str, label: Label) -> bool:
        """Would `learn` change nothing? Of a task that is not known: no."""
        chain = list(self.chain(name))
        return bool(chain) and all(
            label.may_flow(task.labels) and self.instance_knows(task.grant.instance, label) for task in chain
        )

    def instance_knows(self, instance: str, label: Label) -> bool:
        return not instance or label.may_flow(self.instances.get(instance, CLEAN))

    def learn_instance(self, instance: str, label: Label) -> None:
        for name, learnt in self._instance_learns(instance, label):
            self.learn(name, learnt)

    def _instance_learns(self, instance: str, label: Label) -> list[tuple[str, Label]]:
        """What an instance learns in one task it knows in all others."""
        if not instance:
            return []
        before = self.instances.get(instance, CLEAN)
        joined = before.join(label)
        if joined == before:
            return []
        self.instances[instance] = joined
        self.changed_instances.add(instance)
        return [(name, label) for name in self._held.get(instance, ())]

    def forget(self, tree: str) -> list[Task]:
        """Let go of a tree whose root is over, if nothing in it runs or is about to. Answers what was let go of."""
        root, members = self.tasks.get(tree), self._members.get(tree, set())
        if root is None or root.ended is None or root.account.reserved:
            return []
        if any(self.tasks[name].running > 0 for name in members):
            return []
        gone = []
        for name in self._members.pop(tree):
            gone.append(self.tasks.pop(name))
            instance, holder = gone[-1].grant.instance, _holder(gone[-1].grant)
            self._of_holder[holder] -= 1
            if not self._of_holder[holder]:
                del self._of_holder[holder]
            self._below.pop(name, None)
            self.changed_tasks.add(name)
            if not self._held.get(instance):
                self._held.pop(instance, None)
        return gone


def _holder(grant: Grant) -> Holder:
    return grant.tenant, (grant.trust_domain, grant.holder)
