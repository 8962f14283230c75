"""What follows from the ledger: open tasks, spent budgets, labels and unsettled permits.

The truth of a running process is in memory. An index on disk saves replaying the whole log at the next start; it is
written in batches, off the path of a decision, and whatever is wrong with it, the log is replayed instead.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from forestall.adapter.store.holds import Holds
from forestall.adapter.store.index import Batch, Index
from forestall.adapter.store.orders import Given, Orders
from forestall.adapter.store.rows import (
    Unsettled,
    given_of,
    given_row,
    label_of,
    label_row,
    read_stream,
    read_task,
    stream_row,
    target_key,
    task_row,
    used_of,
)
from forestall.adapter.store.taken import Taken
from forestall.adapter.store.tree import Task, Trees
from forestall.adapter.store.upstream import Undecided
from forestall.adapter.store.used import Used
from forestall.core.budget import returned, uses
from forestall.core.control import Command, Order, Reach, Target, barring
from forestall.core.entry import Kind, Opening, Stream
from forestall.core.errors import ForestallError, Tampered, cure
from forestall.core.grant_json import effects_from_json, grant_from_json
from forestall.core.label import CLEAN, WORST, Label
from forestall.core.model import Action, Counted, Facts, Fate, Grant, Permit, Quantity, Risk, Ruling, Subject
from forestall.core.reason import Reason
from forestall.port import Ledger, Position, Standing, TaskView, Waiting, Written

_SECOND_MS = 1000
_FAN_OUT = frozenset({Quantity.FAN_OUT})


class LogState:
    """`port.State` for one process that owns its ledger. Safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._trees = Trees()
        self._orders = Orders()
        self._undecided = Undecided()
        self.used = Used()
        """What counts once, and was shown."""
        self._holds = Holds()
        self._unsettled: dict[str, Unsettled] = {}
        self._taken = {stream: Taken() for stream in Stream}
        self._early: set[int] = set()
        """Entries that `catch_up` took in before their own `apply` came to turn the reservation into spending."""
        self._dirty_permits: set[str] = set()
        self._dirty_streams: set[Stream] = set()
        self._index: Index | None = None
        self.fault = ""
        """Why the index is not kept any more, for the operator; empty while it is."""

    # -- port.State

    def find_grant(self, task: str) -> Grant | None:
        known = self._trees.tasks.get(task)
        return known.grant if known and known.ended is None else None

    def labels(self, task: str) -> Label:
        """Of a task that is not known: the worst."""
        known = self._trees.tasks.get(task)
        return known.labels if known else WORST

    def seen(self, instance: str) -> Label:
        return self._trees.instances.get(instance, CLEAN)

    def reserve(self, grant: Grant, counted: Collection[Counted]) -> bool:
        with self._lock:
            chain = list(self._trees.chain(grant.task))
            if not chain or chain[0].ended is not None:
                return False
            amounts = _uses(chain, counted)
            if not all(task.account.has_room(amounts) for task in chain):
                return False
            for task in chain:
                task.account.reserve(amounts)
            return True

    def release(self, grant: Grant, counted: Collection[Counted]) -> None:
        with self._lock:
            self._unreserve(grant.task, counted)

    def stands(self, permit: str, at: int) -> bool:
        with self._lock:
            known = self._unsettled.get(permit)
            if known is None or at >= known.permit.expires_at:
                return False
            return self._trees.is_open(known.permit.task, at) and self._suspending(known.permit.task) is None

    def stopped(self, task: str) -> Reason | None:
        known = self._trees.tasks.get(task)
        if known is None or known.ended is not None:
            return Reason.REVOKED if task in self._trees.killed else None
        if not self._orders:
            return None
        with self._lock:
            return None if self._suspending(task) is None else Reason.SUSPENDED

    def barred(self, subject: Subject, user: str) -> Reason | None:
        if not self._orders:
            return None
        with self._lock:
            given = self._orders.barring(barring(subject.tenant, [subject.actor], user))
        if given is None:
            return None
        return Reason.REVOKED if given.command.order is Order.KILL else Reason.SUSPENDED

    def has_room_for(self, subject: Subject) -> bool:
        """May it hold one task more, as far as what is remembered of tasks is bounded?"""
        with self._lock:
            return self._trees.has_room_for((subject.tenant, subject.actor))

    def standing(self, target: Target) -> Command | None:
        """The kill or suspension that stands for exactly this target, and was the last to be ordered; or None."""
        with self._lock:
            return self._orders.about(target)

    def risk(self, grant: Grant) -> Risk:
        if not self._orders:
            return Risk.LOW
        with self._lock:
            above = (task.grant for task in self._trees.chain(grant.parent))
            return self._orders.risk([grant, *above])

    @property
    def epoch(self) -> int:
        return self._orders.epoch

    def tasks(self) -> Sequence[TaskView]:
        with self._lock:
            known = sorted(self._trees.tasks.values(), key=lambda task: (task.grant.depth, task.opened))
            return [self._view(task) for task in known]

    def orders(self) -> Sequence[tuple[int, Command]]:
        with self._lock:
            return [(given.at, given.command) for given in self._orders.standing()]

    def asked(self, action: str, task: str) -> None:
        with self._lock:
            if self.find_grant(task) is not None:
                self._undecided.add(action, task)

    def answered(self, action: str) -> None:
        with self._lock:
            self._undecided.remove(action)
            self._wake()

    def watch_above(self, task: str, wake: Callable[[], None]) -> bool:
        with self._lock:
            if not self._undecided.among(self._trees.above(task)):
                return False
            self._undecided.watching[wake] = task
            return True

    def unwatch(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._undecided.watching.pop(wake, None)

    def undecided_above(self, task: str) -> Sequence[str]:
        with self._lock:
            return self._undecided.among(self._trees.above(task))

    def take_approval(self, asked: Action, asker: Subject, ruling: Ruling, facts: Facts) -> tuple[str, ...] | Reason:
        with self._lock:
            tree = self._tree(asked.task) or asked.task
            found = self._holds.take(asked, asker, ruling, facts, tree)
            self._forget_over()
            return found

    def waiting(self) -> Sequence[Waiting]:
        with self._lock:
            return [held.waiting() for held in self._holds.all()]

    def held(self, hold: str) -> Waiting | None:
        with self._lock:
            held = self._holds.find(hold)
            return None if held is None else held.waiting()

    def fate_of(self, hold: str) -> Literal["waits", "used", "declined", "gone"]:
        with self._lock:
            return self._holds.fate(hold)

    def apply(self, written: Written) -> None:
        """See `port.State`. What was reserved for the entry, where something was, becomes spending.

        Raises:
            Tampered: the entry does not hold what its kind says.
        """
        with self._lock:
            index = written.position.index
            if written.position.stream is Stream.DENIALS:
                self._take_denial(written)
                return
            if written.position.stream is Stream.PERMITS and index in self._early:
                self._early.discard(index)
                self._unreserve(*_reservation(written.body))
                return
            self._take(written, live=True)

    def applied(self, stream: Stream) -> int:
        return self._taken[stream].count

    def unsettled(self) -> Sequence[Permit]:
        with self._lock:
            return [known.permit for known in self._unsettled.values()]

    def close(self) -> None:
        self.flush()
        with self._flushing:
            if self._index is not None:
                self._index.close()
                self._index = None

    # -- what a running decision point asks besides

    @property
    def behind(self) -> bool:
        """Is an entry known to be missing below one that was taken in?"""
        return bool(self._taken[Stream.PERMITS].ahead)

    def catch_up(self, ledger: Ledger) -> None:
        """Take in entries that the log holds and nobody applied: those whose append failed after it had written."""
        for written in ledger.read(Stream.PERMITS, self.applied(Stream.PERMITS)):
            with self._lock:
                if self._take(written, live=False) and written.body["kind"] in _SPENDING:
                    self._early.add(written.position.index)
        self.recall(ledger)

    def recall(self, ledger: Ledger) -> None:
        """Open what is sealed of holds that the log told of. One that does not open can be approved by nobody."""
        with self._lock:
            unbound = self._holds.unbound()
        for name, position in unbound:
            bound = _bound(ledger, position)
            with self._lock:
                self._holds.bind(name, bound)
                self._forget_over()

    def expire(self, at: int) -> None:
        """Nothing waits any more for holds that ran out."""
        with self._lock:
            self._holds.expire(at)
            self._forget_over()

    def open_tasks(self) -> Sequence[Grant]:
        with self._lock:
            return [task.grant for task in self._trees.tasks.values() if task.ended is None]

    def flush(self) -> None:
        """Write what changed to the index. Blocking; call it off the path of decisions. Never raises for the index."""
        with self._flushing:
            if self._index is None:
                return
            with self._lock:
                batch = self._batch()
            if batch is None:
                return
            try:
                self._index.write(batch)
            except (sqlite3.Error, OSError) as error:
                self.fault = f"The index is not kept ({error}); the log will be replayed at the next start."
                self._index.close()
                self._index = None

    # -- inside; the lock is held

    def _take(self, written: Written, *, live: bool) -> bool:
        stream, index = written.position.stream, written.position.index
        taken = self._taken[stream]
        if taken.has(index):
            return False
        body = written.body
        try:
            name = f"{body['kind']} {body['id']} {body['at']}"
            if stream is Stream.PERMITS:
                self._take_permits(body, index)
                if self._holds.over:
                    self._forget_over()
                if live and body["kind"] in _SPENDING:
                    self._unreserve(*_reservation(body))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Tampered(f"Entry {index} of {stream} does not hold what its kind says ({error!r}).") from None
        taken.add(index, name)
        self._dirty_streams.add(stream)
        return True

    def _take_denial(self, written: Written) -> None:
        taken, index = self._taken[Stream.DENIALS], written.position.index
        if index >= taken.count:
            taken.count = index + 1
            self._dirty_streams.add(Stream.DENIALS)
        body = written.body
        tree = self._tree(str(body.get("task", ""))) if body.get("kind") == Kind.HELD else None
        if tree is None:
            return
        try:
            kept = self._holds.hold(body, written.position, tree, str(body.get("binding", "")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Tampered(f"Entry {index} of denials does not hold what its kind says ({error!r}).") from None
        self._forget_over()
        if kept is not None:
            self._undecided.add(f"hold {kept}", str(body["task"]))

    def _tree(self, name: str) -> str | None:
        """The tree of an open task."""
        task = self._trees.tasks.get(name)
        return task.grant.tree if task is not None and task.ended is None else None

    def _forget_over(self) -> None:
        """Holds that are over keep nobody waiting."""
        while self._holds.over:
            self._undecided.remove(f"hold {self._holds.over.pop()}")
        self._wake()

    def _answer(self, body: Mapping[str, Any], index: int) -> None:
        tree = self._tree(str(body["task"]))
        if tree is not None:
            self._holds.answer(body, Position(Stream.PERMITS, index), tree)

    def _take_permits(self, body: Mapping[str, Any], index: int) -> None:
        match body["kind"]:
            case Kind.OPENED:
                self._open(body, index)
            case Kind.EXTENDED:
                self._extend(body["task"], int(body["expires_at"]))
            case Kind.CLOSED:
                self._end(body["task"], index)
            case Kind.ORDERED:
                self._order(given_of(body, index), index)
            case Kind.PERMITTED:
                self._permit(body, index)
            case Kind.SETTLED:
                self._settle(body)
            case Kind.USED:
                self.used.take(body)
            case Kind.APPROVED | Kind.DECLINED:
                self._answer(body, index)
            case _:
                pass
        if "approved_by" in body:
            self._holds.use(body["approved_by"])

    def _open(self, body: Mapping[str, Any], index: int) -> None:
        grant = grant_from_json(body)
        bar = self._orders.bars(grant, index)
        if not self._trees.open(grant, label_of(body["seen"]), index, bar.command.order if bar else None):
            return
        self._trees.tasks[grant.task].opened_at = int(body["at"])
        if grant.parent:
            self._spend(grant.parent, dict.fromkeys(_FAN_OUT, 1))
        killed = self._orders.killed(grant, index)
        if killed is not None:
            self._end(grant.task, killed, killed=True)

    def _extend(self, name: str, until: int) -> None:
        """Never shorter: two extensions may be heard of in either order."""
        task = self._trees.tasks.get(name)
        if task is not None and until > task.grant.expires_at:
            task.grant = replace(task.grant, expires_at=until)
            self._trees.changed_tasks.add(name)

    def _end(self, name: str, index: int, *, killed: bool = False) -> None:
        task = self._trees.tasks.get(name)
        for ended in self._trees.end(name, index, killed=killed):
            self._undecided.drop(ended)
            self._holds.end(ended)
        self._wake()
        if task is not None:
            self._forget(task.grant.tree)

    def _wake(self) -> None:
        for wake, task in list(self._undecided.watching.items()):
            if not self._undecided.among(self._trees.above(task)):
                del self._undecided.watching[wake]
                wake()

    def _order(self, given: Given, index: int) -> None:
        """What it says of tasks that are known; those that are still to come are told when they do."""
        count, target = self._taken[Stream.PERMITS].count, given.command.target.plain()
        self._orders.take(given, index + 1 if index == count else count)
        if given.command.order in {Order.KILL, Order.SUSPEND}:
            for task in [task for task in self._trees.tasks.values() if target.covers(task.grant)]:
                self._reach(task, given)
        if target.reach is Reach.TASK and target.name not in self._trees.tasks and index == count:
            self._orders.drop(target.name, target.tenant)

    def _reach(self, task: Task, given: Given) -> None:
        """A kill or a suspension covers a task that is known."""
        name, bar = task.grant.task, None
        if task.opened > given.index:
            bar = self._orders.bars(task.grant, task.opened)
            if bar is not None:
                self._end(name, task.opened, killed=bar.command.order is Order.KILL)
        elif given.command.order is Order.KILL:
            self._end(name, given.index, killed=True)

    def _suspending(self, name: str) -> Given | None:
        if not self._orders:
            return None
        found = (self._orders.suspending(task.grant) for task in self._trees.chain(name))
        return next((given for given in found if given is not None), None)

    def _view(self, task: Task) -> TaskView:
        name, given = task.grant.task, None
        if task.ended is not None:
            standing = Standing.KILLED if name in self._trees.killed else Standing.ENDED
        else:
            given = self._suspending(name)
            standing = Standing.OPEN if given is None else Standing.SUSPENDED
        grant = task.grant
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

    def _forget(self, tree: str) -> None:
        gone = self._trees.forget(tree)
        if self._orders:
            for task in gone:
                self._orders.drop(task.grant.task, task.grant.tenant)

    def _permit(self, body: Mapping[str, Any], index: int) -> None:
        known = Unsettled.of(body, index)
        self._unsettled[known.permit.id] = known
        self._dirty_permits.add(known.permit.id)
        task = self._trees.tasks.get(known.permit.task)
        if task is not None:
            task.running += 1
            self._spend(known.permit.task, self._uses(known.permit.task, known.permit.effects))

    def _settle(self, body: Mapping[str, Any]) -> None:
        fate, labels, used = Fate(body["fate"]), label_of(body["labels"]), used_of(body)
        name, known = str(body["task"]), self._unsettled.pop(body["id"], None)
        self._dirty_permits.add(body["id"])
        task = self._trees.tasks.get(name)
        if fate is not Fate.NOT_STARTED:
            self._learn(name, task, labels, known)
        if task is None or known is None:
            return
        task.running -= 1
        amounts = self._uses(name, known.permit.effects)
        self._spend(name, returned(amounts, _used(amounts, fate, used, body, known)), back=True)
        self._forget(task.grant.tree)

    def _learn(self, name: str, task: Task | None, labels: Label, known: Unsettled | None) -> None:
        """Under a permit that was recorded after its task had ended, only whoever asked can have learnt anything."""
        if task is not None and (known is None or task.open_at(known.index)):
            self._trees.learn(name, labels)
        if known is not None:
            subject = known.body["subject"] or {}
            for who in ("instance", "process"):
                self._trees.learn_instance(str(subject.get(who, "")), labels)

    def _uses(self, name: str, counted: Collection[Counted]) -> dict[Counted, int]:
        return _uses(list(self._trees.chain(name)), counted)

    def _spend(self, name: str, amounts: Mapping[Counted, int], *, back: bool = False) -> None:
        for task in self._trees.chain(name):
            (task.account.unspend if back else task.account.spend)(amounts)
            self._trees.changed_tasks.add(task.grant.task)

    def _unreserve(self, name: str, counted: Collection[Counted]) -> None:
        chain = list(self._trees.chain(name))
        if not chain or not counted:
            return
        amounts = _uses(chain, counted)
        for task in chain:
            task.account.release(amounts)
        self._forget(chain[0].grant.tree)

    # -- to and from the index

    def _batch(self) -> Batch | None:
        if not self._dirty_streams:
            return None
        trees = self._trees
        tasks = {name: trees.tasks.get(name) for name in trees.changed_tasks}
        permits = {name: self._unsettled.get(name) for name in self._dirty_permits}
        holds, self._holds.changed = self._holds.changed, set()
        batch = Batch(
            streams={stream.value: stream_row(self._taken[stream]) for stream in self._dirty_streams},
            tasks={name: task_row(task) if task else None for name, task in tasks.items()},
            permits={name: known.row() if known else None for name, known in permits.items()},
            instances={name: label_row(trees.instances[name]) for name in trees.changed_instances},
            used=self.used.changed(),
            killed={name: trees.killed.get(name) for name in trees.changed_killed},
            targets={target_key(target): self._target_row(target) for target in self._orders.changed},
            epoch={"epoch": self._orders.epoch} if self._orders.changed else {},
            holds={name: self._holds.row(name) for name in holds},
        )
        self._dirty_streams, self._dirty_permits, self._orders.changed = set(), set(), set()
        trees.changed_tasks, trees.changed_instances, trees.changed_killed = set(), set(), set()
        return batch

    def _target_row(self, target: Target) -> list[dict[str, Any]] | None:
        return [given_row(given) for given in self._orders.rows(target)] or None

    def _load(self, batch: Batch) -> None:
        for stream, row in batch.streams.items():
            self._taken[Stream(stream)] = read_stream(row)
        for row in batch.tasks.values():
            self._trees.add(read_task(row))
        for name, row in batch.permits.items():
            self._unsettled[name] = Unsettled.read(row)
        for name, row in batch.instances.items():
            self._trees.instances[name] = label_of(row)
        self.used.load(batch.used)
        self._trees.killed = {name: int(index) for name, index in sorted(batch.killed.items(), key=lambda one: one[1])}
        for rows in batch.targets.values():
            for row in rows:
                self._orders.add(given_of(row, int(row["index"])))
        self._orders.epoch = int(batch.epoch.get("epoch", 0))
        self._trees.changed_tasks, self._orders.changed = set(), set()
        for name, row in batch.holds.items():
            self._holds.load(name, row)


_SPENDING = frozenset({Kind.OPENED, Kind.PERMITTED})


def _reservation(body: Mapping[str, Any]) -> tuple[str, Collection[Counted]]:
    """What was reserved for this entry, and of which task."""
    if body["kind"] == Kind.PERMITTED:
        return str(body["task"]), effects_from_json(body["effects"])
    return str(body.get("parent", "")), _FAN_OUT if body.get("parent") else ()


def _uses(chain: Sequence[Task], counted: Collection[Counted]) -> dict[Counted, int]:
    return uses((task.grant for task in chain), counted)


def _used(
    amounts: Mapping[Counted, int], fate: Fate, used: Mapping[Quantity, int], body: Mapping[str, Any], known: Unsettled
) -> Mapping[Quantity, int]:
    """How much of each quantity a call used, as far as that is known. What took how long, the log says itself."""
    if fate is Fate.NOT_STARTED:
        return {each: 0 for each in amounts if isinstance(each, Quantity)}
    if fate is Fate.AMBIGUOUS or Quantity.SECONDS in used:
        return used
    seconds = -(-(int(body["at"]) - int(known.body["at"])) // _SECOND_MS)
    return {Quantity.SECONDS: max(0, seconds), **used}


def open_state(path: Path, ledger: Ledger) -> LogState:
    """The state that `ledger` amounts to: from the index at `path` where it is sound, and the log from there on.

    Raises:
        Tampered: the log holds an entry that is not what its kind says.
    """
    state = _from_index(path)
    if not _same_log(state, ledger):
        if state._index is not None:  # noqa: SLF001 - this is the class's own constructor
            state._index.close()  # noqa: SLF001 - as above
        Index.discard(path)
        state = _from_index(path)
    for written in ledger.read(Stream.PERMITS, state.applied(Stream.PERMITS)):
        state.apply(written)
    for written in ledger.read(Stream.DENIALS, state.applied(Stream.DENIALS)):
        state.apply(written)
    state.recall(ledger)
    state.flush()
    return state


def _bound(ledger: Ledger, position: Position) -> str:
    try:
        sealed = ledger.unseal(position)
        return "" if sealed is None else Opening.read(sealed).binding
    except (ForestallError, KeyError, TypeError, ValueError):
        return ""


def _from_index(path: Path) -> LogState:
    """What the index says; from a fresh one where it is missing or unsound; without one where none can be made."""
    for _ in range(2):
        state, index = LogState(), None
        try:
            index = Index(path)
            state._load(index.load())  # noqa: SLF001 - the class's own constructor
            state._index = index  # noqa: SLF001 - as above
        except (sqlite3.Error, KeyError, TypeError, ValueError, AttributeError) as error:
            if index is not None:
                index.close()
            Index.discard(path)
            fault = str(error)
        except OSError as error:
            fault = cure(error)
            break
        else:
            return state
    state = LogState()
    state.fault = f"No index is kept ({fault}); the log will be replayed at every start."
    return state


def _same_log(state: LogState, ledger: Ledger) -> bool:
    """Does the log still hold the last entry that the index took in, and those ahead of it?"""
    taken = state._taken[Stream.PERMITS]  # noqa: SLF001 - the class's own constructor
    expected = {**({taken.count - 1: taken.last} if taken.count else {}), **taken.ahead}
    if not expected:
        return True
    for written in ledger.read(Stream.PERMITS, min(expected)):
        name = f"{written.body.get('kind')} {written.body.get('id')} {written.body.get('at')}"
        if expected.pop(written.position.index, name) != name:
            return False
        if not expected:
            return True
    return False
