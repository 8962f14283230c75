"""Whatever a secret is, and wherever it stands: found. Whatever comes: nothing is raised, and nothing takes long."""

from __future__ import annotations

import base64
import json
import string
from itertools import pairwise
from urllib.parse import quote_from_bytes

from hypothesis import example, given
from hypothesis import strategies as st

from forestall.core.scrub import Scrubber
from tests.unit.core.test_scrub import SECRET

alphabet = string.ascii_letters + string.digits + "-_~.+/="
secrets = st.text(alphabet, min_size=12, max_size=64).filter(lambda text: sum(map(str.isalnum, text)) >= 10)
noise = st.binary(max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(secrets, noise, noise)
def test_a_secret_is_found_wherever_it_stands(secret: str, before: bytes, after: bytes) -> None:
    whole = before + secret.encode() + after
    scrubber = Scrubber([secret])
    assert scrubber.finds(whole)
    assert scrubber.finds(base64.b64encode(whole))
    assert scrubber.finds(base64.urlsafe_b64encode(whole).rstrip(b"="))
    assert scrubber.finds(whole.hex().encode())
    assert scrubber.finds(quote_from_bytes(whole, safe="").encode())
    assert scrubber.finds_in([json.dumps({"a": whole.decode("latin-1")})])


@given(secrets, st.lists(st.integers(0, 64), max_size=6), st.sampled_from(["", " ", "\n", '","', " | "]))
def test_a_secret_in_pieces_is_found(secret: str, cuts: list[int], by: str) -> None:
    at = sorted({0, *(cut for cut in cuts if cut < len(secret)), len(secret)})
    pieces = [secret[start:end] for start, end in pairwise(at)]
    assert Scrubber([secret]).finds(by.join(pieces).encode())
    assert Scrubber([secret]).finds_in({"content": [{"type": "text", "text": piece} for piece in pieces]})


@given(st.lists(st.text(max_size=40), max_size=4), values, noise)
@example(["\ud800" * 9], {"\udfff": "\ud800"}, b"\\u\\x%\\")
@example(["%%%%%%%%\\\\\\\\"], "%", b"%0%")
def test_nothing_is_raised_whatever_comes(secrets: list[str], value: object, text: bytes) -> None:
    scrubber = Scrubber(secrets)
    assert scrubber.finds(text) in {True, False}
    assert scrubber.finds_in(value) in {True, False}


@given(values)
def test_what_does_not_hold_it_is_let_out(value: object) -> None:
    assert not Scrubber([SECRET]).finds_in(value)
