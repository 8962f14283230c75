"""All that is remembered, and what each entry of the log does to it. Not safe to share: `LogState` holds its lock
around it.

Nothing but the log changes it, except that what waits comes and goes, and that accounts are reserved from. So taking in
the log from its start amounts to the same as what a process that ran all the while has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from forestall.adapter.store.holds import Holds
from forestall.adapter.store.orders import Given, OrdersGiven
from forestall.adapter.store.rows import Leased, Unsettled, given_of, label_of, used_of
from forestall.adapter.store.spending import ONE_TASK_MORE, amounts_of, spend, unspend, used_by_call
from forestall.adapter.store.taken import Taken
from forestall.adapter.store.tree import Task, Trees
from forestall.adapter.store.upstream import Undecided
from forestall.adapter.store.used import Used
from forestall.core.budget import returned
from forestall.core.control import Order, Reach
from forestall.core.entry import Kind, Stream
from forestall.core.errors import Tampered
from forestall.core.fate import Fate
from forestall.core.grant_json import grant_from_json
from forestall.core.label import Label
from forestall.port import Position, Written

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)
"""What an entry raises that does not hold what its kind says."""


@dataclass(slots=True)
class Memory:
    trees: Trees = field(default_factory=Trees)
    orders: OrdersGiven = field(default_factory=OrdersGiven)
    holds: Holds = field(default_factory=Holds)
    undecided: Undecided = field(default_factory=Undecided)
    used: Used = field(default_factory=Used)
    """What counts once, and was shown."""
    unsettled: dict[str, Unsettled] = field(default_factory=dict)
    """By permit."""
    leases: dict[str, Leased] = field(default_factory=dict)
    """Credentials that nobody has said the end of, by name, in the order of the log."""
    taken: dict[Stream, Taken] = field(default_factory=lambda: {stream: Taken() for stream in Stream})
    changed_permits: set[str] = field(default_factory=set)
    changed_leases: set[str] = field(default_factory=set)
    changed_streams: set[Stream] = field(default_factory=set)

    # -- entries of the log

    def take(self, written: Written) -> bool:
        """An entry of any stream but that of denials. False: it was taken in before.

        Raises:
            Tampered: the entry does not hold what its kind says.
        """
        stream, index = written.position.stream, written.position.index
        taken = self.taken[stream]
        if taken.has(index):
            return False
        body = written.body
        try:
            name = f"{body['kind']} {body['id']} {body['at']}"
            if stream is Stream.PERMITS:
                self._take_permits(body, index)
        except _UNREADABLE as error:
            raise Tampered(f"Entry {index} of {stream} does not hold what its kind says ({error!r}).") from None
        taken.add(index, name)
        self.changed_streams.add(stream)
        return True

    def take_denial(self, written: Written) -> None:
        """Of these, only holds change anything. Raises Tampered, as `take` does."""
        taken, index = self.taken[Stream.DENIALS], written.position.index
        if index >= taken.count:
            taken.count = index + 1
            self.changed_streams.add(Stream.DENIALS)
        body = written.body
        tree = self.trees.tree_of(str(body.get("task", ""))) if body.get("kind") == Kind.HELD else None
        if tree is None:
            return
        try:
            kept = self.holds.hold(body, written.position, tree, str(body.get("binding", "")))
        except _UNREADABLE as error:
            raise Tampered(f"Entry {index} of denials does not hold what its kind says ({error!r}).") from None
        self.forget_over()
        if kept is not None:
            self.undecided.add(f"hold {kept}", str(body["task"]))

    def _take_permits(self, body: Mapping[str, Any], index: int) -> None:
        match body["kind"]:
            case Kind.PERMITTED:
                self._permit(body, index)
            case Kind.SETTLED:
                self._settle(body)
            case Kind.OPENED:
                self._open(body, index)
            case Kind.EXTENDED:
                self._extend(body["task"], int(body["expires_at"]))
            case Kind.CLOSED:
                self._end(body["task"], index)
            case Kind.ORDERED:
                self._order(given_of(body, index), index)
            case Kind.LEASED:
                known = Leased.of(body)
                self.leases[known.lease.name] = known
                self.changed_leases.add(known.lease.name)
            case Kind.REVOKED:
                self.leases.pop(body["id"], None)
                self.changed_leases.add(body["id"])
            case Kind.USED:
                self.used.take(body)
            case Kind.APPROVED | Kind.DECLINED:
                self._answer(body, index)
            case _:
                pass
        if "approved_by" in body:
            self.holds.use(body["approved_by"])
        if self.holds.over:
            self.forget_over()

    # -- tasks

    def _open(self, body: Mapping[str, Any], index: int) -> None:
        grant = grant_from_json(body)
        bar = self.orders.bars(grant, index)
        if not self.trees.open(grant, label_of(body["seen"]), index, bar.command.order if bar else None):
            return
        self.trees.tasks[grant.task].opened_at = int(body["at"])
        if grant.parent:
            spend(self.trees, self.trees.chain(grant.parent), dict.fromkeys(ONE_TASK_MORE, 1))
        killed = self.orders.killed(grant, index)
        if killed is not None:
            self._end(grant.task, killed, killed=True)

    def _extend(self, name: str, until: int) -> None:
        """Never shorter: two extensions may be heard of in either order."""
        task = self.trees.tasks.get(name)
        if task is not None and until > task.grant.expires_at:
            task.grant = replace(task.grant, expires_at=until)
            self.trees.changed_tasks.add(name)

    def _end(self, name: str, index: int, *, killed: bool = False) -> None:
        task = self.trees.tasks.get(name)
        for ended in self.trees.end(name, index, killed=killed):
            self.undecided.drop(ended)
            self.holds.end(ended)
        self.undecided.wake(self.trees)
        if task is not None:
            self.forget(task.grant.tree)

    def forget(self, tree: str) -> None:
        """Let go of a tree in which nothing can happen any more, and of what was ordered about its tasks alone."""
        gone = self.trees.forget(tree)
        if self.orders:
            for task in gone:
                self.orders.drop(task.grant.task, task.grant.tenant)

    # -- orders

    def _order(self, given: Given, index: int) -> None:
        """What it says of tasks that are known; those that are still to come are told when they do."""
        count, target = self.taken[Stream.PERMITS].count, given.command.target.plain()
        self.orders.take(given, index + 1 if index == count else count)
        if given.command.order in {Order.KILL, Order.SUSPEND}:
            for task in [task for task in self.trees.tasks.values() if target.covers(task.grant)]:
                self._reach(task, given)
        if target.reach is Reach.TASK and target.name not in self.trees.tasks and index == count:
            self.orders.drop(target.name, target.tenant)

    def _reach(self, task: Task, given: Given) -> None:
        """A kill or a suspension covers a task that is known."""
        name = task.grant.task
        if task.opened > given.index:
            bar = self.orders.bars(task.grant, task.opened)
            if bar is not None:
                self._end(name, task.opened, killed=bar.command.order is Order.KILL)
        elif given.command.order is Order.KILL:
            self._end(name, given.index, killed=True)

    def suspending(self, name: str) -> Given | None:
        """What suspends the task, or one above it."""
        if not self.orders:
            return None
        found = (self.orders.suspending(task.grant) for task in self.trees.chain(name))
        return next((given for given in found if given is not None), None)

    # -- permits

    def _permit(self, body: Mapping[str, Any], index: int) -> None:
        known = Unsettled.of(body, index)
        name, trees = known.permit.task, self.trees
        self.unsettled[known.permit.id] = known
        self.changed_permits.add(known.permit.id)
        chain = trees.chain(name)
        if chain:
            chain[0].running += 1
            spend(trees, chain, amounts_of(chain, known.permit.effects))

    def _settle(self, body: Mapping[str, Any]) -> None:
        fate, labels, used = Fate(body["fate"]), label_of(body["labels"]), used_of(body)
        name, trees = str(body["task"]), self.trees
        known = self.unsettled.pop(body["id"], None)
        self.changed_permits.add(body["id"])
        task = trees.tasks.get(name)
        if fate is not Fate.NOT_STARTED:
            self._learn(name, task, labels, known)
        if task is None or known is None:
            return
        task.running -= 1
        chain = trees.chain(name)
        amounts = amounts_of(chain, known.permit.effects)
        unspend(trees, chain, returned(amounts, used_by_call(amounts, fate, used, body, known)))
        self.forget(task.grant.tree)

    def adds_nothing(self, permit: str) -> bool:
        """Would `_learn` change nothing, whenever its outcome comes?"""
        known = self.unsettled.get(permit)
        if known is None or not self.trees.knows(known.permit.task, known.permit.output):
            return False
        return all(self.trees.instance_knows(who, known.permit.output) for who in _asking(known))

    def _learn(self, name: str, task: Task | None, labels: Label, known: Unsettled | None) -> None:
        """Under a permit that was recorded after its task had ended, only whoever asked can have learnt anything."""
        if task is not None and (known is None or task.open_at(known.index)):
            self.trees.learn(name, labels)
        if known is not None:
            for who in _asking(known):
                self.trees.learn_instance(who, labels)

    # -- holds

    def _answer(self, body: Mapping[str, Any], index: int) -> None:
        tree = self.trees.tree_of(str(body["task"]))
        if tree is not None:
            self.holds.answer(body, Position(Stream.PERMITS, index), tree)

    def forget_over(self) -> None:
        """Holds that are over keep nobody waiting."""
        while self.holds.over:
            self.undecided.remove(f"hold {self.holds.over.pop()}")
        self.undecided.wake(self.trees)


def _asking(known: Unsettled) -> tuple[str, str]:
    """The instances of who asked for it, as it was attested; empty where there is none."""
    subject = known.body["subject"] or {}
    return str(subject.get("instance", "")), str(subject.get("process", ""))
