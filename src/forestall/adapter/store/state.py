"""What follows from the ledger: open tasks, spent budgets, labels and unsettled permits.

The truth of a running process is in memory (`memory.py`). An index on disk (`saved.py`) saves replaying the whole log
at the next start; it is written in batches, off the path of a decision, and whatever is wrong with it, the log is
replayed instead. Here both meet several threads: one lock is held around the memory, another around the index.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

from forestall.adapter.store.index import Index
from forestall.adapter.store.memory import Memory
from forestall.adapter.store.saved import open_saved, unsaved
from forestall.adapter.store.spending import RESERVED, amounts_of, reservation
from forestall.adapter.store.view import views
from forestall.core.control import Command, Order, Target, barring
from forestall.core.entry import Opening, Stream
from forestall.core.errors import ForestallError
from forestall.core.label import CLEAN, WORST, Label
from forestall.core.model import Action, Counted, Facts, Grant, Lease, Permit, Risk, Ruling, Subject
from forestall.core.reason import Reason
from forestall.port import Ledger, Position, TaskView, Waiting, Written


class LogState:
    """`port.State` for one process that owns its ledger. Safe to call from several threads.

    A look-up that answers by itself takes no lock; whatever walks along the tasks above does.
    """

    def __init__(self, memory: Memory | None = None, index: Index | None = None, fault: str = "") -> None:
        self._lock = threading.Lock()
        """Around the memory. Held for no I/O."""
        self._flushing = threading.Lock()
        """Around the index. Taken first where both are."""
        self._memory = memory = Memory() if memory is None else memory
        self._trees, self._orders, self._holds = memory.trees, memory.orders, memory.holds
        self._undecided, self._unsettled, self._taken = memory.undecided, memory.unsettled, memory.taken
        self.used = memory.used
        """What counts once, and was shown. It has a lock of its own."""
        self._early: set[int] = set()
        """Entries that `catch_up` took in before their own `apply` came to turn the reservation into spending."""
        self._index = index
        self.fault = fault
        """Why the index is not kept any more, for the operator; empty while it is."""

    # -- tasks

    def find_grant(self, task: str) -> Grant | None:
        known = self._trees.tasks.get(task)
        return known.grant if known and known.ended is None else None

    def open_tasks(self) -> Sequence[Grant]:
        with self._lock:
            return [task.grant for task in self._trees.tasks.values() if task.ended is None]

    def tasks(self) -> Sequence[TaskView]:
        with self._lock:
            return views(self._memory)

    def has_room_for(self, subject: Subject) -> bool:
        """May it hold one task more, as far as what is remembered of tasks is bounded?"""
        with self._lock:
            return self._trees.has_room_for((subject.tenant, subject.actor))

    def labels(self, task: str) -> Label:
        """Of a task that is not known: the worst."""
        known = self._trees.tasks.get(task)
        return known.labels if known else WORST

    def seen(self, instance: str) -> Label:
        return self._trees.instances.get(instance, CLEAN)

    # -- budgets and permits

    def reserve(self, grant: Grant, counted: Collection[Counted]) -> bool:
        with self._lock:
            chain = self._trees.chain(grant.task)
            if not chain or chain[0].ended is not None:
                return False
            amounts = amounts_of(chain, counted)
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
            return self._trees.is_open(known.permit.task, at) and self._memory.suspending(known.permit.task) is None

    def adds_nothing(self, permit: str) -> bool:
        with self._lock:
            return self._memory.adds_nothing(permit)

    def unsettled(self) -> Sequence[Permit]:
        with self._lock:
            return [known.permit for known in self._unsettled.values()]

    def leases(self) -> Sequence[tuple[int, Lease]]:
        with self._lock:
            return [(known.at, known.lease) for known in self._memory.leases.values()]

    # -- orders

    def stopped(self, task: str) -> Reason | None:
        known = self._trees.tasks.get(task)
        if known is None or known.ended is not None:
            return Reason.REVOKED if task in self._trees.killed else None
        if not self._orders:
            return None
        with self._lock:
            return None if self._memory.suspending(task) is None else Reason.SUSPENDED

    def barred(self, subject: Subject, user: str) -> Reason | None:
        if not self._orders:
            return None
        with self._lock:
            given = self._orders.barring(barring(subject.tenant, [subject.actor], user))
        if given is None:
            return None
        return Reason.REVOKED if given.command.order is Order.KILL else Reason.SUSPENDED

    def risk(self, grant: Grant) -> Risk:
        if not self._orders:
            return Risk.LOW
        with self._lock:
            above = (task.grant for task in self._trees.chain(grant.parent))
            return self._orders.risk([grant, *above])

    @property
    def epoch(self) -> int:
        return self._orders.epoch

    def orders(self) -> Sequence[tuple[int, Command]]:
        with self._lock:
            return [(given.at, given.command) for given in self._orders.standing()]

    def standing(self, target: Target) -> Command | None:
        """The kill or suspension that stands for exactly this target, and was the last to be ordered; or None."""
        with self._lock:
            return self._orders.about(target)

    # -- what is undecided above a task

    def asked(self, action: str, task: str) -> None:
        with self._lock:
            if self.find_grant(task) is not None:
                self._undecided.add(action, task)

    def answered(self, action: str) -> None:
        with self._lock:
            self._undecided.remove(action)
            self._undecided.wake(self._trees)

    def undecided_above(self, task: str) -> Sequence[str]:
        with self._lock:
            return self._undecided.among(self._trees.above(task))

    def watch_above(self, task: str, wake: Callable[[], None]) -> bool:
        with self._lock:
            if not self._undecided.among(self._trees.above(task)):
                return False
            self._undecided.watching[wake] = task
            return True

    def unwatch(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._undecided.watching.pop(wake, None)

    # -- what waits for people

    def take_approval(self, asked: Action, asker: Subject, ruling: Ruling, facts: Facts) -> tuple[str, ...] | Reason:
        with self._lock:
            tree = self._trees.tree_of(asked.task) or asked.task
            found = self._holds.take(asked, asker, ruling, facts, tree)
            self._memory.forget_over()
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

    def expire(self, at: int) -> None:
        """Nothing waits any more for holds that ran out."""
        with self._lock:
            self._holds.expire(at)
            self._memory.forget_over()

    # -- the log

    def apply(self, written: Written) -> None:
        """See `port.State`. What was reserved for the entry, where something was, becomes spending.

        Raises:
            Tampered: the entry does not hold what its kind says.
        """
        stream, index = written.position.stream, written.position.index
        with self._lock:
            if stream is Stream.DENIALS:
                self._memory.take_denial(written)
            elif stream is Stream.PERMITS and index in self._early:
                self._early.discard(index)
                self._unreserve(*reservation(written.body))
            elif self._memory.take(written) and stream is Stream.PERMITS and written.body["kind"] in RESERVED:
                self._unreserve(*reservation(written.body))

    def applied(self, stream: Stream) -> int:
        return self._taken[stream].count

    @property
    def behind(self) -> bool:
        """Is an entry known to be missing below one that was taken in?"""
        return bool(self._taken[Stream.PERMITS].ahead)

    def catch_up(self, ledger: Ledger) -> None:
        """Take in entries that the log holds and nobody applied: those whose append failed after it had written."""
        for written in ledger.read(Stream.PERMITS, self.applied(Stream.PERMITS)):
            with self._lock:
                if self._memory.take(written) and written.body["kind"] in RESERVED:
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
                self._memory.forget_over()

    def _unreserve(self, name: str, counted: Collection[Counted]) -> None:
        """The lock is held."""
        chain = self._trees.chain(name)
        if not chain or not counted:
            return
        amounts = amounts_of(chain, counted)
        for task in chain:
            task.account.release(amounts)
        self._memory.forget(chain[0].grant.tree)

    # -- the index

    def flush(self) -> None:
        """Write what changed to the index. Blocking; call it off the path of decisions. Never raises for the index."""
        with self._flushing:
            if self._index is None:
                return
            with self._lock:
                batch = unsaved(self._memory)
            if batch is None:
                return
            try:
                self._index.write(batch)
            except (sqlite3.Error, OSError) as error:
                self.fault = f"The index is not kept ({error}); the log will be replayed at the next start."
                self._index.close()
                self._index = None

    def close(self) -> None:
        self.flush()
        with self._flushing:
            if self._index is not None:
                self._index.close()
                self._index = None


def open_state(path: Path, ledger: Ledger) -> LogState:
    """The state that `ledger` amounts to: from the index at `path` where it is sound, and the log from there on.

    Raises:
        Tampered: the log holds an entry that is not what its kind says.
    """
    saved = open_saved(path, ledger)
    state = LogState(saved.memory, saved.index, saved.fault)
    for stream in (Stream.PERMITS, Stream.DENIALS):
        for written in ledger.read(stream, state.applied(stream)):
            state.apply(written)
    state.recall(ledger)
    state.flush()
    return state


def _bound(ledger: Ledger, position: Position) -> str:
    """What exactly was held, as it stands sealed beside an entry; empty where that does not open."""
    try:
        sealed = ledger.unseal(position)
        return "" if sealed is None else Opening.read(sealed).binding
    except (ForestallError, KeyError, TypeError, ValueError):
        return ""
