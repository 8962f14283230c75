from __future__ import annotations

from typing import Any

import pytest

from forestall.core.errors import InvalidInput
from forestall.core.model import Tool
from forestall.policy.arguments import MAX_NODES, compile_arguments
from forestall.policy.shape import MAX_DEPTH, Misfit
from tests.unit.policy.world import STRING, schema, tool

FREE = {"json", "digest"}


def compiled(input_schema: Any, **known: Any) -> Any:
    return compile_arguments(tool(input_schema=input_schema, **known))


def mapped(member: Any, value: Any, *, required: bool = True, **known: Any) -> Any:
    """What the argument `x` of this schema becomes."""
    return compiled(schema(["x"] if required else None, x=member), **known).cedar({"x": value}).get("x", "absent")


@pytest.mark.parametrize(
    ("member", "value", "cedar"),
    [
        (STRING, "a", "a"),
        ({"type": "integer"}, 3, 3),
        ({"type": "integer"}, 3.0, 3),
        ({"type": "boolean"}, True, True),
        ({"type": "number"}, 1.5, {"text": "1.5", "decimal": "1.5000"}),
        ({"type": "number"}, -0.0625, None),
        ({"type": "number"}, -0.25, {"text": "-0.25", "decimal": "-0.2500"}),
        ({"type": "number"}, 7, {"text": "7", "decimal": "7.0000"}),
        ({"type": "number"}, 1e14, {"text": "100000000000000", "decimal": "100000000000000.0000"}),
        ({"type": ["integer", "number"]}, 7, None),
        ({"type": ["string", "null"]}, None, "absent"),
        ({"anyOf": [STRING, {"type": "null"}]}, None, "absent"),
        ({"anyOf": [STRING, {"type": "null"}]}, "a", "a"),
        ({}, None, "absent"),
        (True, None, "absent"),
        ({"description": "anything"}, None, "absent"),
        ({"enum": ["a", "b"]}, "a", "a"),
        ({"const": "a"}, "a", "a"),
        ({"enum": [1, 2]}, 1.0, 1),
        ({"type": "string", "enum": ["a", None]}, "a", "a"),
        ({"type": ["string", "null"], "enum": ["a", None]}, None, "absent"),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, "b", "b"),
        ({"type": "array", "items": STRING}, ["a", "a"], {"items": ["a", "a"], "count": 2}),
        ({"type": "array", "items": {"type": "number"}}, [0.5], {"items": ["0.5000"], "count": 1}),
        ({"type": "array", "items": {"type": ["string", "null"]}}, ["a", None], {"items": ["a"], "count": 2}),
        ({"type": "array"}, [1, {"b": 1, "a": 2}], {"items": ["1", '{"a":2,"b":1}'], "count": 2}),
        ({"items": STRING}, [], {"items": [], "count": 0}),
        (schema(["a"], a=STRING, b={"type": "integer"}), {"a": "x"}, {"a": "x"}),
        (
            {"type": "array", "items": schema(["to"], to=STRING, cc=STRING)},
            [{"to": "a", "cc": "c"}, {"to": "b"}],
            {"items": {"to": ["a", "b"], "cc": ["c"]}, "count": 2},
        ),
        ({"allOf": [STRING], "description": "as pydantic writes it"}, "a", "a"),
    ],
)
def test_json_becomes_cedar(member: Any, value: Any, cedar: Any) -> None:
    if cedar is None:
        with pytest.raises(Misfit):
            mapped({"type": "number"}, 0.00001)
    else:
        assert mapped(member, value) == cedar


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ({"type": ["string", "integer"]}, 3),
        ({"type": "object"}, {"a": [1, None]}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": "b"}),
        ({**schema(a=STRING), "additionalProperties": True}, {"a": "b", "c": 1}),
        ({"type": "array", "prefixItems": [STRING]}, ["a"]),
        ({"$ref": "https://example.com/schema.json"}, "a"),
        ({"$ref": "#/nowhere"}, "a"),
        ({"type": "strnig"}, "a"),
        ({"enum": "a"}, "a"),
        ({"allOf": [STRING, {"minLength": 2}]}, "a"),
        ({"anyOf": []}, "a"),
        ([], "a"),
        (3, "a"),
    ],
)
def test_what_has_no_fixed_form_is_text_and_a_digest(member: Any, value: Any) -> None:
    assert set(mapped(member, value)) == FREE


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        (STRING, 3, "`x` is not a string"),
        (STRING, None, "`x` is not a string"),
        (STRING, {"__entity": {"type": "Workload", "id": "a"}}, "`x` is not a string"),
        ({"type": "integer"}, 3.5, "is not an integer"),
        ({"type": "integer"}, True, "is not an integer"),
        ({"type": "integer"}, "3", "is not an integer"),
        ({"type": "integer"}, 2**53, "is beyond"),
        ({"type": "boolean"}, 1, "is neither true nor false"),
        ({"type": "boolean"}, "true", "is neither true nor false"),
        ({"type": "number"}, "1", "is not a number"),
        ({"type": "number"}, True, "is not a number"),
        ({"type": "number"}, 0.12345, "cannot compare exactly"),
        ({"type": "number"}, 1e16, "cannot compare exactly"),
        ({"enum": ["a", "b"]}, "c", "is not one of the values"),
        ({"enum": [1]}, True, "is not one of the values"),
        ({"const": 0}, False, "is not one of the values"),
        ({"type": "string", "enum": ["a", None]}, None, "is not one of the values"),
        ({"type": "array", "items": STRING}, "a", "is not an array"),
        ({"type": "array", "items": STRING}, ["a", 3], r"`x\[1\]` is not a string"),
        ({"type": "object"}, [], "fits none of the forms"),
        ({"type": ["string", "integer"]}, {}, "fits none of the forms"),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, "c", "fits none of the forms"),
        (schema(["a"], a=STRING), {}, r"`x\.a` is missing"),
        (schema(["a"], a=STRING), {"a": "x", "b": 1}, r"`x\.b` is not declared"),
        (schema(["a"], a=STRING), "a", "is not an object"),
        ({"type": "array", "items": schema(["to"], to=STRING)}, [{"to": 3}], r"`x\[0\]\.to` is not a string"),
        ({"type": "array", "items": schema(["to"], to=STRING)}, [{"to": "a", "b": 3}], r"`x\[0\]\.b` is not declared"),
        ({}, {"a": {"__entity": 1}}, "meaning of its own to Cedar"),
        ({"type": "object"}, {"__extn": {}}, "meaning of its own to Cedar"),
        ({}, [[{"__expr": ""}]], "meaning of its own to Cedar"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(member: Any, value: Any, words: str) -> None:
    with pytest.raises(Misfit, match=words) as caught:
        mapped(member, value)
    assert "Workload" not in str(caught.value)


def test_a_required_argument_is_there() -> None:
    with pytest.raises(Misfit, match="`x` is missing"):
        compiled(schema(["x"], x=STRING)).cedar({})


def test_an_optional_argument_may_be_absent() -> None:
    assert compiled(schema(x=STRING)).cedar({}) == {}


def test_an_undeclared_argument_is_refused() -> None:
    with pytest.raises(Misfit, match="`y` is not declared"):
        compiled(schema(x=STRING)).cedar({"y": 1})


def test_without_a_schema_no_argument_is_declared() -> None:
    for nothing in ({}, {"type": "object"}, {"properties": []}, {"properties": {}, "required": "x"}, {"$ref": "#/x"}):
        assert compiled(nothing).cedar({}) == {}
        with pytest.raises(Misfit):
            compiled(nothing).cedar({"x": 1})


def test_an_undeclared_argument_passes_unseen_where_the_owner_said_so() -> None:
    arguments = compiled(schema(x=STRING), accept_undeclared=True)
    assert arguments.cedar({"x": "a", "y": [1]}) == {"x": "a"}
    with pytest.raises(Misfit):
        arguments.cedar({"__entity": {}})
    with pytest.raises(Misfit):
        arguments.cedar({"y": {"__entity": {}}})


def test_a_member_that_is_forbidden_by_its_schema_is_not_declared() -> None:
    with pytest.raises(Misfit):
        compiled(schema(x=False)).cedar({"x": 1})


def test_a_required_argument_that_is_not_declared_fits_nothing() -> None:
    with pytest.raises(Misfit):
        compiled(schema(["y"], x=STRING)).cedar({})
    with pytest.raises(Misfit):
        compiled(schema(["y"], x=STRING)).cedar({"y": 1})


def test_an_opaque_argument_is_a_digest() -> None:
    known = {"opaque": frozenset({"x"})}
    assert mapped({"type": "number"}, 0.12345, **known).keys() == {"digest"}
    assert mapped(STRING, "a", **known) == mapped({}, "a", **known)
    assert mapped({"type": ["string", "null"]}, None, **known) == "absent"


def test_a_server_cannot_declare_a_member_that_cedar_acts_on() -> None:
    with pytest.raises(Misfit):
        compiled(schema(__entity=STRING)).cedar({"__entity": "a"})


def test_a_local_reference_is_inlined() -> None:
    document = {
        **schema(["a", "b"], a={"$ref": "#/$defs/A~1B", "description": "a"}, b={"$ref": "#/$defs/A~1B"}),
        "$defs": {"A/B": {"$ref": "#/$defs/C"}, "C": schema(["d"], d={"$ref": "#/$defs/D"}), "D": STRING},
    }
    value = {"a": {"d": "1"}, "b": {"d": "2"}}
    assert compiled(document).cedar(value) == value


def test_a_recursive_reference_becomes_text() -> None:
    node = schema(["name"], name=STRING, children={"type": "array", "items": {"$ref": "#/$defs/Node"}})
    arguments = compiled({**schema(node={"$ref": "#/$defs/Node"}), "$defs": {"Node": node}})
    found = arguments.cedar({"node": {"name": "a", "children": [{"name": "b"}]}})["node"]
    assert found["name"] == "a"
    assert set(found["children"]) == FREE


def test_a_reference_to_itself_ends() -> None:
    arguments = compiled({**schema(x={"$ref": "#/$defs/A"}), "$defs": {"A": {"$ref": "#/$defs/A"}}})
    assert arguments.notes == ("x",)


def test_references_do_not_explode() -> None:
    defs: dict[str, Any] = {"L40": STRING}
    for level in range(40):
        after = {"$ref": f"#/$defs/L{level + 1}"}
        defs[f"L{level}"] = schema(a=after, b=after)
    arguments = compiled({**schema(x={"$ref": "#/$defs/L0"}), "$defs": defs})
    assert str(arguments.type).count("String") < 3 * MAX_NODES


def test_deep_values_are_refused_and_deep_schemas_become_text() -> None:
    value: Any = "end"
    member: Any = STRING
    for _ in range(MAX_DEPTH + 8):
        value, member = {"a": value}, schema(a=member)
    with pytest.raises(Misfit, match="nests deeper than 32"):
        mapped({}, value)
    assert str(compiled(schema(x=member)).type).count("'a'") <= MAX_DEPTH


def test_what_has_no_canonical_form_is_refused() -> None:
    for value in (float("nan"), float("inf"), 2**60, "\ud800"):
        with pytest.raises((Misfit, InvalidInput)):
            mapped({"type": ["string", "number", "null", "object"]}, value)


def test_the_arguments_that_may_be_paths_are_known() -> None:
    listing = {"type": "array", "items": STRING}
    arguments = compile_arguments(
        Tool(
            "s",
            "t",
            "",
            input_schema=schema(a=STRING, b={"type": ["string", "null"]}, c=listing, d={}, e={"type": "array"}),
        )
    )
    assert arguments.texts() == {"a", "b"}
    assert arguments.text_lists() == {"c"}


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\u202eb", "x" * 100_000])
def test_a_name_that_an_agent_chose_is_fit_to_be_shown(name: str) -> None:
    with pytest.raises(Misfit) as caught:
        compiled(schema(x=STRING)).cedar({name: "a"})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
