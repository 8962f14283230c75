"""One action, from asked to settled.

The rules that this module keeps. `tests/flow/test_faults.py` holds each of them under every combination of failing
effects, and `tests/flow/test_mutants.py` breaks each of them and sees it caught:

 1. Nothing is performed, and no credential comes into being, before the permit is recorded, and the credential too.
 2. What is performed is what was asked, under a permit for exactly that: tool, pin, arguments.
 3. `Perform` is asked at most once.
 4. Whatever goes wrong before `Perform`, nothing is performed and the answer is a refusal.
 5. An output is released only after the outcome, with the output's labels, is recorded. Who performs elsewhere may
    release it before, where that record changes nothing (`core.release`).
 6. A credential that may exist is revoked on every path, or its record has no end and the sweep revokes it; one that
    is the task's own lives on.
 7. A hold performs nothing.
 8. Denials and permits are recorded on separate streams, and every permit is settled.
 9. A budget that was reserved and not spent is given back.
10. A permit that does not stand once it is recorded, because its task was ended or stopped meanwhile, is released to
    nobody: it is settled as not started.
11. A held action runs only where policy holds it and people's approvals count; each of them is used up by its permit.
12. An output that is more than one call may have is released to nobody, and counts all the same.
13. An output in which a credential came back is released to nobody.
14. A call that uses content which may be another by then is held, and runs only where people agreed (`core.refer`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from forestall.core.ask import (
    AwaitUpstream,
    CannotDo,
    Confirm,
    Evaluate,
    FindApproval,
    FindGrant,
    FindTool,
    Flow,
    Gather,
    NotStarted,
    Perform,
    Record,
    Release,
    Reserve,
    Tell,
    Verify,
)
from forestall.core.entry import Entry, denied, held, permitted, settled
from forestall.core.fate import Fate
from forestall.core.grant import objection
from forestall.core.hide import given_though_hidden
from forestall.core.lend import Loan, lend, take_back
from forestall.core.measure import exceeds
from forestall.core.model import (
    NOTHING,
    Action,
    Decision,
    Deny,
    Done,
    Facts,
    Grant,
    Hold,
    Outcome,
    Permit,
    Question,
    Result,
    Ruling,
    Subject,
    Tool,
    Undone,
)
from forestall.core.reason import Reason
from forestall.core.refer import by_pointer, held_if_unbound

PERMIT_LIFETIME_MS = 10_000
"""How long after the question a permit may still start. Long enough for a busy machine, too short to hoard."""


@dataclass(slots=True)
class Known:
    """What has been learnt about the action so far: what a refusal can be recorded with."""

    subject: Subject | None = None
    tool: Tool | None = None
    grant: Grant | None = None
    facts: Facts | None = None


def govern(action: Action) -> Flow[Outcome]:
    """Decide `action`; if it is permitted, see it through and settle it."""
    known = Known()
    try:
        decision = yield from decide(action, known)
        if isinstance(decision, Permit):
            yield from reserve_and_record(decision, action, known)
    except CannotDo as error:
        decision = Deny(action.id, error.reason, detail=error.detail)
    if isinstance(decision, Permit):
        return (yield from carry_out(decision, action))
    return (yield from refuse(decision, action, known))


def decide(action: Action, known: Known) -> Flow[Permit | Deny | Hold]:
    """Who is asking, with what authority, about what; and does policy permit it?"""
    known.subject = subject = yield Verify(action.proof)
    if subject is None:
        return Deny(action.id, Reason.INVALID_PROOF)
    known.tool = tool = yield FindTool(action.tool)
    if tool is None:
        return Deny(action.id, Reason.UNKNOWN_TOOL)
    if tool.id != action.tool or tool.pin != action.pin:
        return Deny(action.id, Reason.TOOL_CHANGED)
    if given := given_though_hidden(tool.hidden, action.arguments):
        return Deny(action.id, Reason.INVALID_ARGUMENTS, detail=f"{given} is filled in by a credential alone")
    while True:
        known.grant = grant = yield FindGrant(action.task)
        known.facts = facts = yield Gather(action, tool, grant)
        against = objection(grant, subject, tool, facts, action.at, action.arguments)
        if against is not None:
            return Deny(action.id, against)
        ruling = yield Evaluate(Question(subject, grant, tool, action.arguments, facts))
        if not ruling.after_upstream or not (yield AwaitUpstream(action)):
            break
    ruling = held_if_unbound(ruling, facts)
    decision = conclude(ruling, action, tool, facts, grant)
    if isinstance(decision, Hold):
        return (yield from ask_people(decision, ruling, action, known))
    return decision


def conclude(
    ruling: Ruling, action: Action, tool: Tool, facts: Facts, grant: Grant | None = None
) -> Permit | Deny | Hold:
    """Make policy's ruling a decision about this action. What is neither permit nor hold is a denial."""
    if ruling.decision is Decision.PERMIT and ruling.policies:
        return Permit(
            id=action.id,
            task=action.task,
            tool=action.tool,
            pin=action.pin,
            digest=action.digest,
            effects=tool.effects | facts.effects,
            output=tool.output,
            policies=ruling.policies,
            policy_digest=ruling.policy_digest,
            expires_at=action.at + PERMIT_LIFETIME_MS,
            credential=ruling.credential,
            limits=grant.per_call if grant is not None else NOTHING,
            refs=by_pointer(action.arguments, facts.references) if facts.references else NOTHING,
        )
    if ruling.decision is Decision.HOLD:
        if not ruling.approvals or not all(approval.approvers for approval in ruling.approvals):
            return Deny(action.id, Reason.NOT_APPROVED, ruling.policies, ruling.policy_digest, "nobody may approve it")
        reason = ruling.reason or Reason.NEEDS_APPROVAL
        return Hold(action.id, reason, ruling.approvals, ruling.policies, ruling.policy_digest, ruling.slice_digest)
    return Deny(action.id, ruling.reason or Reason.NO_POLICY, ruling.policies, ruling.policy_digest, ruling.detail)


def ask_people(hold: Hold, ruling: Ruling, action: Action, known: Known) -> Flow[Permit | Deny | Hold]:
    """What policy holds runs once enough people have agreed to exactly it, and never once one has declined it."""
    assert known.subject is not None
    assert known.tool is not None
    assert known.facts is not None
    answer = yield FindApproval(action, known.subject, ruling, known.facts)
    if answer is Reason.NEEDS_APPROVAL or not answer:
        return hold
    if isinstance(answer, Reason):
        return Deny(action.id, answer, ruling.policies, ruling.policy_digest)
    decision = conclude(replace(ruling, decision=Decision.PERMIT), action, known.tool, known.facts, known.grant)
    return replace(decision, approvals=answer) if isinstance(decision, Permit) else decision


def reserve_and_record(permit: Permit, action: Action, known: Known) -> Flow[None]:
    """Spend the budget and write the permit down, or throw: without a record there is no permit."""
    assert known.subject is not None
    assert known.tool is not None
    assert known.grant is not None
    assert known.facts is not None
    if not (yield Reserve(known.grant, permit.effects)):
        raise CannotDo(Reason.BUDGET)
    try:
        yield Record(permitted(permit, action, known.subject, known.facts, durable=known.tool.durable))
    except CannotDo:
        yield from best_effort(Release(known.grant, permit.effects))
        raise


def carry_out(permit: Permit, action: Action) -> Flow[Outcome]:
    """Confirm, lend, perform once, take back, settle; release the output only when that is written."""
    outcome: Done | Undone
    loan, fate = Loan(), Fate.NOT_STARTED
    try:
        yield from require_standing(permit)
        lease = (yield from lend(permit, action, loan)) if permit.credential is not None else None
        fate = Fate.AMBIGUOUS
        outcome = Done(permit, (yield Perform(permit, action, lease)))
        fate = _fate(outcome.result)
    except CannotDo as error:
        fate = Fate.NOT_STARTED if isinstance(error, NotStarted) else fate
        outcome = Undone(permit, fate, error.reason, error.detail)
    yield from take_back(loan, fate)
    return (yield from settle(outcome))


def require_standing(permit: Permit) -> Flow[None]:
    """Throws why a permit that was recorded is released to nobody."""
    stopped: Reason | None = yield Confirm(permit)
    if stopped is not None:
        raise NotStarted(stopped, stopped.value)


def settle(outcome: Done | Undone) -> Flow[Outcome]:
    """Record how the permit ended. An output whose outcome cannot be recorded is withheld."""
    try:
        at = yield Tell()
        yield Record(_settlement(outcome, at))
    except CannotDo as error:
        fate = outcome.fate if isinstance(outcome, Undone) else Fate.AMBIGUOUS
        return Undone(outcome.permit, fate, error.reason, f"the outcome was not recorded: {error.detail}")
    if isinstance(outcome, Done) and outcome.result.leaked:
        return Undone(outcome.permit, _fate(outcome.result), Reason.LEAKED, "a credential came back in the output")
    if isinstance(outcome, Done) and exceeds(outcome.result.used, outcome.permit.limits):
        return Undone(outcome.permit, _fate(outcome.result), Reason.BUDGET, "more than one call may have")
    return outcome


def _settlement(outcome: Done | Undone, at: int) -> Entry:
    if isinstance(outcome, Undone):
        return settled(outcome.permit, outcome.fate, at, detail=outcome.detail)
    result: Result = outcome.result
    return settled(outcome.permit, _fate(result), at, output=result.digest, used=result.used, leaked=result.leaked)


def _fate(result: Result) -> Fate:
    return Fate.FAILED if result.failed else Fate.DONE


def refuse(decision: Deny | Hold, action: Action, known: Known) -> Flow[Outcome]:
    """Record a denial or a hold. It stands whether or not that succeeds."""
    if isinstance(decision, Hold):
        assert known.subject is not None
        assert known.facts is not None
        yield from best_effort(Record(held(decision, action, known.subject, known.facts)))
    else:
        yield from best_effort(Record(denied(decision, action, known.subject, known.facts)))
    return decision


def best_effort(step: Record | Release) -> Flow[None]:
    """A step of clean-up: where it fails, the sweeper finds what is left from the ledger."""
    try:
        yield step
    except CannotDo:
        return
