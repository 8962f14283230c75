"""What is over, what lives on, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from forestall.core.entry import closed
from forestall.core.model import Grant, Risk, Scope
from forestall.testing.world import GRANT, NOW, action
from tests.backends import Desk
from tests.unit.lending.books import PERMIT, WAIT_S


def test_one_that_is_renewed_is_bound_by_its_task_and_made_for_its_lifetime(books_of: Any, desk: Desk) -> None:
    books = books_of('scope = "task"\nrenewable = true\nlifetime_s = 20\n')
    lease = books.issued()
    assert lease.expires_at == GRANT.expires_at
    assert books.lending.living.until(lease) == NOW + 20_000
    assert desk.until(lease.name) == NOW + 20_000
    books.now += 15_000
    assert books.lending.living.renewable() == {lease.name: NOW + 13_333}
    renewing = books.lending.living.begin_renewal(lease.name)
    assert renewing is not None
    renewing.result(WAIT_S)
    assert desk.until(lease.name) == books.lending.living.until(lease) == NOW + 35_000


def test_with_its_task_everything_is_due_and_a_plan_without_a_record_is_forgotten(books_of: Any) -> None:
    books = books_of('scope = "task"\n')
    lease = books.issued()
    books.lending.making.plan(replace(PERMIT, id="2" * 32, task=GRANT.task), action())
    books.write(closed(GRANT.task, "completed", NOW))
    assert [(one.name, why) for one, why in books.lending.living.due()] == [(lease.name, "task_ended")]
    books.now += 3_600_000
    books.lending.recovering.forget_stray()
    assert set(books.lending._holdings.by_name) == {lease.name}
    assert lease.scope is Scope.TASK


def test_risk_that_cannot_be_told_keeps_nothing_alive(books_of: Any) -> None:
    books = books_of('scope = "task"\nrevoke_at = "high"\n')
    lease = books.issued()
    assert books.lending.living.due() == []

    def fails(_grant: Grant, _at: int) -> Risk:
        raise KeyError("a fault of the source's own")

    books.lending.living._risk = fails
    assert [(one.name, why) for one, why in books.lending.living.due()] == [(lease.name, "risk")]
