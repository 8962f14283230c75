"""What policy says of tasks: who may open one, hand it on, extend it, and how much of it is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from forestall.core.effects import Effect
from forestall.core.errors import PolicyInvalid
from forestall.core.label import CLEAN, WORST, Label
from forestall.core.model import Assurance, Decision, Narrowing, Ruling, Tool
from forestall.core.reason import Reason
from forestall.core.task import EXTEND, OPEN
from forestall.core.wanted import DELEGATE
from forestall.policy.cedar import CedarEngine, compile_tools
from tests.unit.policy.world import PERMIT_ALL, engine, problems, question, tool

WISHED = {
    "mandate": "refund",
    "purpose": "refund one order",
    "parameters": {"order": "17"},
    "user": "",
    "request": "none",
    "lifetime_s": 1_800,
    "tools": ["shop/*"],
    "effects": ["read", "write"],
}
HELPER = "spiffe://example.org/helper"
HANDED = {
    "to": HELPER,
    "tools": ["shop/read"],
    "effects": ["read"],
    "resources": [{"tool": "shop/*", "argument": "order", "value": ["1", ""]}],
    "confidentiality": "internal",
    "expires_at": 5,
    "budget": {"write": 2, "rows": 10},
    "per_call": {"rows": 5},
    "max_depth": 1,
}
LOCAL = ["local", "attested", "embedded"]
REMOTE = ["svid", "oidc", "key"]
IN = 'action == Action::"forestall/open"'


def permit(scope: str = IN, condition: str = "true", notes: str = "") -> str:
    return f"{notes} permit (principal, {scope}, resource) when {{ {condition} }};"


def ask(
    built: CedarEngine,
    of: Tool = OPEN,
    arguments: Mapping[str, Any] | None = None,
    assurance: str = "svid",
    labels: Label = CLEAN,
) -> Ruling:
    given = {OPEN.id: WISHED, DELEGATE.id: HANDED, EXTEND.id: {"expires_at": 7}}[of.id]
    asked = question(of, {**given, **(arguments or {})}, labels=labels)
    return built.evaluate(replace(asked, subject=replace(asked.subject, assurance=Assurance(assurance))))


@pytest.mark.parametrize("assurance", LOCAL)
def test_who_runs_on_this_machine_may_open_a_task_without_a_policy(assurance: str) -> None:
    ruling = ask(engine(), assurance=assurance)
    assert (ruling.decision, ruling.policies) == (Decision.PERMIT, ("forestall:open-task",))
    assert ruling.narrowing is None


@pytest.mark.parametrize("assurance", REMOTE)
def test_a_workload_with_an_identity_of_its_own_opens_nothing_without_a_policy(assurance: str) -> None:
    ruling = ask(engine(), assurance=assurance)
    assert (ruling.decision, ruling.reason) == (Decision.DENY, Reason.NO_POLICY)


def test_every_way_to_be_verified_is_one_of_these() -> None:
    assert {*LOCAL, *REMOTE} == set(Assurance)


@pytest.mark.parametrize("assurance", [*LOCAL, *REMOTE])
@pytest.mark.parametrize("of", [DELEGATE, EXTEND])
def test_nothing_is_handed_on_or_extended_without_a_policy(of: Tool, assurance: str) -> None:
    assert ask(engine(), of, assurance=assurance).reason is Reason.NO_POLICY


@pytest.mark.parametrize("assurance", [*LOCAL, *REMOTE])
def test_a_forbid_of_the_owner_overrides_every_permit(assurance: str) -> None:
    built = engine(PERMIT_ALL, f'@id("no") forbid (principal, {IN}, resource) when {{ context.args.user == "" }};')
    assert ask(built, assurance=assurance).policies == ("no",)
    assert ask(built, arguments={"user": "alice"}, assurance=assurance).decision is Decision.PERMIT


@pytest.mark.parametrize(
    "condition",
    [
        'context.args.mandate == "refund" && context.args.purpose == "refund one order"',
        'context.args.request == "none" && context.args.user == ""',
        "context.args.lifetime_s <= 1800",
        'context.args.tools.items.contains("shop/*") && context.args.tools.count == 1',
        '["read", "write"].containsAll(context.args.effects.items)',
        'context.args.parameters.json like "*\\"order\\":\\"17\\"*"',
        'context.task.mandate == "default" && context.task.depth == 0',
        'context.assurance == "svid" && context.effects.contains("privilege")',
    ],
)
def test_a_policy_can_speak_of_everything_about_an_opening(condition: str) -> None:
    assert ask(engine(permit(condition=condition))).decision is Decision.PERMIT
    assert ask(engine(permit(condition=f"!({condition})"))).decision is Decision.DENY


@pytest.mark.parametrize(
    "condition",
    [
        f'context.args.to == "{HELPER}"',
        'context.args has tools && context.args.tools.items.contains("shop/read")',
        'context.args has effects && ["read"].containsAll(context.args.effects.items)',
        'context.args has resources && context.args.resources.items.argument.contains("order")',
        'context.args has confidentiality && context.args.confidentiality == "internal"',
        "context.args has expires_at && context.args.expires_at == 5",
        'context.args has budget && context.args.budget.json like "*\\"write\\":2*"',
        "context.args has per_call && context.args has max_depth && context.args.max_depth == 1",
    ],
)
def test_a_policy_can_speak_of_everything_about_a_delegation(condition: str) -> None:
    scope = 'action == Action::"forestall/delegate"'
    assert ask(engine(permit(scope, condition)), DELEGATE).decision is Decision.PERMIT
    assert ask(engine(permit(scope, f"!({condition})")), DELEGATE).decision is Decision.DENY


def test_a_delegation_that_only_names_its_receiver_is_understood() -> None:
    built = engine(permit('action == Action::"forestall/delegate"', "!(context.args has budget)"))
    assert built.evaluate(question(DELEGATE, {"to": HELPER})).decision is Decision.PERMIT


@pytest.mark.parametrize("of", [OPEN, DELEGATE, EXTEND])
def test_the_group_of_what_changes_authority_reaches_them_and_no_other_does(of: Tool) -> None:
    assert ask(engine(permit('action in Action::"privilege"')), of).decision is Decision.PERMIT
    others = ", ".join(f'Action::"{group.value}"' for group in Effect if group is not Effect.PRIVILEGE)
    assert ask(engine(f"permit (principal, action in [{others}], resource);"), of).reason is Reason.NO_POLICY
    forbid = 'forbid (principal, action in Action::"privilege", resource);'
    assert ask(engine(PERMIT_ALL, forbid), of).reason is Reason.FORBIDDEN


@pytest.mark.parametrize("change", [{"more": 1}, {"request": "maybe"}, {"effects": ["everything"]}, {"user": None}])
def test_an_opening_of_another_form_is_refused(change: dict[str, Any]) -> None:
    assert ask(engine(PERMIT_ALL), arguments=change).reason is Reason.INVALID_ARGUMENTS


def test_labels_of_who_opens_count() -> None:
    built = engine(permit(condition='context.labels.integrity == "trusted"'))
    assert ask(built).decision is Decision.PERMIT
    assert ask(built, labels=WORST).reason is Reason.NO_POLICY


@pytest.mark.parametrize("name", ["open", "delegate", "extend", "anything"])
def test_no_tool_takes_the_name_of_one_of_them(name: str) -> None:
    if name == "anything":
        assert "forestall/anything" not in compile_tools([])
    else:
        with pytest.raises(PolicyInvalid, match="reserved"):
            compile_tools([tool(name, server="forestall")])


# -- granting less


def test_the_narrowest_of_all_permits_that_apply_wins() -> None:
    built = engine(
        permit(notes='@only_effects("read,write") @lifetime_minutes("30") @max_depth("2")'),
        permit(notes='@only_effects("write, external") @lifetime_minutes("10")'),
        permit(notes='@max_depth("1")'),
        permit(condition='context.args.user == "bob"', notes='@lifetime_minutes("1")'),
    )
    ruling = ask(built, assurance="local")
    assert "forestall:open-task" in ruling.policies
    assert ruling.narrowing == Narrowing(frozenset({Effect.WRITE}), 600_000, 1)


def test_a_delegation_is_narrowed_too() -> None:
    built = engine(permit('action == Action::"forestall/delegate"', notes='@only_effects("read")'))
    assert ask(built, DELEGATE).narrowing == Narrowing(frozenset({Effect.READ}))


def test_what_is_held_is_left_no_more_once_it_is_approved() -> None:
    asks = permit(
        'action == Action::"forestall/delegate"', "context has approval", '@approvers("ann") @only_effects("read")'
    )
    ruling = ask(engine(asks), DELEGATE)
    assert (ruling.decision, ruling.narrowing) == (Decision.HOLD, Narrowing(frozenset({Effect.READ})))


def test_permits_that_leave_all_leave_all() -> None:
    assert ask(engine(PERMIT_ALL)).narrowing is None


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ('@only_effects("raed")', "`raed` is not an effect"),
        ('@only_effects("")', "names no effect"),
        ('@lifetime_minutes("0")', "whole number of minutes"),
        ('@lifetime_minutes("ten")', "whole number of minutes"),
        ('@lifetime_minutes("-1")', "whole number of minutes"),
        ('@max_depth("9")', "from 0 to 8"),
        ('@max_depth("")', "from 0 to 8"),
    ],
)
def test_a_narrowing_that_means_nothing_is_an_error_with_its_place(notes: str, words: str) -> None:
    text = permit(notes=f'@id("x")\n{notes}\n')
    (found,) = problems(text)
    assert str(found).startswith("a.cedar:2:2: ")
    assert words in found.sentence
    with pytest.raises(PolicyInvalid):
        engine(text)


@pytest.mark.parametrize(
    "text",
    [
        '@max_depth("0") permit (principal, action, resource);',
        '@max_depth("0") permit (principal, action in Action::"privilege", resource);',
        '@max_depth("0") permit (principal, action == Action::"forestall/extend", resource);',
        '@max_depth("0") permit (principal, action in [Action::"forestall/open", Action::"fs/delete"], resource);',
        '@max_depth("0") forbid (principal, action == Action::"forestall/open", resource);',
    ],
)
def test_a_narrowing_belongs_on_a_permit_of_tasks_alone(text: str) -> None:
    assert any("`@max_depth` belongs on a permit" in one.sentence for one in problems(text))
    with pytest.raises(PolicyInvalid):
        engine(text)


def test_one_permit_may_narrow_openings_and_delegations_alike() -> None:
    both = 'action in [Action::"forestall/open", Action::"forestall/delegate"]'
    assert problems(permit(both, notes='@max_depth("1")')) == []


def test_a_misspelt_origin_is_found() -> None:
    (found,) = problems(permit(condition='context.args.request == "users"'))
    assert "never `users`" in found.sentence
