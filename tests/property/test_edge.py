"""Edge and decision point write one canonical form, by two codes; and nothing that is no permit gets through."""

from __future__ import annotations

import base64
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core import canonical as core
from forestall.core.errors import InvalidInput
from forestall.core.pin import definition_digest
from forestall_edge import Reason, Refused
from forestall_edge.canonical import NotJson
from forestall_edge.canonical import canonical as ours
from forestall_edge.canonical import parse as read
from forestall_edge.pin import pin
from forestall_edge.token import decode, encode
from tests.edges import Scene

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_one_canonical_form(value: Any) -> None:
    try:
        expected = core.canonical(value)
    except InvalidInput:
        with pytest.raises(NotJson):
            ours(value)
    else:
        assert ours(value) == expected


BASE64URL = string.ascii_letters + string.digits + "-_"


@given(st.binary(max_size=70))
def test_bytes_have_one_base64url(data: bytes) -> None:
    assert encode(data) == base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert decode(encode(data)) == data


@given(st.text(BASE64URL, max_size=12) | st.text(BASE64URL + "+/= \n\0é", max_size=12) | st.text(max_size=8))
def test_no_other_text_stands_for_bytes(text: str) -> None:
    try:
        data = decode(text)
    except Refused as error:
        assert error.reason is Reason.MALFORMED  # noqa: PT017 - what is not refused is checked as well
        assert len(text) % 4 == 1 or not set(text) <= set(BASE64URL) or text != _again(text)
    else:
        assert text == base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _again(text: str) -> str:
    """As it would be written by whoever reads leniently."""
    return base64.urlsafe_b64encode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))).rstrip(b"=").decode()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_one_form_of_numbers(number: float) -> None:
    assert ours(number) == core.canonical(number)
    assert float(ours(number)) == number


AROUND = st.sampled_from(["", " ", "\t\n\r", "\u00a0", "\ufeff", "\x0b", "0", "]", ",", "{}"])


@given(
    st.binary(max_size=60)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.tuples(AROUND, VALUES, AROUND).map(lambda parts: f"{parts[0]}{json.dumps(parts[1])}{parts[2]}".encode())
)
def test_one_reading(data: bytes) -> None:
    try:
        expected = core.parse(data, max_bytes=1000)
    except InvalidInput:
        with pytest.raises((NotJson, UnicodeEncodeError)):
            ours(read(data, max_bytes=1000))
    else:
        assert ours(read(data, max_bytes=1000)) == core.canonical(expected)


@given(st.dictionaries(st.sampled_from(["name", "title", "inputSchema", "icons"]), VALUES, max_size=4))
def test_one_pin(definition: dict[str, Any]) -> None:
    try:
        expected = definition_digest("files", definition)
    except InvalidInput:
        with pytest.raises(NotJson):
            pin("files", definition)
    else:
        assert pin("files", definition) == expected


SCENE = Scene()
TOKEN = SCENE.token()
PROOF = SCENE.proof(TOKEN)


@given(st.text(st.characters(codec="ascii"), max_size=200), st.booleans())
def test_no_text_is_a_permit_or_a_proof(text: str, as_proof: bool) -> None:
    with pytest.raises(Refused):
        SCENE.verify(TOKEN if as_proof else text, proof=(text or "-") if as_proof else PROOF)


@given(st.sampled_from(["token", "proof"]), st.data())
def test_one_character_changed_is_refused(which: str, data: st.DataObject) -> None:
    text = TOKEN if which == "token" else PROOF
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("AaZz09-_.=").filter(lambda each: each != text[at]))
    changed = text[:at] + letter + text[at + 1 :]
    with pytest.raises(Refused):
        SCENE.verify(changed if which == "token" else TOKEN, proof=changed if which == "proof" else PROOF)
