"""What an ask may say of content."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.core.errors import InvalidInput
from forestall.core.model import Reference
from forestall.server.frames import MAX_PATH, MAX_REFS, Proving, read_ask, read_performed, read_prove

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


PERFORMED = {"type": "performed", "id": 1, "permit": "p", "fate": "done"}


@pytest.mark.parametrize("fate", ["done", "failed"])
def test_a_report_says_that_the_output_was_released(fate: str) -> None:
    assert not read_performed(PERFORMED).released
    assert read_performed({**PERFORMED, "fate": fate, "released": True}).released


@pytest.mark.parametrize(
    "wrong",
    [
        {"released": 1},
        {"released": "true"},
        {"released": None},
        {"released": True, "leaked": True},
        {"released": True, "fate": "ambiguous"},
        {"released": True, "fate": "not_started"},
    ],
    ids=str,
)
def test_what_cannot_have_been_released_ends_the_connection(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_performed({**PERFORMED, **wrong})
