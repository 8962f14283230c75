"""A task handed one hop on, never wider than it was (`core/attenuate.py`).

The rules that this module keeps, each with a test in tests/unit/core/test_delegate.py:

 1. A delegated task has no tool, effect, bound, level of data, time, depth or amount that the task above lacks.
 2. It is never handed to an agent that acts in the chain already, nor to another tenant or trust domain.
 3. A task that has ended hands nothing on, whoever asks; what is recorded below it afterwards is dead.
 4. Policy decides each hop, with the labels of the task above; those labels are where the new task starts. It may
    grant less than is wanted, and never more.
 5. The grant exists once its entry is written, and the fan-out that it takes was reserved before.
 6. Whoever an order keeps from new tasks is handed none; what an order or an end overtook is handed to nobody.
"""

from __future__ import annotations

from forestall.core.ask import CannotDo, Evaluate, FindGrant, Flow, Gather, Record, Release, Reserve, Verify
from forestall.core.attenuate import attenuate
from forestall.core.entry import opened
from forestall.core.errors import InvalidInput
from forestall.core.flow import Known, best_effort, conclude, refuse
from forestall.core.grant import holder_objection, within
from forestall.core.model import Action, Deny, Facts, Grant, Hold, Permit, Question, Ruling, Subject
from forestall.core.narrow import narrow
from forestall.core.quantity import Quantity
from forestall.core.reason import Objection, Reason
from forestall.core.task import require_admitted, require_alive
from forestall.core.wanted import DELEGATE, Wanted, parse_wanted

ONE_MORE = frozenset({Quantity.FAN_OUT})


def delegate(action: Action, to: object, child: str) -> Flow[Grant | Deny | Hold]:
    """Hand part of the action's task on: a call of DELEGATE by the task's holder.

    `to`: evidence of who is to hold it, as `Verify` takes it. `child`: names the new task, and is random.
    """
    known = Known(tool=DELEGATE)
    try:
        decision = yield from _delegate(action, to, child, known)
    except CannotDo as error:
        decision = Deny(action.id, error.reason, detail=error.detail)
    if not isinstance(decision, Grant):
        yield from refuse(decision, action, known)
    return decision


def _delegate(action: Action, to: object, child: str, known: Known) -> Flow[Grant | Deny | Hold]:
    known.subject = subject = yield Verify(action.proof)
    receiver = yield Verify(to)
    if subject is None or receiver is None:
        return Deny(action.id, Reason.INVALID_PROOF)
    wanted = _wanted(action)
    known.grant = parent = yield FindGrant(action.task)
    against = _may_hand_on(parent, subject, receiver, wanted, action.at)
    if against is not None:
        return Deny(action.id, against.reason, detail=against.detail)
    assert parent is not None
    known.facts = facts = yield Gather(action, DELEGATE, parent)
    grant = attenuate(parent, wanted, task=child, holder=receiver, at=action.at)
    against = grant if isinstance(grant, Objection) else _knows_too_much(grant, facts)
    if against is not None:
        return Deny(action.id, against.reason, detail=against.detail)
    assert isinstance(grant, Grant)
    ruling: Ruling = yield Evaluate(Question(subject, parent, DELEGATE, action.arguments, facts))
    decision = conclude(ruling, action, DELEGATE, facts)
    if not isinstance(decision, Permit):
        return decision
    grant = narrow(grant, ruling.narrowing, action.at)
    if isinstance(grant, Objection):
        return Deny(action.id, grant.reason, ruling.policies, ruling.policy_digest, grant.detail)
    yield from require_admitted(receiver, grant.user)
    yield from _reserve_and_record(parent, grant, receiver, facts, action.at, ruling)
    yield from require_alive(grant, receiver, action.at)
    return grant


def _reserve_and_record(
    parent: Grant, grant: Grant, receiver: Subject, facts: Facts, at: int, ruling: Ruling
) -> Flow[None]:
    if not (yield Reserve(parent, ONE_MORE)):
        raise CannotDo(Reason.BUDGET, "no task may be delegated any more, or the task above has ended")
    try:
        yield Record(opened(grant, receiver, at, facts.labels, ruling))
    except CannotDo:
        yield from best_effort(Release(parent, ONE_MORE))
        raise


def _wanted(action: Action) -> Wanted:
    if action.tool != DELEGATE.id:
        raise CannotDo(Reason.INVALID_ARGUMENTS, "not a delegation")
    try:
        return parse_wanted(action.arguments)
    except InvalidInput as error:
        raise CannotDo(Reason.INVALID_ARGUMENTS, str(error)) from None


def _may_hand_on(
    parent: Grant | None, subject: Subject, receiver: Subject, wanted: Wanted, at: int
) -> Objection | None:
    reason = holder_objection(parent, subject, at)
    if reason is not None:
        ended = parent is None or reason is Reason.TASK_ENDED
        return Objection(Reason.PARENT_ENDED if ended else reason)
    if receiver.id != wanted.to:
        return Objection(Reason.INVALID_PROOF, "who is to hold the task is another than was asked for")
    return None


def _knows_too_much(grant: Grant, facts: Facts) -> Objection | None:
    """What the task above has seen goes with it."""
    if within(facts.labels.confidentiality, grant.ceiling):
        return None
    return Objection(Reason.OUT_OF_SCOPE, "the task above has seen what the new one may not know")
