"""Proofs for a credential that is bound to a key: until it is over, and no longer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.control import Order
from forestall.core.entry import closed, revoked
from forestall.core.model import Lease
from forestall.core.reason import Reason
from forestall.testing.world import GRANT, NOW
from tests.backends import Desk
from tests.points import until
from tests.unit.lending.books import PERMIT, SOON_S, Books, reason_of

REQUEST = ("GET", "https://api.example/", None)


@pytest.mark.parametrize("scope", ["action", "task"])
def test_proofs_are_made_until_it_is_over_and_no_longer(books_of: Any, desk: Desk, scope: str) -> None:
    books = books_of(f'scope = "{scope}"\nbound = true\nlifetime_s = 30\n')
    lease = books.issued()
    assert lease.secret is not None
    assert lease.secret.prove is not None
    expected = f"{lease.secret.fields['token'][-8:]} {REQUEST}"
    assert books.lending.proving.prove(lease.name, *REQUEST) == lease.secret.prove(*REQUEST) == expected
    desk.fault(revoke="down")
    assert reason_of(lambda: books.lending.ending.revoke(lease)) is Reason.UNAVAILABLE
    none_is_made(books, lease)
    assert desk.live, "its backend says that it lives, and nobody can use it"
    desk.fault()
    books.lending.ending.revoke(lease)
    none_is_made(books, lease)
    books.write(revoked(lease, "done", NOW))
    none_is_made(books, lease)


def none_is_made(books: Books, lease: Lease) -> None:
    assert lease.secret is not None
    assert lease.secret.prove is not None
    prove = lease.secret.prove
    assert reason_of(lambda: books.lending.proving.prove(lease.name, *REQUEST)) is Reason.UNAVAILABLE
    assert reason_of(lambda: prove(*REQUEST)) is Reason.UNAVAILABLE


@pytest.mark.parametrize("how", ["condemned", "late", "ending"])
def test_none_is_made_for_what_is_about_to_end(books_of: Any, desk: Desk, how: str) -> None:
    books = books_of("bound = true\nlifetime_s = 20\n")
    lease = books.issued()
    if how == "condemned":
        books.lending.ending.condemn([lease.name], "killed")
    elif how == "late":
        books.now += 20_000
    else:
        desk.fault(revoke="slow")
        books.wait_for_backends(SOON_S)
        assert reason_of(lambda: books.lending.ending.revoke(lease)) is Reason.UNAVAILABLE
    assert reason_of(lambda: books.lending.proving.prove(lease.name, *REQUEST)) is Reason.UNAVAILABLE
    desk.fault()
    until(lambda: not books.lending.living.is_ending(lease.name))


@pytest.mark.parametrize("how", ["killed", "suspended", "closed"])
def test_none_is_made_once_its_task_is_stopped_or_over_whoever_has_looked_by_then(books_of: Any, how: str) -> None:
    books = books_of('scope = "task"\nbound = true\nlifetime_s = 30\n')
    lease = books.issued()
    if how == "closed":
        books.write(closed(GRANT.task, "done", NOW))
    else:
        books.order(Order.KILL if how == "killed" else Order.SUSPEND, "a" * 32)
    none_is_made(books, lease)


def test_none_is_made_for_what_is_bound_to_nothing_or_unknown(books_of: Any, desk: Desk) -> None:
    books = books_of()
    lease = books.issued()
    assert lease.secret is not None
    assert lease.secret.prove is None
    for name in (lease.name, "forestall-0badcafe-9"):
        assert reason_of(lambda name=name: books.lending.proving.prove(name, *REQUEST)) is Reason.UNAVAILABLE


def test_what_takes_its_place_has_proofs_of_its_own(books_of: Any, desk: Desk) -> None:
    books = books_of('scope = "task"\nbound = true\nlifetime_s = 30\n')
    first = books.issued()
    handed = books.planned(replace(PERMIT, id="2" * 32))
    assert handed.secret is not None
    assert handed.secret.prove is not None
    books.now += 21_000
    books.draw = 2
    second = books.issued(replace(PERMIT, id="3" * 32))
    proofs = [books.lending.proving.prove(one.name, *REQUEST) for one in (first, second)]
    assert handed.secret.prove(*REQUEST) == proofs[0] != proofs[1]
