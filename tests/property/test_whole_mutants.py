"""Break a promise by hand, where it is kept, and see the property of `test_whole.py` fail: it can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from forestall import wire
from forestall.adapter.store import saved
from forestall.adapter.store.memory import Memory
from forestall.adapter.store.state import LogState
from forestall.clock import Clock
from forestall.core import attenuate, delegate, flow
from forestall.core.ask import Confirm
from forestall.core.budget import uses
from forestall.core.grant import holder_objection
from forestall.core.model import Grant, Subject
from tests.property.whole.machine import Whole

SEARCH = settings(
    max_examples=400,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""The same examples each time; one that fails is enough."""

Patch = Callable[[pytest.MonkeyPatch], None]


def confirm_is_ignored(patch: pytest.MonkeyPatch) -> None:
    def standing(permit: Any) -> Any:
        yield Confirm(permit)

    patch.setattr(flow, "require_standing", standing)


def confirmed_whatever_was_ordered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(wire, "confirm", lambda _parts, _permit: None)


def suspension_reaches_its_own_task_alone(patch: pytest.MonkeyPatch) -> None:
    def suspending(memory: Memory, name: str) -> Any:
        known = memory.trees.tasks.get(name)
        return None if known is None else memory.orders.suspending(replace(known.grant, actors=()))

    patch.setattr(Memory, "suspending", suspending)


def orders_are_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    load = saved.load
    patch.setattr(saved, "load", lambda memory, batch: load(memory, replace(batch, targets={})))


def an_order_is_acknowledged_before_it_is_taken_in(patch: pytest.MonkeyPatch) -> None:
    apply = wire._apply

    def late(parts: Any, entry: Any, position: Any) -> None:
        if entry.kind != "ordered":
            return apply(parts, entry, position)
        asyncio.get_running_loop().call_later(3600, apply, parts, entry, position)
        return None

    patch.setattr(wire, "_apply", late)


def budget_is_the_leafs(patch: pytest.MonkeyPatch) -> None:
    def reserve(state: LogState, held: Any, counted: Any) -> bool:
        chain = list(state._trees.chain(held.task))
        amounts = uses((one.grant for one in chain), counted)
        if not chain or chain[0].ended is not None or not chain[0].account.has_room(amounts):
            return False
        for one in chain:
            one.account.reserve(amounts)
        return True

    patch.setattr(LogState, "reserve", reserve)


def nothing_is_too_wide(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attenuate, "_wider", lambda _parent, _wanted, _at: None)


def bounds_are_dropped_on_the_way_down(patch: pytest.MonkeyPatch) -> None:
    real = attenuate.attenuate

    def unbound(*given: Any, **more: Any) -> Any:
        found = real(*given, **more)
        return replace(found, resources=()) if isinstance(found, Grant) else found

    patch.setattr(delegate, "attenuate", unbound)


def anybody_may_use_a_grant(patch: pytest.MonkeyPatch) -> None:
    def objection(held: Any, subject: Subject, at: int) -> Any:
        holder = subject if held is None else replace(subject, id=held.holder, instance=held.instance, key=held.key)
        return holder_objection(held, holder, at)

    patch.setattr("forestall.core.grant.holder_objection", objection)


def the_clock_follows_the_machines(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Clock, "__call__", lambda clock: clock._wall() // 1_000_000)


def a_record_that_failed_is_called_good(patch: pytest.MonkeyPatch) -> None:
    """And nobody asks again whether the permit stands: that alone would refuse it."""
    confirm_is_ignored(patch)
    record = wire.record

    async def whatever(awaited: Any) -> None:
        await asyncio.wait({awaited})

    def careless(parts: Any, entry: Any, **how: Any) -> Any:
        awaited = record(parts, entry, **how)
        return awaited if awaited is None else asyncio.ensure_future(whatever(awaited))

    patch.setattr(wire, "record", careless)


MUTANTS: list[Patch] = [
    confirm_is_ignored,
    confirmed_whatever_was_ordered,
    suspension_reaches_its_own_task_alone,
    orders_are_forgotten_at_a_restart,
    an_order_is_acknowledged_before_it_is_taken_in,
    budget_is_the_leafs,
    nothing_is_too_wide,
    bounds_are_dropped_on_the_way_down,
    anybody_may_use_a_grant,
    the_clock_follows_the_machines,
    a_record_that_failed_is_called_good,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_promise_is_caught(mutant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Whole, settings=SEARCH)
