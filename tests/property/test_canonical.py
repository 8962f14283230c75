"""What holds of every JSON value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.canonical import MAX_SAFE_INTEGER, canonical, digest, parse
from forestall.core.errors import InvalidInput

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda f: not f.is_integer() or abs(f) <= MAX_SAFE_INTEGER
    )
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5), max_leaves=30
)


def read(data: bytes) -> Any:
    return parse(data, max_bytes=10_000_000)


@given(VALUES)
def test_parse_reads_back_what_canonical_wrote(value: Any) -> None:
    assert read(canonical(value)) == value


@given(VALUES)
def test_the_form_of_the_form_is_itself(value: Any) -> None:
    form = canonical(value)
    assert canonical(read(form)) == form


@given(VALUES)
def test_every_json_text_of_a_value_has_one_form(value: Any) -> None:
    loose = json.dumps(value, indent=2, ensure_ascii=True)
    assert canonical(read(loose.encode())) == canonical(value)


@given(st.dictionaries(TEXTS, SCALARS, min_size=2), st.randoms())
def test_the_order_of_members_does_not_matter(value: dict[str, Any], chance: Any) -> None:
    names = list(value)
    chance.shuffle(names)
    assert digest({name: value[name] for name in names}) == digest(value)


@given(VALUES, VALUES)
def test_values_that_differ_have_digests_that_differ(one: Any, other: Any) -> None:
    def typed(value: Any) -> str:
        return json.dumps(read(canonical(value)), sort_keys=True)

    assert (digest(one) == digest(other)) == (typed(one) == typed(other))


@given(st.lists(TEXTS, min_size=1, max_size=5), st.data())
def test_a_member_that_occurs_twice_is_refused(names: list[str], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(names))
    text = "{" + ",".join(f"{json.dumps(name)}:0" for name in [*names, again]) + "}"
    with pytest.raises(InvalidInput, match="twice"):
        read(text.encode())


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))
    | st.text(alphabet='{}[]":,0123456789eE+-.tfnu \\ud8a', max_size=60).map(str.encode)
)
def test_any_bytes_are_a_value_or_a_refusal(data: bytes) -> None:
    try:
        value = read(data)
    except InvalidInput:
        return
    assert parse(canonical(value), max_bytes=10_000_000, exact=False) == value
