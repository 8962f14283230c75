"""A server is equipped: it is started with a credential of its task, if policy agrees.

What a server has from its start it has for every call, whoever asks for it; so policy decides about that alone, as a
call of EQUIP. The permit for it is recorded, spends budget and is settled like any other; what it lends is the task's.
"""

from __future__ import annotations

from forestall.core.ask import CannotDo, Evaluate, FindGrant, Flow, Gather, NotStarted, Verify
from forestall.core.effects import Effect
from forestall.core.fate import Fate
from forestall.core.flow import (
    Known,
    ask_people,
    conclude,
    refuse,
    require_standing,
    reserve_and_record,
    settle,
)
from forestall.core.grant import holder_objection
from forestall.core.lend import Loan, lend, take_back
from forestall.core.model import Action, Deny, Done, Hold, Lease, Permit, Question, Result, Scope, Undone
from forestall.core.own import own_tool
from forestall.core.place import Where
from forestall.core.reason import Reason

EQUIP = own_tool(
    "equip",
    {"server": {"type": "string"}, "credential": {"type": "string"}, "exposed": {"type": "boolean"}},
    ("server", "credential", "exposed"),
    effect=Effect.CREDENTIAL,
)
"""What policy is asked about before a server is started with a credential: whom, with a credential of which class, and
whether the agent's own user could read it there. A permit for it names the class: `@credential("CLASS")`.
"""


def equip(action: Action) -> Flow[Lease | Deny | Hold]:
    """A credential of the task, with its secret, that the server may be started with: a call of EQUIP.

    Throws nothing: whatever goes wrong is a denial, and what was brought into being is taken back.
    """
    known = Known(tool=EQUIP)
    try:
        decision = yield from _decide(action, known)
        if isinstance(decision, Permit):
            yield from reserve_and_record(decision, action, known)
    except CannotDo as error:
        decision = Deny(action.id, error.reason, detail=error.detail)
    if isinstance(decision, Permit):
        return (yield from _hand_over(decision, action))
    yield from refuse(decision, action, known)
    return decision


def _decide(action: Action, known: Known) -> Flow[Permit | Deny | Hold]:
    known.subject = subject = yield Verify(action.proof)
    if subject is None:
        return Deny(action.id, Reason.INVALID_PROOF)
    known.grant = grant = yield FindGrant(action.task)
    against = holder_objection(grant, subject, action.at)
    if against is not None:
        return Deny(action.id, against)
    assert grant is not None
    known.facts = facts = yield Gather(action, EQUIP, grant)
    if not EQUIP.effects <= grant.effects:
        return Deny(action.id, Reason.OUT_OF_SCOPE)
    ruling = yield Evaluate(Question(subject, grant, EQUIP, action.arguments, facts))
    decision = conclude(ruling, action, EQUIP, facts, grant)
    if isinstance(decision, Hold):
        decision = yield from ask_people(decision, ruling, action, known)
    if isinstance(decision, Permit) and decision.credential != action.arguments["credential"]:
        why = "the permit does not name this class: @credential"
        return Deny(action.id, Reason.NO_POLICY, decision.policies, decision.policy_digest, why)
    return decision


def _hand_over(permit: Permit, action: Action) -> Flow[Lease | Deny | Hold]:
    """Confirm, lend, settle. What is not settled is not handed over."""
    loan = Loan()
    try:
        yield from require_standing(permit)
        lease = yield from lend(permit, action, loan, exposed=action.arguments["exposed"])
        _require_of_task(lease)
    except CannotDo as error:
        yield from take_back(loan, Fate.NOT_STARTED.value)
        yield from settle(Undone(permit, Fate.NOT_STARTED, error.reason, error.detail))
        return Deny(permit.id, error.reason, permit.policies, permit.policy_digest, error.detail)
    outcome = yield from settle(Done(permit, Result(None)))
    if isinstance(outcome, Undone):
        return Deny(permit.id, outcome.reason, permit.policies, permit.policy_digest, outcome.detail)
    return lease


def _require_of_task(lease: Lease) -> None:
    place = lease.place
    if lease.scope is not Scope.TASK or place is None or not (place.at_start or place.where is Where.HEADER):
        raise NotStarted(Reason.UNAVAILABLE, f"`{lease.credential}` is not one that a server is started with")
