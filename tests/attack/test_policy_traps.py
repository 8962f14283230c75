"""The known ways in which a decision by Cedar says yes by mistake: each shown in Cedar, each denied by the engine."""

from __future__ import annotations

import json
from typing import Any

import cedarpy
import pytest

from forestall.core.canonical import parse
from forestall.core.effects import Effect, groups
from forestall.core.errors import InvalidInput, PolicyInvalid
from forestall.core.model import Decision
from forestall.core.reason import Reason
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
