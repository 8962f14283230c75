"""What an ask may say of content."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.core.errors import InvalidInput
from forestall.core.model import Reference
from forestall.server.frames import MAX_PATH, MAX_REFS, read_ask

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
