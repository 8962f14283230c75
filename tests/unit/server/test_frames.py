"""What an ask may say of content."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.core.errors import InvalidInput
from forestall.core.model import Reference
from forestall.server.frames import MAX_PATH, MAX_REFS, Proving, read_ask, read_prove

C = "sha256:" + "c" * 64
ASK = {"type": "ask", "id": 1, "tool": "files/run", "pin": "", "arguments": {"script": "a"}}
ONE = {"digest": C, "path": "/w/a"}


def test_an_ask_says_which_content_was_copied_from_where() -> None:
    assert read_ask(ASK).refs == {}
    assert read_ask({**ASK, "refs": {"/script": ONE}}).refs == {"/script": Reference(C, "/w/a")}


@pytest.mark.parametrize(
    "refs",
    [
        None,
        [],
        "x",
        {"/script": C},
        {"/script": {"digest": C}},
        {"/script": {**ONE, "more": 1}},
        {"/script": {**ONE, "digest": C.upper()}},
        {"/script": {**ONE, "digest": C + "\n"}},
        {"/script": {**ONE, "digest": None}},
        {"/script": {**ONE, "path": "w/a"}},
        {"/script": {**ONE, "path": "/w\0a"}},
        {"/script": {**ONE, "path": "/" * (MAX_PATH + 1)}},
        {"/script": {**ONE, "path": 7}},
        {f"/files/{number}": ONE for number in range(MAX_REFS + 1)},
    ],
)
def test_what_is_none_of_that_ends_the_connection(refs: Any) -> None:
    with pytest.raises(InvalidInput):
        read_ask({**ASK, "refs": refs})


PROVE = {"type": "prove", "id": -1, "credential": "forestall-00000000-1", "method": "POST", "url": "https://a.example/"}


def test_a_proof_is_asked_for_one_request() -> None:
    assert read_prove(PROVE).nonce is None
    assert read_prove({**PROVE, "nonce": "a~b"}) == Proving(-1, PROVE["credential"], "POST", PROVE["url"], "a~b")


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "1"},
        {"credential": None},
        {"credential": "x" * 513},
        {"method": "post"},
        {"method": "POST\r\n"},
        {"method": ""},
        {"method": None},
        {"url": None},
        {"url": "x" * 2049},
        {"nonce": 1},
        {"nonce": 'a"b'},
        {"nonce": "a\\b"},
        {"nonce": "a b"},
        {"nonce": "x" * 513},
    ],
    ids=str,
)
def test_what_is_no_request_ends_the_connection(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_prove({**PROVE, **wrong})
