"""A task is written down before anything can be asked under it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.action import ask_for
from forestall.core.ask import CannotDo, Evaluate, FindGrant, Gather, Record, Verify
from forestall.core.effects import Effect
from forestall.core.entry import Kind, closed, extended, opened
from forestall.core.label import CLEAN
from forestall.core.mandate import Wish, from_mandate
from forestall.core.model import Action, Decision, Deny, Grant, Mandate, Parameter, Question, Resource, Ruling
from forestall.core.reason import Reason
from forestall.core.task import EXTEND, close_task, extend, open_task
from forestall.run import run
from forestall.testing.playbook import Playbook
from forestall.testing.world import AGENT, GRANT, NOW, PERMITTED, Fault, World, facts

MANDATE = Mandate("default", "tidy up", ("*",), frozenset(Effect), 60_000)


def test_a_task_opens_with_a_durable_entry() -> None:
    grant = from_mandate(MANDATE, "task-1", AGENT, NOW)
    book = Playbook(open_task(MANDATE, "task-1", AGENT, NOW)) << Record(opened(grant, AGENT, NOW)) >> None
    assert book.outcome == grant
    assert opened(grant, AGENT, NOW).durable


@pytest.mark.parametrize("fault", Fault)
def test_a_task_that_cannot_be_recorded_is_not_open(fault: Fault) -> None:
    with pytest.raises(CannotDo):
        run(open_task(MANDATE, "task-1", AGENT, NOW), World(faults={0: fault}).handlers())


def test_a_task_closes_with_the_reason_why() -> None:
    book = Playbook(close_task("task-1", "disconnected", NOW)) << Record(closed("task-1", "disconnected", NOW)) >> None
    assert book.pending is None
    assert closed("task-1", "disconnected", NOW).body == {"task": "task-1", "why": "disconnected"}


# -- with parameters


BOUND = replace(MANDATE, parameters={"order": Parameter("[0-9]+")}, resources=(Resource("*", "order", ("{order}",)),))


def test_a_task_whose_parameters_are_missing_is_not_opened_and_nothing_is_written() -> None:
    world = World()
    with pytest.raises(CannotDo) as caught:
        run(open_task(BOUND, "task-1", AGENT, NOW), world.handlers())
    assert caught.value.reason is Reason.INVALID_PARAMETERS
    assert world.asked == []


def test_a_task_is_opened_with_what_its_parameters_bind_it_to() -> None:
    world = World()
    grant = run(open_task(BOUND, "task-1", AGENT, NOW, CLEAN, Wish({"order": "17"}, "alice")), world.handlers())
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
    book = talk(action) << Gather(action, EXTEND) >> known
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
