"""What a person says to a held action, written down: from then on it counts, wherever the books are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.approval import Approver, Shown, unfit_for_all
from forestall.core.ask import CannotDo, Flow, Record
from forestall.core.entry import approved, declined
from forestall.core.reason import Reason


@dataclass(frozen=True, slots=True)
class Seen:
    """A held action as one person saw it."""

    shown: Shown
    until: int
    """The hold's end."""
    body: Mapping[str, Any]
    """Of its entry, with the commitments to what is sealed."""
    sealed: bytes = field(repr=False)
    digest: str
    """Of everything that was on the screen."""


def approve(seen: Seen, approver: Approver, id: str, at: int) -> Flow[int]:  # noqa: A002 - as in Entry
    """Record a yes; when it expires. Throws `CannotDo`: not_approved for somebody whose yes would not count, with an
    `Unfit` as its detail; approval_expired where the hold ran out.
    """
    against = unfit_for_all(approver, seen.shown)
    if against is not None:
        raise CannotDo(Reason.NOT_APPROVED, against.value)
    if at >= seen.until:
        raise CannotDo(Reason.APPROVAL_EXPIRED)
    until = at + seen.shown.lifetime_ms
    held = {**seen.body, "id": seen.shown.hold}
    yield Record(approved(held, seen.sealed, approver, id, shown=seen.digest, expires_at=until, at=at))
    return until


def decline(seen: Seen, approver: Approver, why: str, id: str, at: int) -> Flow[None]:  # noqa: A002 - as in Entry
    """Record a no, from whoever may say it; it is final for the task and those it is handed on to. Never too late: what
    ran out is declined for the next time.
    """
    held = {**seen.body, "id": seen.shown.hold}
    yield Record(declined(held, seen.sealed, approver, id, shown=seen.digest, why=why, at=at))
