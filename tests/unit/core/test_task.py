"""A task is written down before anything can be asked under it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.action import ask_for
from forestall.core.ask import Admit, CannotDo, Evaluate, FindGrant, Gather, Record, Verify
from forestall.core.effects import Effect
from forestall.core.entry import Entry, Kind, closed, extended, opened
from forestall.core.label import CLEAN, WORST, Label
from forestall.core.mandate import NO_WISH, Origin, Wish, from_mandate
from forestall.core.model import (
    Action,
    Approval,
    Decision,
    Deny,
    Grant,
    Mandate,
    Narrowing,
    Parameter,
    Question,
    Resource,
    Ruling,
)
from forestall.core.reason import Reason
from forestall.core.task import EXTEND, OPEN, close_task, extend, open_task, told
from forestall.run import run
from forestall.testing.playbook import Playbook
from forestall.testing.world import AGENT, GRANT, NOW, PERMITTED, Fault, World, facts

MANDATE = Mandate("default", "tidy up", ("*",), frozenset(Effect), 60_000)


BOUND = replace(MANDATE, parameters={"order": Parameter("[0-9]+")}, resources=(Resource("*", "order", ("{order}",)),))
SALT = b"s" * 16
NO = Ruling(Decision.DENY, "sha256:bundle", "sha256:slice", Reason.NO_POLICY)
FORBIDDEN = replace(NO, reason=Reason.FORBIDDEN, policies=("not-here",), detail="for the operator")


def opening(mandate: Mandate | None = MANDATE, wish: Wish = NO_WISH, labels: Label = CLEAN) -> Playbook:
    return Playbook(open_task(mandate, "task-1", AGENT, NOW, labels, wish, salt=SALT))


def not_opened(book: Playbook) -> tuple[CannotDo, Entry]:
    """What its caller hears, and what is written down of it."""
    assert isinstance(book.pending, Record)
    entry = book.pending.entry
    assert (entry.kind, entry.id, entry.body["tool"]) == (Kind.DENIED, "task-1", OPEN.id)
    with pytest.raises(CannotDo) as caught:
        book >> None
    assert caught.value.reason == entry.body["reason"]
    return caught.value, entry


def granted(mandate: Mandate = MANDATE, wish: Wish = NO_WISH) -> Grant:
    grant = from_mandate(mandate, "task-1", AGENT, NOW, wish)
    assert isinstance(grant, Grant)
    return grant


def test_a_task_opens_once_policy_agrees_with_a_durable_entry_that_says_who_agreed() -> None:
    grant, book = granted(), opening()
    assert isinstance(book.pending, Gather)
    action = book.pending.action
    assert (action.id, action.task, action.tool) == ("task-1", "task-1", OPEN.id)
    book << Gather(action, OPEN, grant) >> facts(OPEN)
    book << Evaluate(Question(AGENT, grant, OPEN, action.arguments, facts(OPEN))) >> PERMITTED
    book << Admit(AGENT, "") >> None << Record(opened(grant, AGENT, NOW, CLEAN, PERMITTED)) >> None
    book << FindGrant("task-1") >> grant
    assert book.outcome == grant
    entry = opened(grant, AGENT, NOW, CLEAN, PERMITTED)
    assert entry.durable
    assert (entry.body["policies"], entry.body["policy_digest"]) == (["writes"], "sha256:bundle")


def test_policy_hears_of_everything_that_the_task_would_have() -> None:
    wish = Wish({"order": "17"}, "alice", "sha256:ab", 1_500, Origin.USER, tools=("shop/*",))
    book = opening(replace(BOUND, effects=frozenset({Effect.WRITE, Effect.READ})), wish)
    assert isinstance(book.pending, Gather)
    assert book.pending.action.arguments == {
        "mandate": "default",
        "purpose": "tidy up",
        "parameters": {"order": "17"},
        "user": "alice",
        "request": "user",
        "lifetime_s": 2,
        "tools": ["shop/*"],
        "effects": ["read", "write"],
    }
    assert set(book.pending.action.arguments) == set(OPEN.input_schema["required"])


def test_an_origin_without_a_request_is_none() -> None:
    book = opening(wish=Wish(origin=Origin.USER))
    assert isinstance(book.pending, Gather)
    assert book.pending.action.arguments["request"] == "none"


def test_policy_hears_of_what_the_holder_has_seen() -> None:
    book = opening(labels=WORST) << Gather >> facts(OPEN)
    assert isinstance(book.pending, Evaluate)
    assert book.pending.question.facts.labels == WORST


@pytest.mark.parametrize("ruling", [NO, FORBIDDEN, replace(NO, reason=Reason.POLICY_ERROR)])
def test_a_task_that_policy_refuses_is_a_denial_and_no_task(ruling: Ruling) -> None:
    user = Wish(request="sha256:ab", origin=Origin.USER)
    error, entry = not_opened(opening(wish=user) << Gather >> facts(OPEN) << Evaluate >> ruling)
    assert error.reason is ruling.reason
    assert (entry.body["policies"], entry.body["detail"]) == (list(ruling.policies), ruling.detail)
    assert "for the operator" not in told(error)


def test_an_opening_is_never_held() -> None:
    hold = Ruling(Decision.HOLD, "d", "s", Reason.NEEDS_APPROVAL, ("asks",), (Approval(("ann",)),))
    error, entry = not_opened(opening() << Gather >> facts(OPEN) << Evaluate >> hold)
    assert error.reason is Reason.NO_POLICY
    assert entry.body["policies"] == ["asks"]


def test_what_policy_leaves_is_what_is_granted_and_recorded() -> None:
    left = Narrowing(frozenset({Effect.READ}), 10_000, 0)
    book = opening(replace(MANDATE, depth=3)) << Gather >> facts(OPEN) << Evaluate
    book >> replace(PERMITTED, narrowing=left) << Admit >> None
    assert isinstance(book.pending, Record)
    body = book.pending.entry.body
    assert (body["effects"], body["expires_at"], body.get("max_depth", 0)) == (["read"], NOW + 10_000, 0)
    book >> None << FindGrant >> GRANT
    assert (book.outcome.effects, book.outcome.expires_at, book.outcome.max_depth) == ({Effect.READ}, NOW + 10_000, 0)


def test_a_task_of_which_policy_leaves_nothing_is_not_opened() -> None:
    left = replace(PERMITTED, narrowing=Narrowing(frozenset({Effect.READ})))
    writes = replace(MANDATE, effects=frozenset({Effect.WRITE}))
    error, entry = not_opened(opening(writes) << Gather >> facts(OPEN) << Evaluate >> left)
    assert error.reason is Reason.OUT_OF_SCOPE
    assert entry.body["policies"] == ["writes"]


# -- unclear intent


@pytest.mark.parametrize(
    ("mandate", "wish", "missing"),
    [
        (None, NO_WISH, "`mandate`"),
        (replace(MANDATE, purpose=""), NO_WISH, "`purpose`"),
        (replace(MANDATE, purpose=" "), Wish(purpose="\t"), "`purpose`"),
        (replace(MANDATE, tools=("shop/*",)), Wish(tools=("*",)), "`tools`"),
        (replace(MANDATE, tools=("shop/*",)), Wish(tools=()), "`tools`"),
        (replace(MANDATE, effects=frozenset({Effect.READ})), Wish(effects=frozenset({Effect.WRITE})), "`effects`"),
        (MANDATE, Wish(effects=frozenset()), "`effects`"),
    ],
)
def test_an_intent_that_is_not_clear_is_refused_before_policy_is_asked_and_says_what_is_missing(
    mandate: Mandate | None, wish: Wish, missing: str
) -> None:
    error, entry = not_opened(opening(mandate, wish))
    assert error.reason is Reason.UNCLEAR_INTENT
    assert missing in told(error)
    assert missing in entry.body["detail"]


def test_a_purpose_that_the_mandate_does_not_say_is_said_by_who_opens() -> None:
    general = replace(MANDATE, purpose="")
    assert granted(general, Wish(purpose="mend the build")).purpose == "mend the build"
    assert granted(MANDATE, Wish(purpose="another")).purpose == MANDATE.purpose


@pytest.mark.parametrize("no", [NO, FORBIDDEN])
@pytest.mark.parametrize(
    ("origin", "enough"),
    [(Origin.NONE, Origin.ASSERTED), (Origin.NONE, Origin.USER), (Origin.ASSERTED, Origin.USER)],
)
def test_a_request_that_policy_wants_and_that_did_not_come_is_what_is_missing(
    no: Ruling, origin: Origin, enough: Origin
) -> None:
    def policy(ask: Evaluate) -> Ruling:
        request = ask.question.arguments["request"]
        return PERMITTED if request in {enough.value, Origin.USER.value} else no

    world = World()
    wish = Wish(request="" if origin is Origin.NONE else "sha256:ab", origin=origin)
    with pytest.raises(CannotDo) as caught:
        run(open_task(MANDATE, "task-1", AGENT, NOW, CLEAN, wish, salt=SALT), {**world.handlers(), Evaluate: policy})
    assert caught.value.reason is Reason.UNCLEAR_INTENT
    assert "`request`" in told(caught.value)
    assert ("own channel" in told(caught.value)) is (enough is Origin.USER)
    (entry,) = world.entries
    assert entry.body["policies"] == list(no.policies)


def test_a_request_that_would_not_help_is_not_asked_for() -> None:
    world = World(ruling=NO)
    with pytest.raises(CannotDo) as caught:
        run(open_task(MANDATE, "task-1", AGENT, NOW, salt=SALT), world.handlers())
    assert caught.value.reason is Reason.NO_POLICY


# -- when something fails


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
def test_a_task_that_cannot_be_decided_or_recorded_is_not_open(fault: Fault, step: int) -> None:
    world = World(faults={step: fault})
    with pytest.raises(CannotDo) as caught:
        run(open_task(MANDATE, "task-1", AGENT, NOW, salt=SALT), world.handlers())
    assert caught.value.reason is Reason.UNAVAILABLE
    assert world.entries[-1].kind is Kind.DENIED
    kinds = [entry.kind for entry in world.entries[:-1]]
    assert kinds == ([] if step < 3 or (step, fault) == (3, Fault.BEFORE) else [Kind.OPENED, Kind.CLOSED][: step - 2])


def test_a_refusal_stands_where_it_cannot_be_recorded() -> None:
    with pytest.raises(CannotDo) as caught:
        opening(None) >> CannotDo()
    assert caught.value.reason is Reason.UNCLEAR_INTENT


@pytest.mark.parametrize("reason", [Reason.REVOKED, Reason.SUSPENDED])
def test_whoever_an_order_keeps_from_new_tasks_opens_none(reason: Reason) -> None:
    world = World(barred=reason)
    with pytest.raises(CannotDo) as caught:
        run(open_task(MANDATE, "task-1", AGENT, NOW, salt=SALT), world.handlers())
    assert caught.value.reason is reason
    assert [entry.kind for entry in world.entries] == [Kind.DENIED]


@pytest.mark.parametrize(
    ("found", "barred", "reason"),
    [
        (CannotDo(Reason.SUSPENDED), [], Reason.SUSPENDED),
        (None, [Reason.REVOKED], Reason.REVOKED),
        (None, [None], Reason.TASK_ENDED),
    ],
)
def test_an_order_that_comes_while_a_task_is_recorded_wins(found: Any, barred: list[Any], reason: Reason) -> None:
    book = opening() << Gather >> facts(OPEN) << Evaluate >> PERMITTED << Admit(AGENT, "") >> None << Record >> None
    book << FindGrant("task-1") >> found
    for answer in barred:
        book << Admit(AGENT, "") >> answer
    error, _ = not_opened(book << Record(closed("task-1", "revoked", NOW)) >> None)
    assert error.reason is reason


def test_a_task_closes_with_the_reason_why() -> None:
    book = Playbook(close_task("task-1", "disconnected", NOW)) << Record(closed("task-1", "disconnected", NOW)) >> None
    assert book.pending is None
    assert closed("task-1", "disconnected", NOW).body == {"task": "task-1", "why": "disconnected"}


# -- with parameters


def test_a_task_whose_parameters_are_missing_is_not_opened() -> None:
    error, _ = not_opened(opening(BOUND))
    assert error.reason is Reason.INVALID_PARAMETERS


@pytest.mark.parametrize("value", ["\ud800", 7, None])
def test_parameters_that_cannot_be_written_are_refused_and_recorded_without_them(value: Any) -> None:
    error, _ = not_opened(opening(BOUND, Wish({"order": value})))
    assert error.reason is Reason.INVALID_PARAMETERS


def test_a_task_is_opened_with_what_its_parameters_bind_it_to() -> None:
    world = World()
    wish = Wish({"order": "17"}, "alice")
    grant = run(open_task(BOUND, "task-1", AGENT, NOW, CLEAN, wish, salt=SALT), world.handlers())
    assert grant.resources == (Resource("*", "order", ("17",)),)
    (entry,) = world.entries
    assert (entry.body["parameters"], entry.body["user"]) == ({"order": "17"}, "alice")


# -- extended


SHORT = replace(GRANT, expires_at=NOW + 1_000, longest_at=NOW + 5_000)
PARENT = replace(GRANT, task="above", expires_at=NOW + 3_000)


def extension(until: Any = NOW + 3_000, **more: Any) -> Action:
    arguments = {"expires_at": until, **more}
    return ask_for(EXTEND.id, arguments, action_id="a1", task=GRANT.task, pin="", salt=b"s" * 16, at=NOW, proof="proof")


def talk(action: Action, grant: Grant | None = SHORT) -> Playbook:
    return Playbook(extend(action)) << Verify("proof") >> AGENT << FindGrant(GRANT.task) >> grant


def refused(book: Playbook) -> Reason:
    assert isinstance(book.pending, Record)
    assert book.pending.entry.kind is Kind.DENIED
    book >> None
    assert book.pending is None
    assert isinstance(book.outcome, Deny)
    return book.outcome.reason


def test_an_extension_is_decided_recorded_and_the_same_task() -> None:
    action, known = extension(), facts(EXTEND)
    book = talk(action) << Gather(action, EXTEND, SHORT) >> known
    book << Evaluate(Question(AGENT, SHORT, EXTEND, action.arguments, known)) >> PERMITTED
    book << Record(extended(GRANT.task, NOW + 3_000, AGENT, NOW, PERMITTED)) >> None
    longer = replace(SHORT, expires_at=NOW + 3_000)
    book << FindGrant(GRANT.task) >> longer
    assert book.outcome == longer
    assert extended(GRANT.task, NOW + 3_000, AGENT, NOW, PERMITTED).durable


@pytest.mark.parametrize(
    ("until", "grant", "reason"),
    [
        (NOW + 5_001, SHORT, Reason.BEYOND_MANDATE),
        (NOW + 3_000, GRANT, Reason.BEYOND_MANDATE),
        (NOW + 1_000, SHORT, Reason.INVALID_ARGUMENTS),
        (NOW + 3_000, None, Reason.NO_GRANT),
        (NOW + 3_000, replace(SHORT, expires_at=NOW), Reason.TASK_ENDED),
        (NOW + 3_000, replace(SHORT, holder="another"), Reason.NOT_HOLDER),
        (NOW + 3_000, replace(SHORT, tenant="u"), Reason.NO_GRANT),
    ],
)
def test_an_extension_keeps_within_its_mandate_and_revives_nothing(
    until: int, grant: Grant | None, reason: Reason
) -> None:
    assert refused(talk(extension(until), grant)) is reason


@pytest.mark.parametrize("until", [True, "soon", 1.5, 0, -1])
def test_an_extension_that_is_not_understood_is_refused(until: Any) -> None:
    book = Playbook(extend(extension(until))) << Verify("proof") >> AGENT
    assert refused(book) is Reason.INVALID_ARGUMENTS


def test_an_extension_asks_for_nothing_else() -> None:
    book = Playbook(extend(extension(tools=["*"]))) << Verify("proof") >> AGENT
    assert refused(book) is Reason.INVALID_ARGUMENTS


@pytest.mark.parametrize(
    ("parent", "reason"),
    [
        (None, Reason.PARENT_ENDED),
        (replace(PARENT, expires_at=NOW), Reason.PARENT_ENDED),
        (replace(PARENT, expires_at=NOW + 2_999), Reason.WIDER),
    ],
)
def test_a_delegated_task_never_outlives_the_one_above(parent: Grant | None, reason: Reason) -> None:
    book = talk(extension(), replace(SHORT, parent="above")) << FindGrant("above") >> parent
    assert refused(book) is reason


def test_a_delegated_task_may_live_as_long_as_the_one_above() -> None:
    book = talk(extension(), replace(SHORT, parent="above")) << FindGrant("above") >> PARENT
    assert isinstance(book.pending, Gather)


def test_policy_may_refuse_an_extension_and_an_ended_task_was_not_extended() -> None:
    action = extension()
    denied = Ruling(Decision.DENY, "sha256:bundle", "sha256:slice", Reason.FORBIDDEN)
    assert refused(talk(action) << Gather >> facts(EXTEND) << Evaluate >> denied) is Reason.FORBIDDEN
    book = talk(action) << Gather >> facts(EXTEND) << Evaluate >> PERMITTED << Record >> None
    assert refused(book << FindGrant(GRANT.task) >> None) is Reason.TASK_ENDED
