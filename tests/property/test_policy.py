"""Policy under many questions: slices say what the whole set says, and arguments never become more than they are."""

from __future__ import annotations

import json
from typing import Any

import cedarpy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forestall.core.effects import Effect, groups
from forestall.core.errors import InvalidInput, PolicyInvalid
from forestall.core.label import Confidentiality, Integrity, Label
from forestall.core.model import Decision, Question, RealPath, Tool
from forestall.policy import bundle
from forestall.policy.arguments import compile_arguments
from forestall.policy.bundle import Policy
from forestall.policy.cedar import CedarEngine
from forestall.policy.render import render
from forestall.policy.schema import METHOD_TOOL, compile_tool
from forestall.policy.schema import schema as schema_of
from forestall.policy.shape import Misfit
from forestall.policy.slice import policy_set, rule
from forestall.policy.text import cut, tokens
from tests.unit.policy.world import TOOLS, question, tool

# -- slices against the whole set

SCOPES = (
    "action",
    'action in Action::"read"',
    'action in [Action::"write", Action::"destructive"]',
    'action in Action::"external"',
    'action == Action::"fs/write_file"',
    'action in [Action::"fs/delete", Action::"mail/send"]',
)
RESOURCES = ("resource", 'resource == Server::"fs"', 'resource == Server::"mail"', "resource is Server")
WHOLE = "[context].contains(context)"
CONDITIONS = (
    'context.args has path && context.args.path == "a"',
    'context.paths has path.inside && context.paths.path.inside like "r/*"',
    "context.args has to && context.args.to.count > 1",
    'context.args has to && context.args.to.items.contains("ann")',
    'context.labels.integrity == "untrusted"',
    '["confidential", "secret"].contains(context.labels.confidentiality)',
    'context.effects.contains("external")',
    'context.task.purpose == "report"',
    'principal == Workload::"agent"',
    "context.reversible || context.task.depth > 0",
    "[context.args].contains(context.args)",
    "[context.labels].contains(context.output)",
    "context.args has to && [context.args.to].contains(context.args.to)",
    WHOLE,
)
APPROVALS = ("context has approval && context.approval.granted", "!(context has approval)")


@st.composite
def policy_texts(draw: st.DrawFn) -> str:
    effect = draw(st.sampled_from(["permit", "permit", "forbid"]))
    conditions = draw(st.lists(st.sampled_from(CONDITIONS) | st.sampled_from(APPROVALS), max_size=2))
    kinds = [draw(st.sampled_from(["when", "unless"])) for _ in conditions]
    text = " ".join(f"{kind} {{ {condition} }}" for kind, condition in zip(kinds, conditions, strict=True))
    scope = f"principal, {draw(st.sampled_from(SCOPES))}, {draw(st.sampled_from(RESOURCES))}"
    asks = "approval" in text or WHOLE in text
    reaches = '@reaches("external,destructive")' if effect == "permit" else ""
    approvers = '@approvers("ann")' if asks else ""
    without = '@without("risk,posture")' if WHOLE in text else ""
    return f"{approvers} {without} {reaches} {effect} ({scope}) {text};"


labels = st.builds(Label, st.sampled_from(Integrity), st.sampled_from(Confidentiality))
words = st.sampled_from(["a", "r/a", "../a", "ann", ""])
paths = st.just({}) | st.builds(lambda real, inside: {"path": (RealPath(real, inside),)}, words, st.none() | words)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    of = draw(st.sampled_from(TOOLS))
    to = draw(st.lists(words, max_size=3))
    arguments: dict[str, Any] = {"to": to} if of.name == "send" else {"path": draw(words)}
    effects = of.effects | draw(st.frozensets(st.sampled_from(Effect), max_size=2))
    return question(
        of,
        arguments,
        labels=draw(labels),
        own_files=draw(st.integers(0, 9)) == 9,
        effects=effects,
        paths=draw(paths),
        purpose=draw(st.sampled_from(["report", "other"])),
    )


def whole_set(policies: tuple[Policy, ...], asked: Question, engine: CedarEngine) -> tuple[str, frozenset[str]]:
    """The same question put to every policy with the whole context: the decision, and the ids that are behind it."""
    raised = [
        compile_tool(
            Tool(
                one.server,
                one.name,
                one.pin,
                one.effects | asked.facts.effects,
                control=one.control,
                input_schema=one.input_schema,
            )
        )
        if one.id == asked.tool.id
        else compile_tool(one)
        for one in TOOLS
    ]
    schema = cedarpy.Schema.from_json_str(json.dumps(schema_of(raised)))
    entities = cedarpy.Entities.from_json_str("[]", schema)
    everything = policy_set({policy.id: policy.tree for policy in policies})
    context = engine.whole_context(asked, engine.slice_for(asked.tool, asked.facts.effects))

    def ask(more: dict[str, Any]) -> cedarpy.AuthzResult:
        request = {
            "principal": {"type": "Workload", "id": asked.subject.id},
            "action": {"type": "Action", "id": asked.tool.id},
            "resource": {"type": "Server", "id": asked.tool.server},
            "context": context | more,
        }
        result = cedarpy.is_authorized(request, everything, entities, schema)
        assert not result.diagnostics.errors
        return result

    first = ask({})
    if first.allowed:
        return "permit", frozenset(first.diagnostics.reasons)
    second = ask({"approval": {"granted": True}})
    if not second.allowed:
        return "deny", frozenset(first.diagnostics.reasons)
    mentions = {policy.id for policy in policies if rule(policy).mentions_approval}
    return "hold", frozenset(first.diagnostics.reasons) | (frozenset(second.diagnostics.reasons) & mentions)


def accepted(texts: list[str]) -> tuple[Policy, ...]:
    """Those of the generated policies that the lint lets pass together."""
    kept: list[str] = []
    for text in texts:
        try:
            CedarEngine.build(bundle.from_texts({"a.cedar": "\n".join([*kept, text])}), TOOLS)
        except PolicyInvalid:
            continue
        kept.append(text)
    return bundle.from_texts({"a.cedar": "\n".join(kept)}).policies


@settings(max_examples=60, deadline=None)
@given(st.lists(policy_texts(), min_size=1, max_size=6), st.lists(questions(), min_size=1, max_size=6))
def test_a_slice_says_what_the_whole_set_says(texts: list[str], asked: list[Question]) -> None:
    policies = accepted(texts)
    built = CedarEngine.build(bundle.Bundle(policies), TOOLS)
    for one in asked:
        ruling = built.evaluate(one)
        assert (ruling.decision.value, frozenset(ruling.policies)) == whole_set(policies, one, built)


@settings(max_examples=40, deadline=None)
@given(st.lists(policy_texts(), max_size=4), st.lists(questions(), min_size=1, max_size=6))
def test_a_tool_that_is_hidden_is_never_permitted(texts: list[str], asked: list[Question]) -> None:
    built = CedarEngine.build(bundle.Bundle(accepted(texts)), TOOLS)
    for one in asked:
        plain = question(one.tool, one.arguments, labels=one.facts.labels)
        if not built.could_permit(one.tool):
            assert built.evaluate(plain).decision is Decision.DENY


# -- arguments

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = st.sampled_from(["a", "b", "__entity", "__extn", "type", "id", ""])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
keywords = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "required",
        "additionalProperties",
    ]
)
nonsense = st.recursive(
    scalars
    | st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null", "#/properties/a", "#"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords | names, inner, max_size=4),
    max_leaves=20,
)
sane = st.recursive(
    st.sampled_from([{"type": name} for name in ("string", "integer", "number", "boolean")] + [{}, {"enum": ["a", 1]}]),
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(
            lambda properties, required: {"type": "object", "properties": properties, "required": required},
            st.dictionaries(names, inner, max_size=3),
            st.lists(names, max_size=2),
        )
        | st.builds(lambda some: {"anyOf": some}, st.lists(inner | st.just({"type": "null"}), min_size=1, max_size=3))
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(names, nonsense | sane, max_size=4), st.dictionaries(names, values, max_size=4))
def test_what_is_accepted_fits_the_schema_that_cedar_was_given(properties: Any, arguments: Any) -> None:
    of = tool("t", input_schema={"properties": properties})
    whole = f"permit (principal, action, resource) when {{ {WHOLE} }};"  # so that all of it is sent
    text = f'@approvers("a") @without("risk,posture") {whole}'
    built = CedarEngine.build(bundle.from_texts({"a.cedar": text}), [of])
    try:
        compile_arguments(of).cedar(arguments)
    except (Misfit, InvalidInput):
        assert built.evaluate(question(of, arguments)).decision is Decision.DENY
    else:
        assert built.evaluate(question(of, arguments)).decision is Decision.PERMIT


@settings(max_examples=300, deadline=None)
@given(sane, values)
def test_no_value_is_active(schema: Any, value: Any) -> None:
    arguments = compile_arguments(tool(input_schema={"properties": {"x": schema}}))
    try:
        mapped = json.dumps(arguments.cedar({"x": value}))
    except (Misfit, InvalidInput):
        return
    keys: set[str] = set()
    json.loads(mapped, object_pairs_hook=lambda pairs: keys.update(name for name, _ in pairs))
    assert keys.isdisjoint({"__entity", "__extn", "__expr"})


@settings(max_examples=300, deadline=None)
@given(nonsense)
def test_no_schema_breaks_the_build(schema: Any) -> None:
    of = Tool("s", "t", "", input_schema=schema if isinstance(schema, dict) else {"properties": schema})
    described = schema_of([compile_tool(of), compile_tool(METHOD_TOOL)])
    assert cedarpy.Schema.from_json_str(json.dumps(described))
    assert groups(of.effects)


# -- text

pieces = st.sampled_from(
    [
        "permit",
        "forbid",
        "(",
        ")",
        "principal",
        ",",
        "action",
        "resource",
        ";",
        "when",
        "{",
        "}",
        '"',
        '"a;b"',
        "//",
        "\n",
        "context",
        ".",
        "has",
        "==",
        "Action",
        "::",
        "@id",
        "\\",
        "?principal",
        "1",
        "é",
    ]
)


@example("\x1f")
@given(st.lists(pieces | st.text(max_size=3), max_size=30).map(" ".join))
def test_text_that_is_not_policy_is_refused_with_its_place(text: str) -> None:
    try:
        problem, policies = "", bundle.from_texts({"a.cedar": text}).policies
    except PolicyInvalid as error:
        problem, policies = str(error), ()
    assert problem.startswith("a.cedar:") or not problem
    if not problem:
        assert len(policies) - len(bundle.builtin()) == len(
            json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
        )


@given(st.lists(policy_texts() | st.sampled_from(["// a ; comment\n", "\n", "  "]), max_size=5))
def test_cutting_changes_nothing_that_cedar_reads(texts: list[str]) -> None:
    text = "\n".join(texts)
    whole = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    parts = bundle.from_texts({"a.cedar": text}).policies[len(bundle.builtin()) :]
    in_order = [whole[f"policy{number}"] for number in range(len(whole))]
    assert [policy.tree for policy in parts] == in_order
    assert [token.text for piece in cut(text) for token in tokens(piece.text)] == [token.text for token in tokens(text)]


@given(policy_texts())
def test_what_is_rendered_reads_back_the_same(text: str) -> None:
    (tree,) = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    for condition in tree["conditions"]:
        again = f"permit (principal, action, resource) when {{ {render(condition['body'])} }};"
        (read,) = json.loads(cedarpy.policies_to_json_str(again))["staticPolicies"].values()
        assert read["conditions"][0]["body"] == condition["body"]
