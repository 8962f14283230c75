"""What is remembered, as rows of the index: all of it at a start, and what changed since, batch by batch.

Not safe to share: `LogState` holds its lock around `unsaved`; at a start nobody else has the memory yet.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forestall.adapter.store.index import Batch, Index
from forestall.adapter.store.memory import Memory
from forestall.adapter.store.rows import (
    Leased,
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
)
from forestall.core.control import Target
from forestall.core.entry import Stream
from forestall.core.errors import cure
from forestall.port import Ledger


@dataclass(frozen=True, slots=True)
class Saved:
    memory: Memory
    index: Index | None
    """None where none can be kept."""
    fault: str = ""
    """Why not, or what the log lacks, for the operator."""


LACKING = (
    "The log lacks entries that it held before, so that what they spent, burned and revoked is forgotten. If there was "
    "no power failure, it was replaced or rolled back: compare it with a remembered checkpoint, forestall-verify "
    "--remembered."
)


def open_saved(path: Path, ledger: Ledger) -> Saved:
    """What the index at `path` says, where it is sound and of this log; else nothing, and a fresh index.

    Never raises for the index. One that cannot be kept is a fault to be told, and the log is replayed.
    """
    saved = _from_index(path)
    if _same_log(saved.memory, ledger):
        return saved
    if saved.index is not None:
        saved.index.close()
    Index.discard(path)
    fresh = _from_index(path)
    return replace(fresh, fault=" ".join(filter(None, (LACKING, fresh.fault))))


def unsaved(memory: Memory) -> Batch | None:
    """What changed since this was last asked; None where no entry was taken in since."""
    if not memory.changed_streams:
        return None
    trees, orders = memory.trees, memory.orders
    tasks = {name: trees.tasks.get(name) for name in trees.changed_tasks}
    permits = {name: memory.unsettled.get(name) for name in memory.changed_permits}
    batch = Batch(
        streams={stream.value: stream_row(memory.taken[stream]) for stream in memory.changed_streams},
        tasks={name: task_row(task) if task else None for name, task in tasks.items()},
        permits={name: known.row() if known else None for name, known in permits.items()},
        instances={name: label_row(trees.instances[name]) for name in trees.changed_instances},
        used=memory.used.changed(),
        killed={name: trees.killed.get(name) for name in trees.changed_killed},
        targets={target_key(target): _target_row(memory, target) for target in orders.changed},
        epoch={"epoch": orders.epoch} if orders.changed else {},
        holds={name: memory.holds.row(name) for name in memory.holds.changed},
        leases={name: _lease_row(memory, name) for name in memory.changed_leases},
    )
    _forget_changes(memory)
    return batch


def load(memory: Memory, batch: Batch) -> None:
    """Raises KeyError, TypeError, ValueError or AttributeError where a row does not read."""
    for stream, row in batch.streams.items():
        memory.taken[Stream(stream)] = read_stream(row)
    for row in batch.tasks.values():
        memory.trees.add(read_task(row))
    for name, row in batch.permits.items():
        memory.unsettled[name] = Unsettled.read(row)
    for name, row in batch.instances.items():
        memory.trees.instances[name] = label_of(row)
    memory.used.load(batch.used)
    memory.trees.killed = {name: int(index) for name, index in sorted(batch.killed.items(), key=lambda one: one[1])}
    for rows in batch.targets.values():
        for row in rows:
            memory.orders.add(given_of(row, int(row["index"])))
    memory.orders.epoch = int(batch.epoch.get("epoch", 0))
    for name, row in batch.holds.items():
        memory.holds.load(name, row)
    known = [(name, Leased.of(row)) for name, row in batch.leases.items()]
    memory.leases = dict(sorted(known, key=lambda one: one[1].at))
    memory.trees.changed_tasks, memory.orders.changed = set(), set()


def _forget_changes(memory: Memory) -> None:
    memory.changed_streams, memory.changed_permits, memory.changed_leases = set(), set(), set()
    memory.orders.changed, memory.holds.changed = set(), set()
    trees = memory.trees
    trees.changed_tasks, trees.changed_instances, trees.changed_killed = set(), set(), set()


def _target_row(memory: Memory, target: Target) -> list[dict[str, Any]] | None:
    return [given_row(given) for given in memory.orders.rows(target)] or None


def _lease_row(memory: Memory, name: str) -> dict[str, Any] | None:
    known = memory.leases.get(name)
    return None if known is None else dict(known.body)


def _from_index(path: Path) -> Saved:
    """What the index says; from a fresh one where it is missing or unsound; without one where none can be made."""
    for _ in range(2):
        memory, index = Memory(), None
        try:
            index = Index(path)
            load(memory, index.load())
        except (sqlite3.Error, KeyError, TypeError, ValueError, AttributeError) as error:
            if index is not None:
                index.close()
            Index.discard(path)
            fault = str(error)
        except OSError as error:
            fault = cure(error)
            break
        else:
            return Saved(memory, index)
    return Saved(Memory(), None, f"No index is kept ({fault}); the log will be replayed at every start.")


def _same_log(memory: Memory, ledger: Ledger) -> bool:
    """Does the log still hold the last entry that the index took in, and those ahead of it?"""
    taken = memory.taken[Stream.PERMITS]
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
