from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.errors import InvalidInput
from forestall.setup.document import MAX_DEPTH, Node, parse

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=15,
)


def nodes(node: Node) -> list[Node]:
    inner = [member.node for member in (node.members or {}).values()] + list(node.items or [])
    return [node, *(deeper for one in inner for deeper in nodes(one))]


@given(value, st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_it_reads_what_json_reads_and_knows_where_it_stands(data: Any, indent: Any, ascii_only: bool) -> None:
    written = json.dumps(data, indent=indent, ensure_ascii=ascii_only)
    root = parse(f" {written}\n")
    assert root.plain == data
    for node in nodes(root):
        assert json.loads(f" {written}\n"[node.start : node.end]) == node.plain


@given(st.text(alphabet='{}[]",:\\ \n\t0123456789.eE+-truefalsn/*u', max_size=40))
def test_it_accepts_nothing_that_json_does_not(written: str) -> None:
    try:
        root = parse(written)
    except InvalidInput:
        root = None
    if root is not None:
        assert json.loads(written) == root.plain


@pytest.mark.parametrize(
    ("written", "line", "sentence"),
    [
        ("", 1, "not a JSON value"),
        ("{", 1, "a member's name"),
        ("[1 2]", 1, "',' or ']'"),
        ('{\n"a": 1,\n}', 3, "a comma stands before '}'"),
        ("[\n1,\n]", 3, "a comma stands before ']'"),
        ('{\n// words\n"a": 1}', 2, "a comment"),
        ("/* words */ {}", 1, "a comment"),
        ('{"a": 1, // words\n"b": 2}', 1, "a comment"),
        ('{"a": 1,\n"a": 2}', 2, "occurs twice"),
        ('{"a" 1}', 1, "':' is expected"),
        ("{a: 1}", 1, "double quotes"),
        ('{"a": "\n"}', 1, "not a JSON string"),
        ('{"a": "x', 1, "not a JSON string"),
        ("{} {}", 1, "something follows"),
        ("nul", 1, "not a JSON value"),
        ("NaN", 1, "not a JSON value"),
        ("01", 1, "something follows"),
        ("[" * (MAX_DEPTH + 1), 1, "nests deeper"),
        ('{"a":' * 10_000, 1, "nests deeper"),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(written: str, line: int, sentence: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(written)
    assert str(error.value).startswith(f"{line}: ")
    assert sentence in str(error.value)
