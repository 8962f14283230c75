"""What the core may ask the outside world to do.

Each of these is a value. A flow yields one, a driver (`forestall.run`) carries it out, and the answer comes back as
the value of the `yield`. A driver that cannot carry one out throws `CannotDo` in, and nothing else.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from forestall.core.effects import Effect
from forestall.core.entry import Entry
from forestall.core.model import Action, Facts, Grant, Lease, Permit, Question, Ruling, Subject, Tool
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason

T = TypeVar("T")
Flow = Generator["Ask", Any, T]


class CannotDo(Exception):
    """What was asked for was not done, or nobody knows whether it was. Never means permitted."""

    def __init__(self, reason: Reason = Reason.UNAVAILABLE, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason
        self.detail = detail


class NotStarted(CannotDo):
    """An answer to `Perform` alone: certainly nothing happened."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Who is asking? Answer: Subject. Throws `invalid_proof`."""

    proof: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class FindTool:
    """What is known of this tool? Answer: Tool, or None. Throws `duplicate_tool`; `tool_changed` if quarantined."""

    tool: str


@dataclass(frozen=True, slots=True)
class FindGrant:
    """Under which authority does this task act? Answer: Grant, or None. Throws `revoked` or `suspended`."""

    task: str


@dataclass(frozen=True, slots=True)
class Admit:
    """May a task be opened for this user, and held by this subject? Answer: the Reason why not, or None."""

    subject: Subject
    user: str


@dataclass(frozen=True, slots=True)
class Gather:
    """What else bears on the decision? Answer: Facts."""

    action: Action
    tool: Tool
    grant: Grant | None
    """The one that was found; of a task that is to be opened, the one that it would have."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """What does policy say? Answer: Ruling."""

    question: Question


@dataclass(frozen=True, slots=True)
class FindApproval:
    """What have people said to this held action? Answer: the ids of the approvals that let it pass, which are thereby
    taken and found by nobody else; or a Reason: needs_approval, not_approved, approval_expired.
    """

    action: Action
    subject: Subject
    ruling: Ruling
    facts: Facts


@dataclass(frozen=True, slots=True)
class AwaitUpstream:
    """Let no task above the action's have anything undecided or held. Answer: bool, had it to wait? Then what is known
    may have changed. Throws `upstream` when it has waited long enough.
    """

    action: Action


@dataclass(frozen=True, slots=True)
class Reserve:
    """Take these from the budgets of the task and of all above it, if there is enough. Answer: bool."""

    grant: Grant
    effects: frozenset[Effect] | frozenset[Quantity]
    """One of each."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give back what was reserved and not spent. Answer: None."""

    grant: Grant
    effects: frozenset[Effect] | frozenset[Quantity]


@dataclass(frozen=True, slots=True)
class Record:
    """Write this entry; answered only when it is as durable as it says. Answer: None."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Confirm:
    """Does this permit, which was recorded, still stand? Answer: the Reason why not, or None."""

    permit: Permit


@dataclass(frozen=True, slots=True)
class Plan:
    """What will the permit's credential be: named after the permit, with what rights, until when? Answer: Lease. One
    with a secret is the task's own, which is there already. Throws `out_of_scope` where it would be more than the
    grant.
    """

    permit: Permit
    action: Action


@dataclass(frozen=True, slots=True)
class Issue:
    """Bring this credential into being. Answer: Secret."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Perform:
    """Carry out the action, once, under this permit. Answer: Result."""

    permit: Permit
    action: Action
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Revoke:
    """End this credential, whether or not it is known to exist. Answer: None, once nobody can use it any more."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Tell:
    """What time is it? Answer: milliseconds since the epoch. Asked once, when an outcome is known."""


Ask = (
    Verify
    | FindTool
    | FindGrant
    | Admit
    | Gather
    | Evaluate
    | FindApproval
    | AwaitUpstream
    | Reserve
    | Release
    | Record
    | Confirm
    | Plan
    | Issue
    | Perform
    | Revoke
    | Tell
)
