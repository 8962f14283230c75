"""A task's life: opened under a mandate, extended where its mandate left room, closed by its holder or by its end."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from forestall.core.ask import CannotDo, Evaluate, FindGrant, Flow, Gather, Record, Verify
from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.effects import Confidence, Effect
from forestall.core.entry import closed, extended, opened
from forestall.core.flow import Known, conclude, refuse
from forestall.core.grant import holder_objection
from forestall.core.label import CLEAN, Label
from forestall.core.mandate import NO_WISH, Wish, from_mandate
from forestall.core.model import Action, Deny, Grant, Hold, Mandate, Permit, Question, Ruling, Subject, Tool
from forestall.core.reason import Objection, Reason

EXTEND = Tool(
    "forestall",
    "extend",
    pin="",
    effects=frozenset({Effect.PRIVILEGE}),
    confidence=Confidence.DECLARED,
    output=CLEAN,
    output_confidence=Confidence.DECLARED,
    input_schema=MappingProxyType(
        {
            "type": "object",
            "properties": {"expires_at": {"type": "integer"}},
            "required": ["expires_at"],
            "additionalProperties": False,
        }
    ),
)
"""What policy is asked about when a task is to live longer. `expires_at`: milliseconds since the epoch."""


def open_task(
    mandate: Mandate, task: str, subject: Subject, at: int, labels: Label = CLEAN, wish: Wish = NO_WISH
) -> Flow[Grant]:
    """A grant that is written down before anything can be asked under it. Throws `CannotDo` where it cannot be, or
    where the mandate does not allow what is wished.

    `labels`: of what its holder has seen before; the worst, where that is not known any more.
    """
    grant = from_mandate(mandate, task, subject, at, wish)
    if isinstance(grant, Objection):
        raise CannotDo(grant.reason, grant.detail)
    yield Record(opened(grant, subject, at, labels))
    return grant


def close_task(task: str, why: str, at: int) -> Flow[None]:
    """And with it every task below it. `why`: completed, failed, disconnected, expired, revoked or swept."""
    yield Record(closed(task, why, at))


def extend(action: Action) -> Flow[Grant | Deny | Hold]:
    """Let the action's task live until `expires_at`, if policy agrees: a call of EXTEND by the task's holder.

    It stays the same task. Its mandate's lifetime is never exceeded, nor is the life of the task above it.
    """
    known = Known(tool=EXTEND)
    try:
        decision = yield from _extend(action, known)
    except CannotDo as error:
        decision = Deny(action.id, error.reason, detail=error.detail)
    if not isinstance(decision, Grant):
        yield from refuse(decision, action, known)
    return decision


def _extend(action: Action, known: Known) -> Flow[Grant | Deny | Hold]:
    known.subject = subject = yield Verify(action.proof)
    if subject is None:
        return Deny(action.id, Reason.INVALID_PROOF)
    until = _until(action)
    known.grant = grant = yield FindGrant(action.task)
    reason = holder_objection(grant, subject, action.at)
    if reason is not None:
        return Deny(action.id, reason)
    assert grant is not None
    against = _beyond(grant, until) or (yield from _beyond_parent(grant, until, action.at))
    if against is not None:
        return Deny(action.id, against.reason, detail=against.detail)
    known.facts = facts = yield Gather(action, EXTEND)
    ruling: Ruling = yield Evaluate(Question(subject, grant, EXTEND, action.arguments, facts))
    decision = conclude(ruling, action, EXTEND, facts)
    if not isinstance(decision, Permit):
        return decision
    yield Record(extended(grant.task, until, subject, action.at, ruling))
    return (yield from _as_it_is(grant.task))


def _until(action: Action) -> int:
    until: Any = action.arguments.get("expires_at")
    if action.tool != EXTEND.id or len(action.arguments) != 1 or type(until) is not int:
        raise CannotDo(Reason.INVALID_ARGUMENTS, "an extension says `expires_at`, and nothing else")
    if not 0 < until <= MAX_SAFE_INTEGER:
        raise CannotDo(Reason.INVALID_ARGUMENTS, "`expires_at` is in milliseconds since the epoch")
    return int(until)


def _beyond(grant: Grant, until: int) -> Objection | None:
    if until > grant.longest_at:
        return Objection(Reason.BEYOND_MANDATE, f"asked for {until}; at the longest it lives until {grant.longest_at}")
    if until <= grant.expires_at:
        return Objection(Reason.INVALID_ARGUMENTS, "the task lives as long as that already")
    return None


def _beyond_parent(grant: Grant, until: int, at: int) -> Flow[Objection | None]:
    if not grant.parent:
        return None
    parent = yield FindGrant(grant.parent)
    if parent is None or at >= parent.expires_at:
        return Objection(Reason.PARENT_ENDED)
    if until > parent.expires_at:
        return Objection(Reason.WIDER, "the task above ends before that")
    return None


def _as_it_is(task: str) -> Flow[Grant]:
    """The grant as it was recorded. A task that ended meanwhile was not extended."""
    grant = yield FindGrant(task)
    if grant is None:
        raise CannotDo(Reason.TASK_ENDED)
    assert isinstance(grant, Grant)
    return grant
