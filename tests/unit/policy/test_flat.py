from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import cedarpy
import pytest

from forestall.core.effects import Effect
from forestall.core.model import Decision, RealPath, Risk
from forestall.core.reason import Reason
from forestall.policy.flat import Flat, lay
from forestall.policy.render import render
from forestall.policy.shape import BOOL, DECIMAL, LONG, STRING, Type, record, set_of
from tests.property.test_flat import answer
from tests.unit.policy.world import READ_FILE, WRITE_FILE, engine, question

CONTEXT: dict[str, Type] = {
    "args": record({"path": STRING, "count": LONG, "a.b": STRING, "deep": record({"x": LONG, "y": LONG})}),
    "paths": record({"path": record({"real": STRING, "inside": STRING}, frozenset({"inside"}))}, frozenset({"path"})),
    "effects": set_of(STRING),
    "own_files": BOOL,
    "approval": {**record({"granted": BOOL}), "required": False},
}
VALUES: dict[str, Any] = {
    "args": {"path": "a", "count": 3, "a.b": "c", "deep": {"x": 1, "y": 2}},
    "paths": {"path": {"real": "/a"}},
    "effects": ["read"],
    "own_files": False,
}


def laid(condition: str) -> tuple[Flat, str]:
    """The vocabulary of a policy with this condition, and the condition in it."""
    text = f"permit (principal, action, resource) when {{ {condition} }};"
    (tree,) = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    flat = lay([tree], CONTEXT)
    return flat, render(flat.rewrite(tree)["conditions"][0]["body"])


@pytest.mark.parametrize(
    ("condition", "rewritten", "sent"),
    [
        ("context.own_files", 'context["0"]', {"0": False}),
        ("context.args.deep.x == 1", 'context["0"] == 1', {"0": 1}),
        ('context.args["a.b"] == "c"', 'context["0"]', {"0": True}),
        ('"d" != context.args["a.b"]', '!context["0"]', {"0": False}),
        ('context.args.path like "a*"', 'context["0"]', {"0": True}),
        ('["b", "c"].contains(context.args.path)', 'context["0"]', {"0": False}),
        ("context.args.path == context.args.path", 'context["0"] == context["0"]', {"0": "a"}),
        ("context.args has count", 'context has "0"', {"0": True}),
        ("context has args", 'context has "0"', {"0": True}),
        ("context has approval && context.approval.granted", 'context has "0" && context["1"]', {}),
        (
            "context.paths has path && context.paths.path has inside",
            'context has "0" && context["0"] && context has "1"',
            {"0": True},
        ),
        ('context.paths has other && context.paths.other == "a"', 'context has "1" && context["0"]', {}),
    ],
)
def test_what_is_read_lies_flat(condition: str, rewritten: str, sent: dict[str, Any]) -> None:
    flat, text = laid(condition)
    assert text.replace("(", "").replace(")", "") == rewritten
    assert flat.context(VALUES.get) == sent
    assert flat.types.keys() >= sent.keys()


@pytest.mark.parametrize(
    ("condition", "sent"),
    [
        ("context.args == context.args", {"args"}),
        ("[context.args.deep].contains(context.args.deep)", {"args"}),
        ("context.args.path.length == 1", {"args"}),
        ("context.args.path has length", {"args"}),
        ('context.args.deep == "a"', {"args"}),
        ('context.effects == "a"', {"effects"}),
        ("context.args.deep == {x: 1, y: 2} && context.own_files", {"args", "0"}),
        ("context == {a: 1}", set(VALUES)),
        ("{a: context}.a.own_files", set(VALUES)),
    ],
)
def test_what_is_used_as_a_whole_stands_as_it_is(condition: str, sent: set[str]) -> None:
    flat, _ = laid(condition)
    found = flat.context(VALUES.get)
    assert set(found) == sent
    assert all(found[name] == VALUES[name] for name in sent & set(VALUES))


def test_no_value_goes_where_none_is_looked_at() -> None:
    flat, _ = laid('context.paths.path.inside like "a/*"')
    assert flat.context(VALUES.get) == {}
    assert flat.context({"paths": {"path": {"real": "/a", "inside": "a"}}}.get) == {"0": False}
    assert flat.context({"paths": {"path": {"real": "/a", "inside": "a/b"}}}.get) == {"0": True}
    assert flat.values("approval", {"granted": True}) == {}


def test_an_approval_is_added_in_the_same_words() -> None:
    flat, _ = laid("context has approval && context.approval.granted")
    assert flat.values("approval", {"granted": True}) == {"0": True, "1": True}
    whole, _ = laid("context.approval == {granted: true}")
    assert whole.values("approval", {"granted": True}) == {"approval": {"granted": True}}


def test_only_what_every_context_has_is_required() -> None:
    flat, _ = laid('context.own_files && context.paths.path.real == "a" && context has approval')
    assert sorted(one.get("required", True) for one in flat.types.values()) == [False, False, True]


# -- against Cedar, where the two could come apart

ODD: dict[str, Type] = {
    "args": record(
        {
            "s": STRING,
            "o": STRING,
            "n": record({"text": STRING, "decimal": DECIMAL}),
            "l": record({"items": set_of(STRING), "count": LONG}),
            "a.b": STRING,
            "a": record({"b": STRING, "Value": STRING, "Var": record({"left": STRING}), "": STRING}),
            "0": STRING,
            "has": record({"left": record({"like": STRING}, frozenset({"like"}))}, frozenset({"left"})),
            "context": STRING,
            "__entity": STRING,
        },
        frozenset({"o", "has", "n"}),
    ),
    "paths": record({"s": record({"real": STRING, "inside": STRING}, frozenset({"inside"}))}, frozenset({"s"})),
    "effects": set_of(STRING),
    "approval": {**record({"granted": BOOL}), "required": False},
}
ARGS: dict[str, Any] = {
    "s": "p*q",
    "l": {"items": ["p", "q", "p"], "count": 3},
    "a.b": "c",
    "a": {"b": "d", "Value": "v", "Var": {"left": "l"}, "": "e"},
    "0": "zero",
    "context": "own_files",
    "__entity": "x",
}
FULL = {**ARGS, "o": "\U0001f600", "n": {"text": "1.5", "decimal": "1.5000"}, "has": {"left": {"like": "\0 é"}}}
CONTEXTS: list[dict[str, Any]] = [
    {"args": ARGS, "paths": {}, "effects": []},
    {"args": FULL, "paths": {"s": {"real": "/p"}}, "effects": ["read"], "approval": {"granted": True}},
    {"args": {**FULL, "has": {}}, "paths": {"s": {"real": "/p", "inside": "p"}}, "effects": ["read", "write"]},
    {"args": {**FULL, "s": "", "has": {"left": {}}, "o": "e\u0301"}, "paths": {}, "effects": ["p"]},
    {"args": {**FULL, "s": "p\\*q\n", "o": "\U0001f600\U0001f601"}, "paths": {}, "effects": ["p"]},
]
CONDITIONS = [
    # `has` where records are missing above
    'context.args has "has"',
    'context.args["has"] has left',
    "context.args has a.Var.left && context.args has o.x",
    'context.args["has"].left has "like"',
    'context.args has "has" && (context.args["has"] has left || context.args["has"].left has "like")',
    '!(context.args["has"] has nothing)',
    "context.args.nothing has at_all",
    "context has approval.granted",
    "context.approval has granted",
    "if context has approval then context.approval.granted else context.args has o",
    "context.paths has s && !(context.paths.s has inside)",
    'context.paths.s has inside && context.paths.s.inside == "p"',
    # patterns
    r'context.args.s like "p\*q"',
    r'context.args.s like "*\**"',
    r'context.args.s like "\*"',
    r'context.args.s like "p\\\*q\n"',
    'context.args.s like "**"',
    'context.args.s like ""',
    'context.args.s like "*p*q*"',
    'context.args.s like "p*p*q"',
    'context.args.o like "\U0001f600*"',
    r'context.args.o like "\u{1f600}"',
    r'context.args["has"].left["like"] like "\0*\u{e9}"',
    'context.args.o == "\u00e9"',
    'context.args.o like "*\u0301"',
    'context.args["s"] == "p*q"',
    # sets
    "[].contains(context.args.s)",
    "[].contains(context.args.o)",
    '["p*q", 1].contains(context.args.s)',
    '["p*q", context.args.o].contains(context.args.s)',
    '["p*q", "p*q", ""].contains(context.args.s)',
    '[["p*q"]].contains([context.args.s])',
    '["p", "q"].containsAll(context.args.l.items)',
    'context.args.l.items.containsAny(["q"])',
    "context.effects.isEmpty()",
    "context.effects.contains(context.args.o)",
    "context.effects == [context.args.s]",
    # entities and decimals
    'context.args.s == Workload::"p*q"',
    '[Workload::"w"].contains(principal)',
    'principal == Workload::"w" && context.args.s == "p*q"',
    "context.args.s is Workload",
    "context.args.s in principal",
    'context.args.n.decimal == decimal("1.5")',
    'context.args.n.decimal == "1.5"',
    'context.args.n.decimal.lessThan(decimal("2.0"))',
    'context.args has n && context.args.n.decimal.greaterThan(decimal("1.4999")) && context.args.n.text == "1.5"',
    'context.args.n == {text: "1.5", decimal: decimal("1.5")}',
    # records as values
    '{"s": context.args.s}.s == "p*q"',
    '{"Value": context.args.s}["Value"] == "p*q"',
    '{"Var": "context"}.Var == "context"',
    '{"has": context.args}["has"] has o',
    '(if context.args has o then context.args else {s: "x"}).s == "p*q"',
    'context.args.a == {"b": "d", "Value": "v", "Var": {"left": "l"}, "": "e"}',
    "[context.paths].contains({})",
    "context.l == context.args.l",
    # names that look like something else
    'context.args["a.b"] == "c" && context.args.a.b == "d"',
    'context.args["0"] == "zero"',
    'context["0"] == "zero"',
    'context has "0"',
    'context.args.a.Value == "v" && context.args.a.Var.left == "l"',
    'context.args.a[""] == "e"',
    'context.args.context == "own_files"',
    'context.args["__entity"] == "x"',
    # what fails, and what is never reached
    'context.args.l.count == "3" || context.args.o == "x"',
    'false && context.nothing == "a"',
    'true || context.args.nothing like "a"',
    'context.args.o != "x"',
    '!(context.args.o == "x") && "x" != context.args.o',
    'context.args.l.count like "3"',
    'context.args.a like "x"',
    '["a"].contains(context.args.a)',
]


@pytest.mark.parametrize("number", range(len(CONTEXTS)))
def test_what_is_laid_flat_says_what_was_written(number: int) -> None:
    """Each alone, and all of them in one vocabulary: as a permit, a forbid and an `unless`; failures included."""
    context = CONTEXTS[number]
    policies = [
        "permit (principal, action, resource);",
        *(f"permit (principal, action, resource) when {{ {one} }};" for one in CONDITIONS),
        *(f"forbid (principal, action, resource) unless {{ {one} }};" for one in CONDITIONS),
    ]
    found = json.loads(cedarpy.policies_to_json_str("\n".join(policies)))["staticPolicies"]
    trees = {f"p-{index}": tree for index, tree in enumerate(found.values())}
    assert len(trees) == len(policies)
    for some in (trees, *({name: tree} for name, tree in trees.items())):
        flat = lay(some.values(), ODD)
        rewritten = {name: flat.rewrite(tree) for name, tree in some.items()}
        nested = answer(some, ODD, context)
        assert nested[0] is not cedarpy.Decision.NoDecision
        assert answer(rewritten, flat.types, flat.context(context.get)) == nested


def test_the_numbers_are_the_same_whatever_order_the_policies_come_in() -> None:
    texts = [f"permit (principal, action, resource) when {{ {one} }};" for one in CONDITIONS]
    trees = list(json.loads(cedarpy.policies_to_json_str("\n".join(texts)))["staticPolicies"].values())
    assert lay(trees, ODD)._keys == lay(reversed(trees), ODD)._keys


def test_an_answer_is_remembered_for_one_principal_and_one_set_of_policies() -> None:
    one = engine(
        'permit (principal == Workload::"agent", action == Action::"fs/read_file", resource)'
        ' when { context.args.path like "a*" };'
    )
    asked = question(READ_FILE, {"path": "ab"})
    other = replace(asked, subject=replace(asked.subject, id="other"))
    for _ in range(2):
        assert one.evaluate(asked).decision is Decision.PERMIT
        assert one.evaluate(other).decision is Decision.DENY
        assert one.evaluate(question(READ_FILE, {"path": "ac"})).decision is Decision.PERMIT
        assert one.evaluate(question(READ_FILE, {"path": "b"})).decision is Decision.DENY
    assert len(one.slice_for(READ_FILE)._remembered) == 3, "whoever asks, and what the policy can tell apart"
    after = engine("forbid (principal, action, resource);")
    assert after.evaluate(asked).reason is Reason.FORBIDDEN


def test_a_slice_with_raised_effects_remembers_for_itself() -> None:
    built = engine('permit (principal, action == Action::"fs/write_file", resource) when { context.args.path == "a" };')
    asked = question(WRITE_FILE, {"path": "a"})
    raised = question(WRITE_FILE, {"path": "a"}, effects=frozenset({Effect.WRITE, Effect.DESTRUCTIVE}))
    no = engine('permit (principal, action, resource); forbid (principal, action in Action::"destructive", resource);')
    for _ in range(2):
        assert built.evaluate(asked).decision is Decision.PERMIT
        assert no.evaluate(asked).decision is Decision.PERMIT
        assert no.evaluate(raised).reason is Reason.FORBIDDEN
    parts = {id(no.slice_for(WRITE_FILE, effects)) for effects in (asked.facts.effects, raised.facts.effects)}
    assert len(parts) == 2


def test_a_hold_is_a_hold_each_time_and_never_a_permit_that_was_remembered() -> None:
    built = engine(
        '@approvers("ada") permit (principal, action == Action::"fs/read_file", resource) '
        'when { context has approval && context.approval.granted && context.args.path like "a*" };'
    )
    for _ in range(3):
        ruling = built.evaluate(question(READ_FILE, {"path": "ab"}))
        assert (ruling.decision, ruling.reason) == (Decision.HOLD, Reason.NEEDS_APPROVAL)
        assert built.evaluate(question(READ_FILE, {"path": "b"})).decision is Decision.DENY
    sent = [json.loads(text) for _, text in built.slice_for(READ_FILE)._remembered]
    assert len(sent) == 4, "each pass of each is a question of its own"


def test_approval_and_the_whole_context_in_one_slice() -> None:
    """The approval is then sent as a value, and not as its parts."""
    built = engine(
        '@approvers("ada") permit (principal, action, resource) when { context has approval && context == context };'
    )
    for _ in range(2):
        assert built.evaluate(question(READ_FILE, {"path": "a"}, risk=Risk.LOW)).decision is Decision.HOLD
    alone = engine(
        '@approvers("ada") permit (principal, action, resource)'
        " when { context has approval && context.approval == {granted: true} };"
    )
    assert alone.evaluate(question(READ_FILE, {"path": "a"})).decision is Decision.HOLD


@pytest.mark.parametrize("looks", ['like "w/*"', '== "w/?"', '!= "x"', "set"])
def test_what_cedar_has_no_value_for_is_denied_though_it_is_only_tested(looks: str) -> None:
    """A link may lead to a name that is no text. Whole, it is refused by Cedar; a test of it is no way around that."""
    inside = "context.paths.path.inside"
    test = f'!(["x"].contains({inside}))' if looks == "set" else f"{inside} {looks}"
    built = engine(
        'permit (principal, action == Action::"fs/read_file", resource)'
        f" when {{ context.paths has path.inside && {test} }};"
    )
    paths = {"path": (RealPath("/w/\udcff", "w/\udcff"),)}
    assert built.evaluate(question(READ_FILE, {"path": "a"}, paths=paths)).reason is Reason.POLICY_ERROR
    good = {"path": (RealPath("/w/\U0001f600", "w/\U0001f600"),)}
    decided = built.evaluate(question(READ_FILE, {"path": "a"}, paths=good)).decision
    assert decided is (Decision.DENY if looks.startswith("==") else Decision.PERMIT)
