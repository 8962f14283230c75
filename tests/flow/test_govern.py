"""The conversations of one action, told step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forestall.core import entry
from forestall.core.ask import (
    CannotDo,
    Confirm,
    Evaluate,
    FindApproval,
    FindGrant,
    FindTool,
    Gather,
    Issue,
    NotStarted,
    Perform,
    Plan,
    Record,
    Release,
    Reserve,
    Revoke,
    Tell,
    Verify,
)
from forestall.core.fate import Fate
from forestall.core.flow import PERMIT_LIFETIME_MS, govern
from forestall.core.model import Approval, Decision, Deny, Done, Hold, Permit, Question, Result, Ruling, Undone
from forestall.core.reason import Reason
from forestall.testing.playbook import Playbook
from forestall.testing.world import AGENT, GRANT, LEASE, NOW, PERMITTED, SECRET, TOOL, action, facts

ACTION = action()
FACTS = facts()
PERMIT = Permit(
    id=ACTION.id,
    task=GRANT.task,
    tool=TOOL.id,
    pin=TOOL.pin,
    digest=ACTION.digest,
    effects=TOOL.effects,
    output=TOOL.output,
    policies=PERMITTED.policies,
    policy_digest=PERMITTED.policy_digest,
    expires_at=NOW + PERMIT_LIFETIME_MS,
)
PERMITTED_ENTRY = entry.permitted(PERMIT, ACTION, AGENT, FACTS, durable=True)


def asked(ruling: Ruling = PERMITTED) -> Playbook:
    """The way up to policy's ruling, which is the same for every action that is covered."""
    return (
        Playbook(govern(ACTION))
        << Verify("proof")
        >> AGENT
        << FindTool(TOOL.id)
        >> TOOL
        << FindGrant(GRANT.task)
        >> GRANT
        << Gather(ACTION, TOOL, GRANT)
        >> FACTS
        << Evaluate(Question(AGENT, GRANT, TOOL, ACTION.arguments, FACTS))
        >> ruling
    )


def test_a_permitted_action_is_recorded_then_performed_then_settled_then_released() -> None:
    result = Result("written", digest="sha256:out")
    book = (
        asked()
        << Reserve(GRANT, TOOL.effects)
        >> True
        << Record(PERMITTED_ENTRY)
        >> None
        << Confirm(PERMIT)
        >> None
        << Perform(PERMIT, ACTION, None)
        >> result
        << Tell()
        >> NOW + 5
        << Record(entry.settled(PERMIT, Fate.DONE, NOW + 5, output="sha256:out"))
        >> None
    )
    assert book.outcome == Done(PERMIT, result)


def test_a_credential_lives_only_between_the_record_and_the_settlement() -> None:
    permit = replace(PERMIT, credential="database")
    lease = replace(LEASE, secret=SECRET)
    book = (
        asked(replace(PERMITTED, credential="database"))
        << Reserve(GRANT, TOOL.effects)
        >> True
        << Record
        >> None
        << Confirm(permit)
        >> None
        << Plan(permit, ACTION)
        >> LEASE
        << Record(entry.leased(LEASE, NOW))
        >> None
        << Issue(LEASE)
        >> SECRET
        << Perform(permit, ACTION, lease)
        >> Result("written")
        << Revoke(LEASE)
        >> None
        << Tell()
        >> NOW
        << Record(entry.revoked(LEASE, "done", NOW))
        >> None
        << Tell()
        >> NOW
        << Record
        >> None
    )
    assert isinstance(book.outcome, Done)


def test_a_credential_whose_answer_was_lost_is_revoked_by_name() -> None:
    book = asked(replace(PERMITTED, credential="database")) << Reserve >> True << Record >> None << Confirm >> None
    book = book << Plan >> LEASE << Record >> None
    book = book << Issue >> CannotDo(detail="no answer") << Revoke(LEASE) >> None << Tell >> NOW
    book = book << Record(entry.revoked(LEASE, "not_started", NOW)) >> None << Tell >> NOW
    permit = replace(PERMIT, credential="database")
    book = book << Record(entry.settled(permit, Fate.NOT_STARTED, NOW, detail="no answer")) >> None
    assert book.outcome == Undone(permit, Fate.NOT_STARTED, Reason.UNAVAILABLE, "no answer")


def test_what_cannot_be_recorded_is_denied_and_its_budget_given_back() -> None:
    denial = Deny(ACTION.id, Reason.UNAVAILABLE, detail="disk full")
    book = (
        asked()
        << Reserve(GRANT, TOOL.effects)
        >> True
        << Record(PERMITTED_ENTRY)
        >> CannotDo(detail="disk full")
        << Release(GRANT, TOOL.effects)
        >> None
        << Record(entry.denied(denial, ACTION, AGENT, FACTS))
        >> None
    )
    assert book.outcome == denial


def test_a_hold_says_what_it_waits_for_and_ends() -> None:
    approvals = (Approval(("owner",), quorum=2),)
    hold = Hold(ACTION.id, Reason.NEEDS_APPROVAL, approvals, ("ask",), "b", "s")
    ruling = Ruling(Decision.HOLD, "b", "s", Reason.NEEDS_APPROVAL, ("ask",), approvals)
    book = asked(ruling) << FindApproval(ACTION, AGENT, ruling, FACTS) >> Reason.NEEDS_APPROVAL
    book = book << Record(entry.held(hold, ACTION, AGENT, FACTS)) >> None
    assert book.outcome == hold


def test_a_stranger_is_denied_before_anything_else_is_looked_up() -> None:
    denial = Deny(ACTION.id, Reason.INVALID_PROOF)
    book = Playbook(govern(ACTION)) << Verify("proof") >> CannotDo(Reason.INVALID_PROOF)
    book = book << Record >> None
    assert isinstance(book.outcome, Deny)
    assert book.outcome.reason == denial.reason


def test_an_action_outside_the_grant_is_denied_before_policy_is_asked() -> None:
    narrow = replace(GRANT, tools=("git/*",))
    book = Playbook(govern(ACTION)) << Verify >> AGENT << FindTool >> TOOL << FindGrant >> narrow << Gather >> FACTS
    book = book << Record(entry.denied(Deny(ACTION.id, Reason.OUT_OF_SCOPE), ACTION, AGENT, FACTS)) >> None
    assert book.outcome == Deny(ACTION.id, Reason.OUT_OF_SCOPE)


def test_an_unsettled_outcome_withholds_the_output() -> None:
    book = asked() << Reserve >> True << Record >> None << Confirm >> None << Perform >> Result("secret")
    book = book << Tell >> NOW << Record >> CannotDo(detail="disk full")
    assert isinstance(book.outcome, Undone)
    assert book.outcome.fate is Fate.AMBIGUOUS
    assert "secret" not in repr(book.outcome)


def test_a_door_that_did_not_start_is_told_apart_from_one_that_was_lost() -> None:
    for failure, fate in ((NotStarted(), Fate.NOT_STARTED), (CannotDo(), Fate.AMBIGUOUS)):
        book = asked() << Reserve >> True << Record >> None << Confirm >> None << Perform >> failure
        book = book << Tell >> NOW << Record >> None
        assert book.outcome.fate is fate


@pytest.mark.parametrize("reason", [Reason.REVOKED, Reason.SUSPENDED, Reason.TASK_ENDED, Reason.DEADLINE])
def test_a_permit_that_does_not_stand_once_it_is_recorded_is_settled_and_released_to_nobody(reason: Reason) -> None:
    permit = replace(PERMIT, credential="database")
    book = asked(replace(PERMITTED, credential="database")) << Reserve >> True << Record >> None
    book = book << Confirm(permit) >> reason << Tell >> NOW
    book = book << Record(entry.settled(permit, Fate.NOT_STARTED, NOW, detail=reason.value)) >> None
    assert book.outcome == Undone(permit, Fate.NOT_STARTED, reason, reason.value)


def test_where_nobody_can_say_whether_a_permit_stands_it_does_not() -> None:
    book = asked() << Reserve >> True << Record >> None << Confirm >> CannotDo() << Tell >> NOW << Record >> None
    assert book.outcome.fate is Fate.NOT_STARTED


def test_a_denial_stands_though_it_cannot_be_recorded() -> None:
    ruling = Ruling(Decision.DENY, "b", "s", Reason.FORBIDDEN, ("no",), detail="forbidden by no")
    book = asked(ruling) << Record >> CannotDo()
    assert book.outcome == Deny(ACTION.id, Reason.FORBIDDEN, ("no",), "b", "forbidden by no")


def test_no_argument_and_no_salt_shows_in_what_is_recorded_or_printed() -> None:
    secret = action({"password": "hunter2-and-more"})
    book = entry.permitted(PERMIT, secret, AGENT, FACTS, durable=True)
    for shown in (repr(secret), repr(book), book.leaf().decode()):
        assert "hunter2" not in shown
        assert "salt" not in shown
    assert book.sealed is not None
    assert b"hunter2" in book.sealed
