from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.compact import encoder

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(values, st.booleans())
def test_it_writes_what_json_does(value: object, sort_keys: bool) -> None:
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
    assert encoder(sort_keys=sort_keys)(value) == expected


@given(values, st.booleans())
def test_it_writes_the_same_without_an_encoder_in_c(value: object, sort_keys: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json.encoder, "c_make_encoder", None)
        ordinary = encoder(sort_keys=sort_keys)
    assert ordinary(value) == encoder(sort_keys=sort_keys)(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused_unless_it_is_allowed(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encoder()([number])
    assert encoder(allow_nan=True)([number]) == json.dumps([number])


def test_what_is_not_json_is_refused() -> None:
    for value in (object(), {1}, b"x", {"a": [object()]}):
        with pytest.raises(TypeError, match="is not JSON serializable"):
            encoder()(value)


def test_what_holds_itself_ends() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        encoder()(endless)
