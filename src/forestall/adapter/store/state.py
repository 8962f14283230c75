"""What follows from the ledger: open tasks, spent budgets, labels and unsettled permits.

The truth of a running process is in memory. An index on disk saves replaying the whole log at the next start; it is
written in batches, off the path of a decision, and whatever is wrong with it, the log is replayed instead.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from forestall.adapter.store.index import Batch, Index
from forestall.core.effects import Effect
from forestall.core.entry import Kind, Stream
from forestall.core.errors import Tampered, cure
from forestall.core.label import CLEAN, WORST, Confidentiality, Integrity, Label
from forestall.core.model import Fate, Grant, Permit
from forestall.port import Ledger, Written


@dataclass(slots=True)
class _Task:
    grant: Grant
    labels: Label = CLEAN
    spent: dict[Effect, int] = field(default_factory=dict)
    """Calls under recorded permits."""
    reserved: dict[Effect, int] = field(default_factory=dict)
    """Calls between `reserve` and the record of their permit. Of this process alone, so never written."""
    running: int = 0
    closed: bool = False


@dataclass(slots=True)
class _Taken:
    """How far one stream was taken in. Appends are answered out of order where some wait for the disk."""

    count: int = 0
    """Every entry below this index was taken in."""
    last: str = ""
    """Names the entry at `count - 1`: what shows that this is still the same log."""
    ahead: dict[int, str] = field(default_factory=dict)

    def has(self, index: int) -> bool:
        return index < self.count or index in self.ahead

    def add(self, index: int, name: str) -> None:
        if index != self.count:
            self.ahead[index] = name
            return
        self.count, self.last = index + 1, name
        while self.ahead and self.count in self.ahead:
            self.last = self.ahead.pop(self.count)
            self.count += 1


class LogState:
    """`port.State` for one process that owns its ledger. Safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._tasks: dict[str, _Task] = {}
        self._unsettled: dict[str, tuple[Permit, Mapping[str, Any]]] = {}
        self._taken = {stream: _Taken() for stream in Stream}
        self._early: set[int] = set()
        """Permits that `catch_up` took in before their own `apply` came to turn the reservation into spending."""
        self._dirty_tasks: set[str] = set()
        self._dirty_permits: set[str] = set()
        self._dirty_streams: set[Stream] = set()
        self._index: Index | None = None
        self.fault = ""
        """Why the index is not kept any more, for the operator; empty while it is."""

    # -- port.State

    def find_grant(self, task: str) -> Grant | None:
        known = self._tasks.get(task)
        return known.grant if known and not known.closed else None

    def labels(self, task: str) -> Label:
        """Of a task that is not known: the worst."""
        known = self._tasks.get(task)
        return known.labels if known else WORST

    def reserve(self, grant: Grant, effects: frozenset[Effect]) -> bool:
        with self._lock:
            task = self._tasks.get(grant.task)
            if task is None or task.closed:
                return False
            for effect in effects:
                limit = task.grant.budget.get(effect)
                if limit is not None and task.spent.get(effect, 0) + task.reserved.get(effect, 0) >= limit:
                    return False
            for effect in effects:
                task.reserved[effect] = task.reserved.get(effect, 0) + 1
            return True

    def release(self, grant: Grant, effects: frozenset[Effect]) -> None:
        with self._lock:
            self._unreserve(self._tasks.get(grant.task), effects)

    def apply(self, written: Written) -> None:
        """See `port.State`. The permit's reservation, where there is one, becomes spending.

        Raises:
            Tampered: the entry does not hold what its kind says.
        """
        with self._lock:
            index = written.position.index
            if written.position.stream is Stream.PERMITS and index in self._early:
                self._early.discard(index)
                self._unreserve(self._tasks.get(written.body["task"]), _effects(written.body["effects"]))
                return
            self._take(written, live=True)

    def applied(self, stream: Stream) -> int:
        return self._taken[stream].count

    def unsettled(self) -> Sequence[Permit]:
        with self._lock:
            return [permit for permit, _ in self._unsettled.values()]

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
                if self._take(written, live=False) and written.body["kind"] == Kind.PERMITTED:
                    self._early.add(written.position.index)

    def open_tasks(self) -> Sequence[Grant]:
        with self._lock:
            return [task.grant for task in self._tasks.values() if not task.closed]

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
                self._take_permits(body, live=live)
        except (KeyError, TypeError, ValueError) as error:
            raise Tampered(f"Entry {index} of {stream} does not hold what its kind says ({error!r}).") from None
        taken.add(index, name)
        self._dirty_streams.add(stream)
        return True

    def _take_permits(self, body: Mapping[str, Any], *, live: bool) -> None:
        match body["kind"]:
            case Kind.OPENED:
                self._tasks[body["task"]] = _Task(_grant(body), _label(body["seen"]))
                self._dirty_tasks.add(body["task"])
            case Kind.CLOSED:
                self._close(body["task"])
            case Kind.PERMITTED:
                self._permit(body, live=live)
            case Kind.SETTLED:
                self._settle(body)
            case _:
                pass

    def _permit(self, body: Mapping[str, Any], *, live: bool) -> None:
        permit = _permit(body)
        self._unsettled[permit.id] = (permit, body)
        self._dirty_permits.add(permit.id)
        task = self._tasks.get(permit.task)
        if task is None:
            return
        task.running += 1
        for effect in permit.effects:
            task.spent[effect] = task.spent.get(effect, 0) + 1
        if live:
            self._unreserve(task, permit.effects)
        self._dirty_tasks.add(permit.task)

    def _settle(self, body: Mapping[str, Any]) -> None:
        fate, labels = Fate(body["fate"]), _label(body["labels"])
        known = self._unsettled.pop(body["id"], None)
        self._dirty_permits.add(body["id"])
        task = self._tasks.get(body["task"])
        if task is None:
            return
        if fate is not Fate.NOT_STARTED:
            task.labels = task.labels.join(labels)
        task.running -= known is not None
        self._dirty_tasks.add(body["task"])
        self._forget(body["task"], task)

    def _close(self, name: str) -> None:
        task = self._tasks.get(name)
        if task is not None:
            task.closed = True
            self._dirty_tasks.add(name)
            self._forget(name, task)

    def _forget(self, name: str, task: _Task) -> None:
        """A task that is closed and has nothing running is never asked for again."""
        if task.closed and task.running <= 0:
            del self._tasks[name]

    @staticmethod
    def _unreserve(task: _Task | None, effects: frozenset[Effect]) -> None:
        if task is None:
            return
        for effect in effects:
            left = task.reserved.get(effect, 0) - 1
            if left > 0:
                task.reserved[effect] = left
            else:
                task.reserved.pop(effect, None)

    # -- to and from the index

    def _batch(self) -> Batch | None:
        if not self._dirty_streams:
            return None
        batch = Batch(
            streams={stream.value: _stream_row(self._taken[stream]) for stream in self._dirty_streams},
            tasks={name: _task_row(self._tasks.get(name)) for name in self._dirty_tasks},
            permits={name: self._permit_row(name) for name in self._dirty_permits},
        )
        self._dirty_streams, self._dirty_tasks, self._dirty_permits = set(), set(), set()
        return batch

    def _permit_row(self, name: str) -> Mapping[str, Any] | None:
        known = self._unsettled.get(name)
        return dict(known[1]) if known else None

    def _load(self, batch: Batch) -> None:
        for stream, row in batch.streams.items():
            ahead = {int(index): str(name) for index, name in row["ahead"].items()}
            self._taken[Stream(stream)] = _Taken(int(row["count"]), str(row["last"]), ahead)
        for name, row in batch.tasks.items():
            self._tasks[name] = _task(row)
        for name, row in batch.permits.items():
            self._unsettled[name] = (_permit(row), row)


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
    state.flush()
    return state


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


def _stream_row(taken: _Taken) -> dict[str, Any]:
    return {"count": taken.count, "last": taken.last, "ahead": {str(k): v for k, v in taken.ahead.items()}}


def _task_row(task: _Task | None) -> dict[str, Any] | None:
    if task is None:
        return None
    grant = task.grant
    return {
        "task": grant.task,
        "subject": {"id": grant.holder},
        "purpose": grant.purpose,
        "mandate": grant.mandate,
        "tools": list(grant.tools),
        "effects": sorted(grant.effects),
        "expires_at": grant.expires_at,
        "budget": {effect.value: count for effect, count in grant.budget.items()},
        "depth": grant.depth,
        "labels": {"integrity": task.labels.integrity, "confidentiality": task.labels.confidentiality},
        "spent": {effect.value: count for effect, count in task.spent.items()},
        "running": task.running,
        "closed": task.closed,
    }


def _task(row: Mapping[str, Any]) -> _Task:
    spent = {Effect(effect): int(count) for effect, count in row["spent"].items()}
    running, closed = int(row["running"]), bool(row["closed"])
    return _Task(_grant(row), _label(row["labels"]), spent, running=running, closed=closed)


def _grant(body: Mapping[str, Any]) -> Grant:
    return Grant(
        task=str(body["task"]),
        holder=str(body["subject"]["id"]),
        purpose=str(body["purpose"]),
        mandate=str(body["mandate"]),
        tools=tuple(body["tools"]),
        effects=_effects(body["effects"]),
        expires_at=int(body["expires_at"]),
        budget={Effect(effect): int(count) for effect, count in body["budget"].items()},
        depth=int(body.get("depth", 0)),
    )


def _permit(body: Mapping[str, Any]) -> Permit:
    """What the log says of a permit. It has no digest of the arguments, so that it is good for nothing but settling."""
    return Permit(
        id=str(body["id"]),
        task=str(body["task"]),
        tool=str(body["tool"]),
        pin=str(body["pin"]),
        digest="",
        effects=_effects(body["effects"]),
        output=_label(body["output"]),
        policies=tuple(body["policies"]),
        policy_digest=str(body["policy_digest"]),
        expires_at=int(body["expires_at"]),
        credential=body["credential"],
    )


def _effects(names: Sequence[str]) -> frozenset[Effect]:
    return _effects_named(tuple(names))


def _label(body: Mapping[str, str]) -> Label:
    return _label_named(body["integrity"], body["confidentiality"])


@lru_cache(maxsize=256)
def _effects_named(names: tuple[str, ...]) -> frozenset[Effect]:
    return frozenset(map(Effect, names))


@lru_cache(maxsize=64)
def _label_named(integrity: str, confidentiality: str) -> Label:
    return Label(Integrity(integrity), Confidentiality(confidentiality))
