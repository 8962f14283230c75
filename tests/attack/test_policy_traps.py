"""The known ways in which a decision by Cedar says yes by mistake: each shown in Cedar, each denied by the engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import cedarpy
import pytest

from forestall.catalogue import FileCatalogue
from forestall.core.canonical import parse
from forestall.core.effects import Effect, groups
from forestall.core.errors import InvalidInput, PolicyInvalid
from forestall.core.model import Assurance, Decision, Tool
from forestall.core.reason import Reason
from forestall.core.task import EXTEND, OPEN
from forestall.core.wanted import DELEGATE
from forestall.policy import bundle
from forestall.policy import slice as slices
from forestall.policy.cedar import CedarEngine
from forestall.policy.schema import compile_tool
from forestall.policy.schema import schema as schema_of
from tests.unit.policy.world import (
    DELETE_FILE,
    PERMIT_ALL,
    READ_FILE,
    SEND,
    STRING,
    TOOLS,
    ask,
    engine,
    problems,
    question,
    schema,
    tool,
)

OVERFLOW = """
@id("too-many") forbid (principal, action, resource)
when { context.args has copies && context.args.copies * 9007199254740991 * 9007199254740991 > 5 };
"""


def raw(policies: str, context: dict[str, Any], *, with_schema: bool = True, text: str = "[]") -> cedarpy.AuthzResult:
    """What Cedar itself says of `fs/delete`, with none of our care."""
    schema = cedarpy.Schema.from_json_str(json.dumps(schema_of([compile_tool(one) for one in TOOLS])))
    request = {
        "principal": {"type": "Workload", "id": "agent"},
        "action": {"type": "Action", "id": "fs/delete"},
        "resource": {"type": "Server", "id": "fs"},
        "context": context,
    }
    entities = cedarpy.Entities.from_json_str(text, schema) if with_schema else cedarpy.Entities.from_json_str(text)
    return cedarpy.is_authorized(request, policies, entities, schema if with_schema else None)


def unlinted(text: str) -> CedarEngine:
    """An engine whose policies the lint never saw."""
    policies = bundle.from_texts({"a.cedar": text})
    compiled = compile_tool(SEND)
    rules = {policy.id: slices.rule(policy) for policy in policies.policies}
    part = slices.cut(policies.policies, rules, compiled, groups(SEND.effects))
    return CedarEngine(policies, "", rules, {SEND.id: part})


def test_1_a_forbid_that_fails_forbids_nothing_in_cedar_and_denies_here() -> None:
    cedars = raw(
        f"{PERMIT_ALL} forbid (principal, action, resource) when {{ context.n + 1 > 0 }};",
        {"n": 2**63 - 1},
        with_schema=False,
    )
    assert cedars.allowed
    assert cedars.diagnostics.errors
    ruling = ask(unlinted(PERMIT_ALL + OVERFLOW), SEND, to=[], copies=2**53 - 1)
    assert (ruling.decision, ruling.reason) == (Decision.DENY, Reason.POLICY_ERROR)
    assert "too-many" in ruling.detail
    assert "9007199254740991" not in ruling.detail


@pytest.mark.parametrize("active", ["__entity", "__extn", "__expr"])
def test_2_an_argument_never_becomes_an_entity(active: str) -> None:
    policy = 'permit (principal, action, resource) when { context.a == Workload::"root" };'
    assert raw(policy, {"a": {"__entity": {"type": "Workload", "id": "root"}}}, with_schema=False).allowed
    free = tool("free", input_schema=schema(x={}, y={"type": "array"}, z=STRING))
    built = engine(PERMIT_ALL, tools=(free,))
    injected = {active: {"type": "Workload", "id": "root"}}
    for arguments in ({"x": injected}, {"x": [[injected]]}, {"y": [injected]}, {"z": injected}, injected):
        assert built.evaluate(question(free, arguments)).reason is Reason.INVALID_ARGUMENTS


def test_3_duplicate_members_are_refused_before_anything_is_decided() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        parse('{"path": "a", "path": "b"}', max_bytes=100)


@pytest.mark.parametrize("value", [None, 1.5, 2**53, 2**63, True, [], {}, "\ud800"])
def test_4_what_cedar_has_no_value_for_is_denied(value: Any) -> None:
    assert ask(engine(PERMIT_ALL), SEND, to=[], copies=value).decision is Decision.DENY


def test_4_deep_nesting_is_denied() -> None:
    value: Any = "end"
    for _ in range(200):
        value = [value]
    free = tool("free", input_schema=schema(x={}))
    ruling = engine(PERMIT_ALL, tools=(free,)).evaluate(question(free, {"x": value}))
    assert (ruling.decision, ruling.reason) == (Decision.DENY, Reason.INVALID_ARGUMENTS)


def test_5_a_context_of_the_wrong_type_is_an_error_and_not_merely_no() -> None:
    forbid = '@id("no") forbid (principal, action, resource) when { context has n && context.n == "a" };'
    assert raw(f"{PERMIT_ALL} {forbid}", {"n": 3}, with_schema=False).allowed
    part = engine(PERMIT_ALL).slice_for(READ_FILE)
    (own_files,) = part.flat.types
    assert part.ask("agent", {own_files: False}).error is None
    assert part.ask("agent", {own_files: "no"}).error is not None
    assert part.ask("agent", {}).error is not None
    assert part.ask("agent", {own_files: False, "more": 1}).error is not None


def test_7_entities_without_the_schema_lose_the_groups_in_cedar_and_not_here() -> None:
    policies = f'{PERMIT_ALL} forbid (principal, action in Action::"destructive", resource);'
    schema = cedarpy.Schema.from_json_str(json.dumps(schema_of([compile_tool(DELETE_FILE)])))
    lost = cedarpy.Entities.from_json_str("[]")
    built = engine(PERMIT_ALL)
    context = built.whole_context(question(DELETE_FILE, {"path": "a"}), built.slice_for(DELETE_FILE))
    request = {
        "principal": {"type": "Workload", "id": "agent"},
        "action": {"type": "Action", "id": "fs/delete"},
        "resource": {"type": "Server", "id": "fs"},
        "context": context,
    }
    assert cedarpy.is_authorized(request, policies, lost, schema).allowed
    assert ask(engine(policies), DELETE_FILE, path="a").reason is Reason.FORBIDDEN


def test_8_a_misspelt_attribute_behind_has_validates_in_cedar_and_is_refused_here() -> None:
    text = 'forbid (principal, action, resource) when { context.args has pth && context.args.pth like "/etc/*" };'
    schema = json.dumps(schema_of([compile_tool(one) for one in TOOLS]))
    assert cedarpy.validate_policies(text, schema).validation_passed
    with pytest.raises(PolicyInvalid, match="Did you mean `path`"):
        engine(text)


def test_9_overflow_validates_in_cedar_and_is_refused_here() -> None:
    schema = json.dumps(schema_of([compile_tool(one) for one in TOOLS]))
    assert cedarpy.validate_policies(OVERFLOW, schema).validation_passed
    with pytest.raises(PolicyInvalid, match="overflow"):
        engine(OVERFLOW)


def test_9_an_id_taken_twice_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match=r"a\.cedar:2:2: The id `one` is taken by the policy at a\.cedar:1"):
        engine(f'@id("one") {PERMIT_ALL}\n@id("one") forbid (principal, action, resource);')


def test_10_every_error_has_file_line_and_column() -> None:
    with pytest.raises(PolicyInvalid, match=r"^a\.cedar:3:3: This does not parse"):
        engine(f"{PERMIT_ALL}\npermit (principal, action, resource)\n  wehn {{ true }};")


def test_a_read_that_also_sends_is_no_read() -> None:
    fetch = tool("fetch", Effect.READ, Effect.EXTERNAL, input_schema=schema(url=STRING))
    built = engine('permit (principal, action in Action::"read", resource);', tools=(fetch, READ_FILE))
    assert ask(built, fetch, url="x").reason is Reason.NO_POLICY
    assert ask(built, READ_FILE, path="x").decision is Decision.PERMIT


def test_an_approval_cannot_be_smuggled_in_by_an_argument() -> None:
    own = tool("own", input_schema=schema(approval=schema(granted={"type": "boolean"}), own_files={"type": "boolean"}))
    granted = "context has approval && context.approval.granted"
    text = f'@approvers("a") permit (principal, action, resource) when {{ {granted} }};'
    built = engine(text, tools=(own,))
    ruling = built.evaluate(question(own, {"approval": {"granted": True}, "own_files": False}))
    assert ruling.decision is Decision.HOLD


def test_a_servers_schema_cannot_take_the_policy_down() -> None:
    hostile = [
        {"properties": {"x": {"$ref": "#/properties/x"}}},
        {"properties": {"__cedar": STRING, "": STRING, 'a\nb"': STRING, "é\u202e": {"type": ["x"]}}},
        {"properties": {"x": {"enum": [float("nan")]}}},
        {"properties": "no", "required": {"a": 1}},
        {"allOf": [{"$ref": "#"}]},
        {"properties": {"x": {"anyOf": [{"anyOf": []}]}}},
    ]
    tools = tuple(tool(f"t{number}", input_schema=one) for number, one in enumerate(hostile))
    built = engine(
        PERMIT_ALL, 'forbid (principal, action == Action::"fs/read_file", resource);', tools=(*tools, READ_FILE)
    )
    built.self_test()
    assert ask(built, READ_FILE, path="a").reason is Reason.FORBIDDEN
    assert built.evaluate(question(tools[1], {"": "a", 'a\nb"': "c"})).decision is Decision.PERMIT


def test_a_name_with_any_characters_is_one_action() -> None:
    odd = tool('read "file".v2 é\n::Action', input_schema=schema(x=STRING))
    name = json.dumps(odd.id, ensure_ascii=False)
    built = engine(f"permit (principal, action == Action::{name}, resource);", tools=(odd, READ_FILE))
    assert ask(built, odd, x="a").decision is Decision.PERMIT
    assert ask(built, READ_FILE, path="a").reason is Reason.NO_POLICY


def test_an_approval_that_nobody_is_named_for_permits_nothing() -> None:
    ask_for = "context has approval && context.approval.granted"
    for text, reason in (
        (f"permit (principal, action, resource) when {{ {ask_for} }};", Reason.NO_POLICY),
        (f"{PERMIT_ALL} forbid (principal, action, resource) unless {{ {ask_for} }};", Reason.FORBIDDEN),
    ):
        ruling = ask(unlinted(text), SEND, to=[])
        assert (ruling.decision, ruling.reason) == (Decision.DENY, reason)
        assert "@approvers" in ruling.detail


# -- tasks


def wish(mandate: str = "refund", request: str = "none", effects: tuple[str, ...] = ("read",)) -> dict[str, Any]:
    more = {"purpose": "p", "parameters": {}, "user": "", "lifetime_s": 60, "tools": ["*"]}
    return {"mandate": mandate, "request": request, "effects": list(effects), **more}


def asked_about(text: str, of: Tool, arguments: dict[str, Any]) -> tuple[Decision, Reason | None]:
    asked = question(of, arguments)
    ruling = engine(text).evaluate(replace(asked, subject=replace(asked.subject, assurance=Assurance.SVID)))
    return ruling.decision, ruling.reason


OPENS = 'permit (principal, action == Action::"forestall/open", resource);'


def test_a_permit_to_hand_on_opens_nothing_and_a_permit_to_open_hands_nothing_on() -> None:
    hands_on = 'permit (principal, action == Action::"forestall/delegate", resource);'
    assert asked_about(hands_on, OPEN, wish()) == (Decision.DENY, Reason.NO_POLICY)
    assert asked_about(OPENS, DELEGATE, {"to": "helper"}) == (Decision.DENY, Reason.NO_POLICY)
    assert asked_about(OPENS, EXTEND, {"expires_at": 1}) == (Decision.DENY, Reason.NO_POLICY)


def test_what_may_not_be_opened_may_be_handed_on_unless_the_rule_names_both() -> None:
    no_writes = 'resource) when { context.args has effects && context.args.effects.items.contains("write") };'
    opens = f'{PERMIT_ALL} forbid (principal, action == Action::"forestall/open", {no_writes}'
    both = f'{PERMIT_ALL} forbid (principal, action in [Action::"forestall/open", Action::"forestall/delegate"], '
    handed = {"to": "helper", "effects": ["write"]}
    assert asked_about(opens, OPEN, wish(effects=("write",)))[0] is Decision.DENY
    assert asked_about(opens, DELEGATE, handed)[0] is Decision.PERMIT
    assert asked_about(both + no_writes, DELEGATE, handed)[0] is Decision.DENY


def test_a_delegation_that_does_not_say_its_effects_has_those_of_the_task_above() -> None:
    """So a permit has to ask for them: a forbid of what is named forbids nothing that is left out."""
    safe = 'permit (principal, action == Action::"forestall/delegate", resource) when '
    safe += '{ context.args has effects && ["read"].containsAll(context.args.effects.items) };'
    assert asked_about(safe, DELEGATE, {"to": "helper", "effects": ["read"]})[0] is Decision.PERMIT
    assert asked_about(safe, DELEGATE, {"to": "helper"})[0] is Decision.DENY


def test_like_over_the_name_of_a_mandate_lets_names_through_that_nobody_thought_of() -> None:
    pattern = OPENS.replace(";", ' when { context.args.mandate like "refund*" };')
    assert asked_about(pattern, OPEN, wish("refund-everybody"))[0] is Decision.PERMIT
    assert [one.sentence for one in problems(pattern) if "still to be written" in one.sentence]
    exact = OPENS.replace(";", ' when { context.args.mandate == "refund" };')
    assert asked_about(exact, OPEN, wish("refund-everybody"))[0] is Decision.DENY
    assert problems(exact) == []


@pytest.mark.parametrize("mandate", ["refund", "refund*", "REFUND", "refund ", "refund\u200b"])
def test_a_mandates_name_is_compared_as_it_is(mandate: str) -> None:
    exact = OPENS.replace(";", ' when { context.args.mandate == "refund" };')
    assert (asked_about(exact, OPEN, wish(mandate))[0] is Decision.PERMIT) is (mandate == "refund")


def test_an_asserted_request_is_not_a_users() -> None:
    theirs = OPENS.replace(";", ' when { context.args.request == "user" };')
    assert asked_about(theirs, OPEN, wish(request="asserted"))[0] is Decision.DENY
    assert asked_about(theirs, OPEN, wish(request="user"))[0] is Decision.PERMIT


def test_a_request_to_open_a_task_is_nobodys_tool() -> None:
    """It is not in the catalogue, so no enforcement point can ask for it as a call."""
    assert FileCatalogue().find(OPEN.id) is None


def test_a_narrowing_beside_a_wider_permit_still_narrows() -> None:
    narrow = '@only_effects("read") ' + OPENS
    asked = question(OPEN, wish(effects=("read", "write")))
    ruling = engine(PERMIT_ALL, narrow).evaluate(asked)
    assert ruling.narrowing is not None
    assert ruling.narrowing.effects == {Effect.READ}
