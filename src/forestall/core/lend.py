"""A credential, from before there is one until nobody can use it any more.

Each is written down before it exists, so that whoever finds the entry after a crash knows what to end; and its end is
written once the backend has said that it is over, and not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from forestall.core.ask import CannotDo, Flow, Issue, Plan, Record, Revoke, Tell
from forestall.core.entry import leased, revoked
from forestall.core.model import Action, Lease, Permit, Scope


@dataclass(slots=True)
class Loan:
    """What an action has brought into being, and has to give back at its end."""

    lease: Lease | None = None


def lend(permit: Permit, action: Action, loan: Loan, *, exposed: bool | None = None) -> Flow[Lease]:
    """The permit's credential, ready to be used. From its record on `loan` knows of it, whatever goes wrong.

    `exposed`: whether it will be, where that is known better than from its place alone.
    """
    lease: Lease = yield Plan(permit, action)
    if exposed is not None:
        lease = replace(lease, exposed=exposed)
    if lease.secret is not None:
        return lease
    loan.lease = lease
    yield Record(leased(lease, action.at))
    lease = replace(lease, secret=(yield Issue(lease)))
    if lease.scope is Scope.TASK:
        loan.lease = None
    return lease


def take_back(loan: Loan, why: str) -> Flow[None]:
    """End what the action brought into being. Where that fails, the sweep finds it by its record."""
    if loan.lease is None:
        return
    try:
        yield from end(loan.lease, why)
    except CannotDo:
        return


def end(lease: Lease, why: str) -> Flow[None]:
    """Nobody can use it any more, and that is written. Throws where either fails: then it is to be tried again."""
    yield Revoke(lease)
    at = yield Tell()
    yield Record(revoked(lease, why, at))


def end_all(leases: Sequence[tuple[Lease, str]]) -> Flow[tuple[tuple[Lease, CannotDo], ...]]:
    """End each, for its reason. Answers those that could not be ended now, with why."""
    left = []
    for lease, why in leases:
        try:
            yield from end(lease, why)
        except CannotDo as error:
            left.append((lease, error))
    return tuple(left)
