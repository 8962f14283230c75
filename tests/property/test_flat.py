"""A policy over a flat context says what it says over the nested one, failures included: checked against Cedar."""

from __future__ import annotations

import json
from typing import Any

import cedarpy
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.core.effects import Effect
from forestall.policy.flat import lay
from forestall.policy.schema import document
from forestall.policy.shape import BOOL, LONG, STRING, Type, record, set_of
from forestall.policy.slice import policy_set

INNER = record({"x": LONG, "y": STRING}, frozenset({"y"}))
CONTEXT: dict[str, Type] = {
    "a": record({"n": LONG, "s": STRING, "r": INNER, "o": INNER, "f": BOOL}, frozenset({"s", "o", "f"})),
    "b": {**record({"a": record({"n": LONG}), "n": LONG}, frozenset({"a"})), "required": False},
    "c": set_of(STRING),
    "d": BOOL,
}
NAMES = ["n", "s", "r", "o", "f", "x", "y", "a", "b"]

texts = st.text(alphabet='pq*\\"é\U0001f600', max_size=3)

inner = st.fixed_dictionaries({"x": st.integers(0, 2)}, optional={"y": texts})
contexts = st.fixed_dictionaries(
    {
        "a": st.fixed_dictionaries(
            {"n": st.integers(0, 2), "r": inner},
            optional={"s": texts, "o": inner, "f": st.booleans()},
        ),
        "c": st.lists(st.sampled_from(["p", "q"]), max_size=2),
        "d": st.booleans(),
    },
    optional={
        "b": st.fixed_dictionaries(
            {"n": st.integers(0, 2)}, optional={"a": st.fixed_dictionaries({"n": st.integers(0, 2)})}
        )
    },
)
chains = st.builds(
    lambda top, rest: ".".join(["context", top, *rest]),
    st.sampled_from(list(CONTEXT)),
    st.lists(st.sampled_from(NAMES), max_size=3),
) | st.sampled_from(["context.d", "context.a.n", "context.a.r.x", "context.a.o.y", "context.b.a.n"])
tests_of = st.builds(
    lambda left, name: f"{left} has {name}", chains | st.just("context"), st.sampled_from([*NAMES, "c"])
)
values = st.sampled_from(["1", '"p"', "true", "{x: 1}", "context", "principal"]) | chains


texts_read = st.sampled_from(["context.a.s", "context.a.r.y", "context.a.o.y"])


def literals(some: list[str]) -> str:
    return "[" + ", ".join(map(quoted, some)) + "]"


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def pattern(parts: list[str]) -> str:
    return "like " + "*".join(quoted(part)[1:-1].replace("*", "\\*") for part in parts).join('""')


patterns = st.builds(pattern, st.lists(texts, min_size=1, max_size=3)) | st.builds(
    lambda text: f"== {quoted(text)}", texts
)


def combine(inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda one, other: f"({one}) && ({other})", inside, inside),
        st.builds(lambda one, other: f"({one}) || ({other})", inside, inside),
        st.builds(lambda one: f"!({one})", inside),
        st.builds(lambda c, one, other: f"(if {c} then {one} else {other})", inside, inside, inside),
    )


atoms = st.one_of(
    chains,
    tests_of,
    st.builds(lambda one, other: f"{one} == {other}", values, values),
    st.builds(lambda one, other: f"[{one}].contains({other})", values, values),
    st.builds(lambda one: f'{one} like "p*"', chains),
    st.builds(lambda one, other: f"{{k: {one}}}.k == {other}", values, values),
    st.builds(lambda one: f"context.c.contains({one})", values),
    st.builds(lambda one, other: f"{one} {other}", texts_read, patterns),
    st.builds(lambda one, other: f"{one} {other}", chains, patterns),
    st.builds(lambda one, some: f"{literals(some)}.contains({one})", texts_read | chains, st.lists(texts, max_size=3)),
    st.builds(lambda one, other: f"{quoted(other)} != {one}", texts_read, texts),
)
conditions = st.recursive(atoms, combine, max_leaves=4)
policies = st.lists(
    st.builds(
        lambda effect, kind, condition: f"{effect} (principal, action, resource) {kind} {{ {condition} }};",
        st.sampled_from(["permit", "forbid"]),
        st.sampled_from(["when", "unless"]),
        conditions,
    ),
    min_size=1,
    max_size=3,
)


def answer(trees: dict[str, Any], types: dict[str, Type], context: dict[str, Any]) -> tuple[object, ...]:
    schema = cedarpy.Schema.from_json_str(json.dumps(document({"s/t": (frozenset({Effect.READ}), types)})))
    request = {
        "principal": {"type": "Workload", "id": "w"},
        "action": {"type": "Action", "id": "s/t"},
        "resource": {"type": "Server", "id": "s"},
        "context": context,
    }
    entities = cedarpy.Entities.from_json_str("[]", schema)
    said = cedarpy.is_authorized(request, policy_set(trees), entities, schema)
    errors = "\n".join(said.diagnostics.errors)
    return said.decision, sorted(said.diagnostics.reasons), [name for name in trees if f"`{name}`" in errors]


@settings(max_examples=400)
@given(policies, contexts)
def test_flat_and_nested_agree(texts: list[str], context: dict[str, Any]) -> None:
    found = json.loads(cedarpy.policies_to_json_str("\n".join(texts)))["staticPolicies"]
    trees = {f"p-{number}": tree for number, tree in enumerate(found.values())}
    flat = lay(trees.values(), CONTEXT)
    rewritten = {name: flat.rewrite(tree) for name, tree in trees.items()}
    nested = answer(trees, CONTEXT, context)
    assert nested[0] is not cedarpy.Decision.NoDecision
    assert answer(rewritten, flat.types, flat.context(context.get)) == nested
