"""A task's life: opened under a mandate where policy agrees, extended where its mandate left room, closed by its holder
or by its end.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from forestall.core.action import ask_for
from forestall.core.ask import Admit, CannotDo, Evaluate, FindGrant, Flow, Gather, Record, Verify
from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.effects import Effect
from forestall.core.entry import closed, extended, opened
from forestall.core.errors import InvalidInput
from forestall.core.flow import Known, ask_people, best_effort, conclude, refuse
from forestall.core.grant import holder_objection
from forestall.core.label import CLEAN, Label
from forestall.core.mandate import NO_WISH, Origin, Wish, from_mandate
from forestall.core.model import (
    Action,
    Decision,
    Deny,
    Facts,
    Grant,
    Hold,
    Mandate,
    Permit,
    Question,
    Ruling,
    Subject,
)
from forestall.core.narrow import narrow
from forestall.core.own import own_tool
from forestall.core.reason import Objection, Reason

OPEN = own_tool(
    "open",
    {
        "mandate": {"type": "string"},
        "purpose": {"type": "string"},
        "parameters": {"type": "object"},
        "user": {"type": "string"},
        "request": {"enum": [origin.value for origin in Origin]},
        "lifetime_s": {"type": "integer"},
        "tools": {"type": "array", "items": {"type": "string"}},
        "effects": {"type": "array", "items": {"enum": [effect.value for effect in Effect]}},
    },
    ("mandate", "purpose", "parameters", "user", "request", "lifetime_s", "tools", "effects"),
)
"""What policy is asked about when a task is opened. All of it is always there: `user` is empty where nobody was
verified, `lifetime_s` is begun seconds, `tools` and `effects` are what the task would have.
"""

EXTEND = own_tool("extend", {"expires_at": {"type": "integer"}}, ("expires_at",))
"""What policy is asked about when a task is to live longer. `expires_at`: milliseconds since the epoch."""


def open_task(
    mandate: Mandate | None,
    task: str,
    subject: Subject,
    at: int,
    labels: Label = CLEAN,
    wish: Wish = NO_WISH,
    *,
    salt: bytes,
) -> Flow[Grant]:
    """A grant that policy agreed to, and that is written down before anything can be asked under it.

    Throws `CannotDo` where there is none, also where an order is against it, be it one that came in between; what its
    caller may be told of that is `told(error)`. The decision is called as the task would have been. `labels`: of what
    its holder has seen before; the worst, where that is not known any more. `salt`: random, as in `Action`.
    """
    action = _opening(mandate, task, at, wish, salt)
    known = Known(subject=subject, tool=OPEN)
    try:
        grant = yield from _open(action, mandate, subject, labels, wish, known)
    except CannotDo as error:
        grant = Deny(task, error.reason, detail=error.detail)
    if isinstance(grant, Deny):
        yield from refuse(grant, action, known)
        raise CannotDo(grant.reason, grant.detail)
    return grant


def told(error: CannotDo) -> str:
    """What may be said to who wanted a task: what is missing, where something is, and nothing about policy."""
    sentence = error.reason.advice.sentence
    return f"{sentence} {error.detail}" if error.reason is Reason.UNCLEAR_INTENT and error.detail else sentence


def _open(
    action: Action, mandate: Mandate | None, subject: Subject, labels: Label, wish: Wish, known: Known
) -> Flow[Grant | Deny]:
    if mandate is None:
        raise CannotDo(Reason.UNCLEAR_INTENT, "`mandate` is missing.")
    grant = from_mandate(mandate, action.task, subject, action.at, wish)
    if isinstance(grant, Objection):
        raise CannotDo(grant.reason, grant.detail)
    facts: Facts = yield Gather(action, OPEN, grant)
    known.facts = facts = replace(facts, labels=labels.join(facts.labels))
    question = Question(subject, grant, OPEN, action.arguments, facts)
    ruling: Ruling = yield Evaluate(question)
    decision = conclude(ruling, action, OPEN, facts)
    if not isinstance(decision, Permit):
        return (yield from _not_opened(decision, question, _origin(wish)))
    narrowed = narrow(grant, ruling.narrowing, action.at)
    if isinstance(narrowed, Objection):
        return Deny(action.id, narrowed.reason, ruling.policies, ruling.policy_digest, narrowed.detail)
    yield from require_admitted(subject, wish.user)
    yield Record(opened(narrowed, subject, action.at, labels, ruling))
    yield from require_alive(narrowed, subject, action.at)
    return narrowed


def _not_opened(decision: Deny | Hold, question: Question, origin: Origin) -> Flow[Deny]:
    """Would a request have made the difference? Then that is what is missing."""
    refusal = Deny(decision.id, decision.reason, decision.policies, decision.policy_digest)
    if isinstance(decision, Hold):
        return replace(refusal, reason=Reason.NO_POLICY, detail="it wants an approval, and an opening cannot have one")
    if decision.reason in {Reason.NO_POLICY, Reason.FORBIDDEN}:
        for better in _BETTER[origin]:
            ruling: Ruling = yield Evaluate(
                replace(question, arguments={**question.arguments, "request": better.value})
            )
            if ruling.decision is Decision.PERMIT:
                return replace(refusal, reason=Reason.UNCLEAR_INTENT, detail=_MISSING[better])
    return replace(refusal, detail=decision.detail)


_BETTER = {Origin.NONE: (Origin.ASSERTED, Origin.USER), Origin.ASSERTED: (Origin.USER,), Origin.USER: ()}

_MISSING = {
    Origin.ASSERTED: "`request` is missing: what the user asked for.",
    Origin.USER: "`request` is missing: what the user asked for, over the user's own channel.",
}


def _opening(mandate: Mandate | None, task: str, at: int, wish: Wish, salt: bytes) -> Action:
    """The call of OPEN: what the task would have if it were given all that is wished."""
    arguments: dict[str, Any] = {
        "mandate": mandate.name if mandate else "",
        "purpose": (mandate.purpose if mandate else "") or wish.purpose,
        "parameters": dict(wish.parameters),
        "user": wish.user,
        "request": _origin(wish).value,
        "lifetime_s": -(-_lifetime(mandate, wish) // 1000),
        "tools": list(_tools(mandate, wish)),
        "effects": sorted(effect.value for effect in _effects(mandate, wish)),
    }
    ask = partial(ask_for, OPEN.id, action_id=task, task=task, pin=OPEN.pin, salt=salt, at=at, proof=None)
    try:
        return ask(arguments)
    except InvalidInput:  # from_mandate objects to the same; what cannot be written cannot be recorded
        return ask({})


def _origin(wish: Wish) -> Origin:
    """Nobody vouches for a request that is not there."""
    return wish.origin if wish.request else Origin.NONE


def _tools(mandate: Mandate | None, wish: Wish) -> tuple[str, ...]:
    if wish.tools is not None:
        return wish.tools
    return mandate.tools if mandate else ()


def _effects(mandate: Mandate | None, wish: Wish) -> frozenset[Effect]:
    if wish.effects is not None:
        return wish.effects
    return mandate.effects if mandate else frozenset()


def _lifetime(mandate: Mandate | None, wish: Wish) -> int:
    if wish.lifetime_ms is not None:
        return wish.lifetime_ms
    return mandate.lifetime_ms if mandate else 0


def require_admitted(subject: Subject, user: str) -> Flow[None]:
    """Throws `revoked` or `suspended` where an order keeps this subject, or this user, from new tasks."""
    against: Reason | None = yield Admit(subject, user)
    if against is not None:
        raise CannotDo(against)


def require_alive(grant: Grant, subject: Subject, at: int) -> Flow[None]:
    """A task that was just recorded lives. Where an order or an end above it came first, it never did: throws why."""
    try:
        yield from _require_found(grant, subject)
    except CannotDo:
        yield from best_effort(Record(closed(grant.task, "revoked", at)))
        raise


def _require_found(grant: Grant, subject: Subject) -> Flow[None]:
    if (yield FindGrant(grant.task)) is None:
        yield from require_admitted(subject, grant.user)
        raise CannotDo(Reason.PARENT_ENDED if grant.parent else Reason.TASK_ENDED)


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
    known.facts = facts = yield Gather(action, EXTEND, grant)
    ruling: Ruling = yield Evaluate(Question(subject, grant, EXTEND, action.arguments, facts))
    decision = conclude(ruling, action, EXTEND, facts)
    if isinstance(decision, Hold):
        decision = yield from ask_people(decision, ruling, action, known)
    if not isinstance(decision, Permit):
        return decision
    yield Record(extended(grant.task, until, subject, action.at, ruling, decision.approvals))
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
