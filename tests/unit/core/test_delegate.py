"""The rules of `core/delegate.py`, each in a conversation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.action import ask_for
from forestall.core.ask import Admit, CannotDo, Evaluate, FindGrant, Gather, Record, Release, Reserve, Verify
from forestall.core.attenuate import attenuate
from forestall.core.delegate import ONE_MORE, delegate
from forestall.core.effects import Effect
from forestall.core.entry import Kind, closed, opened
from forestall.core.label import CLEAN, Confidentiality, Integrity, Label
from forestall.core.model import Action, Approval, Decision, Deny, Grant, Hold, Question, Ruling
from forestall.core.reason import Reason
from forestall.core.wanted import DELEGATE, Wanted, parse_wanted
from forestall.testing.playbook import Playbook
from forestall.testing.world import NOW, PERMITTED, facts
from tests.unit.core.test_attenuate import HELPER, PARENT, PLANNER

FACTS = facts(DELEGATE)
SECRET = Label(Integrity.UNTRUSTED, Confidentiality.SECRET)
CHILD = attenuate(PARENT, Wanted(HELPER.id), task="t2", holder=HELPER, at=NOW)


def asked(tool: str = DELEGATE.id, **arguments: Any) -> Action:
    members = {"to": HELPER.id, **arguments}
    return ask_for(tool, members, action_id="a1", task="t1", pin="", salt=b"s" * 16, at=NOW, proof="planner's")


def talk(action: Action) -> Playbook:
    return Playbook(delegate(action, "helper's", "t2"))


def known(action: Action) -> Playbook:
    """Who asks, and who is to hold it."""
    return talk(action) << Verify("planner's") >> PLANNER << Verify("helper's") >> HELPER


def decided(action: Action, labels: Label = CLEAN, ruling: Ruling = PERMITTED) -> Playbook:
    seen = replace(FACTS, labels=labels)
    book = known(action) << FindGrant("t1") >> PARENT << Gather(action, DELEGATE, PARENT) >> seen
    return book << Evaluate(Question(PLANNER, PARENT, DELEGATE, action.arguments, seen)) >> ruling


def admitted(action: Action, labels: Label = CLEAN) -> Playbook:
    """As far as its entry."""
    return decided(action, labels) << Admit(HELPER, PARENT.user) >> None << Reserve(PARENT, ONE_MORE) >> True


def refused(book: Playbook) -> Reason:
    """It ends with a denial that is recorded."""
    record = book.pending
    assert isinstance(record, Record)
    assert record.entry.kind is Kind.DENIED
    book >> None
    assert book.pending is None
    assert isinstance(book.outcome, Deny)
    return book.outcome.reason


def test_a_task_is_handed_on_in_this_order() -> None:
    assert isinstance(CHILD, Grant)
    book = decided(asked()) << Admit(HELPER, PARENT.user) >> None << Reserve(PARENT, ONE_MORE) >> True
    book << Record(opened(CHILD, HELPER, NOW, CLEAN, PERMITTED)) >> None << FindGrant("t2") >> CHILD
    assert book.pending is None
    assert book.outcome == CHILD


def test_the_entry_is_durable_and_says_what_permitted_it() -> None:
    book = admitted(asked())
    assert isinstance(book.pending, Record)
    entry = book.pending.entry
    assert entry.durable
    assert (entry.body["policies"], entry.body["policy_digest"]) == (["writes"], "sha256:bundle")
    assert entry.body["subject"]["id"] == HELPER.id
    assert entry.body["actors"] == [["e", "helper"], ["e", "planner"]]


# -- rule 1: nothing that the task above lacks


def test_what_is_wider_is_refused_before_policy_is_asked() -> None:
    action = asked(tools=["*"])
    assert (
        refused(known(action) << FindGrant("t1") >> PARENT << Gather(action, DELEGATE, PARENT) >> FACTS) is Reason.WIDER
    )


# -- rule 2: never in a circle, never elsewhere


@pytest.mark.parametrize(
    ("holder", "reason"),
    [(PLANNER, Reason.CYCLE), (replace(HELPER, tenant="u"), Reason.OTHER_DOMAIN)],
)
def test_the_wrong_holder_is_refused(holder: Any, reason: Reason) -> None:
    action = asked(to=holder.id)
    book = talk(action) << Verify("planner's") >> PLANNER << Verify("helper's") >> holder
    assert refused(book << FindGrant("t1") >> PARENT << Gather(action, DELEGATE, PARENT) >> FACTS) is reason


def test_who_is_verified_has_to_be_who_was_asked_for() -> None:
    assert refused(known(asked(to="another")) << FindGrant("t1") >> PARENT) is Reason.INVALID_PROOF


@pytest.mark.parametrize("which", ["asks", "receives"])
def test_nobody_who_is_not_verified_takes_part(which: str) -> None:
    for answer in (None, CannotDo(Reason.INVALID_PROOF)):
        book = talk(asked())
        if which == "receives":
            book << Verify("planner's") >> PLANNER
        book >> answer
        if which == "asks" and answer is None:
            book << Verify("helper's") >> HELPER
        assert refused(book) is Reason.INVALID_PROOF


def test_only_its_holder_hands_a_task_on() -> None:
    book = talk(asked()) << Verify("planner's") >> replace(PLANNER, id="thief") << Verify("helper's") >> HELPER
    assert refused(book << FindGrant("t1") >> PARENT) is Reason.NOT_HOLDER
    book = talk(asked()) << Verify("planner's") >> replace(PLANNER, instance="i-9") << Verify("helper's") >> HELPER
    assert refused(book << FindGrant("t1") >> PARENT) is Reason.NOT_HOLDER
    book = talk(asked()) << Verify("planner's") >> replace(PLANNER, tenant="u") << Verify("helper's") >> HELPER
    assert refused(book << FindGrant("t1") >> PARENT) is Reason.NO_GRANT


# -- rule 3: what has ended hands nothing on


@pytest.mark.parametrize("parent", [None, replace(PARENT, expires_at=NOW)])
def test_a_task_that_has_ended_hands_nothing_on(parent: Grant | None) -> None:
    assert refused(known(asked()) << FindGrant("t1") >> parent) is Reason.PARENT_ENDED


# -- rule 4: policy decides, with the labels of the task above


def test_policy_may_refuse_or_hold() -> None:
    denied = Ruling(Decision.DENY, "sha256:bundle", "sha256:slice", Reason.FORBIDDEN, ("no",))
    assert refused(decided(asked(), ruling=denied)) is Reason.FORBIDDEN
    nobody = Ruling(Decision.PERMIT, "sha256:bundle", "sha256:slice")
    assert refused(decided(asked(), ruling=nobody)) is Reason.NO_POLICY
    waits = Ruling(Decision.HOLD, "sha256:bundle", "sha256:slice", approvals=(Approval(("owner",)),))
    book = decided(asked(), ruling=waits) >> None
    assert isinstance(book.outcome, Hold)


def test_the_new_task_starts_with_what_the_one_above_has_seen() -> None:
    seen = Label(Integrity.UNTRUSTED, Confidentiality.INTERNAL)
    book = admitted(asked(), seen)
    assert isinstance(book.pending, Record)
    assert book.pending.entry.body["seen"] == {"integrity": "untrusted", "confidentiality": "internal"}


def test_what_the_task_above_has_seen_has_to_be_below_the_new_ones_ceiling() -> None:
    action = asked(confidentiality="public")
    seen = replace(FACTS, labels=SECRET)
    book = known(action) << FindGrant("t1") >> PARENT << Gather(action, DELEGATE, PARENT) >> seen
    assert refused(book) is Reason.OUT_OF_SCOPE


# -- rule 5: reserved, recorded, and only then a grant


def test_without_fan_out_left_there_is_no_new_task() -> None:
    book = decided(asked()) << Admit >> None << Reserve(PARENT, ONE_MORE) >> False
    assert refused(book) is Reason.BUDGET


def test_a_grant_that_cannot_be_recorded_does_not_exist_and_gives_back_what_it_took() -> None:
    book = admitted(asked()) << Record >> CannotDo()
    assert refused(book << Release(PARENT, ONE_MORE) >> None) is Reason.UNAVAILABLE


@pytest.mark.parametrize(
    "action",
    [
        asked("files/read"),
        asked(tools=[]),
        asked(tools="files/*"),
        asked(effects=["wrote"]),
        asked(surprise=1),
        asked(expires_at=1.5),
        asked(budget={"write": -1}),
        asked(per_call={"write": 1}),
        asked(resources=[{"tool": "a", "argument": "b"}]),
        asked(to=""),
    ],
    ids=lambda action: str(action.arguments),
)
def test_a_request_that_is_not_understood_is_refused(action: Action) -> None:
    assert refused(known(action)) is Reason.INVALID_ARGUMENTS


def test_what_is_asked_for_is_what_is_granted() -> None:
    action = asked(tools=["files/read"], effects=["read"], budget={"write": 1}, expires_at=NOW + 5)
    book = admitted(action) << Record >> None << FindGrant
    assert isinstance(book.pending, FindGrant)
    grant = attenuate(PARENT, parse_wanted(action.arguments), task="t2", holder=HELPER, at=NOW)
    book >> grant
    assert book.outcome == grant
    assert isinstance(grant, Grant)
    assert (grant.tools, grant.effects, grant.expires_at) == (("files/read",), frozenset({Effect.READ}), NOW + 5)


# -- rule 6: an order goes before


@pytest.mark.parametrize("reason", [Reason.REVOKED, Reason.SUSPENDED])
def test_whoever_an_order_keeps_from_new_tasks_is_handed_none(reason: Reason) -> None:
    assert refused(decided(asked()) << Admit(HELPER, PARENT.user) >> reason) is reason


def overtaken(answer: Any, *barred: Reason | None) -> Playbook:
    """It was recorded, and then `FindGrant` answers this, and `Admit` that; its end is written down."""
    book = admitted(asked()) << Record >> None << FindGrant("t2") >> answer
    for reason in barred:
        book << Admit(HELPER, PARENT.user) >> reason
    return book << Record(closed("t2", "revoked", NOW)) >> None


def test_what_an_order_or_an_end_overtook_is_handed_to_nobody() -> None:
    assert refused(overtaken(CannotDo(Reason.SUSPENDED))) is Reason.SUSPENDED
    assert refused(overtaken(None, Reason.REVOKED)) is Reason.REVOKED
    assert refused(overtaken(None, None)) is Reason.PARENT_ENDED
