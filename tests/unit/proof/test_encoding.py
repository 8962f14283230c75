"""Base64url has one text for one sequence of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.proof.encoding import decode, digest, encode
from forestall.proof.fault import Fault, InvalidProof
from tests.tokens import refused


@given(st.binary(max_size=40))
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    assert decode(encode(data)) == data
    assert "=" not in encode(data)


@given(st.text(st.characters(max_codepoint=0x17F), max_size=12))
def test_no_two_texts_are_the_same_bytes(text: str) -> None:
    try:
        data = decode(text)
    except InvalidProof:
        return
    assert encode(data) == text


@pytest.mark.parametrize("text", ["A", "AAAAA", "AA=", "AA==", "AB", "AAB", "+A", "/A", "A A", "AA\n", "ÀA", "\ud800A"])
def test_any_other_text_is_malformed(text: str) -> None:
    with refused(Fault.MALFORMED):
        decode(text)


def test_a_digest_is_sha_256() -> None:
    """RFC 7636, B."""
    assert digest(b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
