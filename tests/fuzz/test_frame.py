"""Whatever bytes arrive, a frame is a message or an `InvalidInput`, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forestall import frame
from forestall.core.canonical import MAX_SAFE_INTEGER, canonical
from forestall.core.errors import InvalidInput

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)
messages = st.dictionaries(texts, values, max_size=5).flatmap(
    lambda rest: texts.map(lambda kind: {**rest, "type": kind})
)


@given(messages)
def test_what_is_encoded_is_decoded(message: dict[str, Any]) -> None:
    data = frame.encode(message)
    assert frame.length(data[: frame.HEAD]) == len(data) - frame.HEAD
    assert canonical(frame.decode(data[frame.HEAD :])) == canonical(message)


def decodes(body: bytes) -> bool:
    try:
        message = frame.decode(body)
    except InvalidInput:
        return False
    assert isinstance(message["type"], str)
    canonical(message)
    return True


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_invalid_input(body: bytes) -> None:
    decodes(body)


@given(messages, st.integers(min_value=0), st.binary(max_size=4))
def test_a_damaged_frame_is_a_message_or_invalid_input(message: dict[str, Any], at: int, damage: bytes) -> None:
    body = frame.encode(message)[frame.HEAD :]
    at %= len(body)
    decodes(body[:at] + damage + body[at + len(damage) :])


@given(messages, st.integers(min_value=1))
def test_a_frame_cut_short_is_never_a_message(message: dict[str, Any], cut: int) -> None:
    body = frame.encode(message)[frame.HEAD :]
    assert not decodes(body[: -(cut % len(body) or 1)])


@given(st.binary(min_size=frame.HEAD, max_size=frame.HEAD))
def test_any_head_announces_a_length_within_the_limit_or_is_refused(head: bytes) -> None:
    try:
        assert 0 <= frame.length(head) <= frame.MAX_FRAME
    except InvalidInput:
        assert int.from_bytes(head, "big") > frame.MAX_FRAME
