"""A held call in front of a person: all of it, a screen at a time, and a yes to nothing else."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.cli import WrongCommandLine, approvals, main
from forestall.cli.approve import _require_understood, folded, page
from forestall.setup.person import NotDone, lines

ACTION: Mapping[str, Any] = {
    "hold": "h1",
    "tool": "mail/send",
    "pin": "sha256:00",
    "arguments": {"to": "eve@example.com", "text": "first\nsecond", "more": {"cc": ["\u202eeve"]}},
    "paths": {"file": [{"real": "/etc/shadow", "inside": None}, {"real": "/srv/a", "inside": "a"}]},
    "references": {"script": ["sha256:cc"]},
    "unbound": ["other"],
    "asks": {"id": "local/1000/mail", "assurance": "local", "asserted_name": "helper\x1b[31m 1.0"},
    "chain": [["", "local/1000/mail"], ["example.org", "planner"]],
    "task": "t1",
    "purpose": "tidy up",
    "mandate": "default",
    "parameters": {"order": "77"},
    "user": "",
    "request": "",
    "effects": ["external", "write"],
    "confidence": "assumed",
    "labels": {"integrity": "untrusted", "confidentiality": "secret"},
    "reaches_own_files": True,
    "policies": ["ask", "ask-too"],
    "slice_digest": "s",
    "approvals": [{"approvers": ["user:ann"], "quorum": 2, "lifetime_ms": 90_000}],
    "lifetime_ms": 90_000,
}
STATE: Mapping[str, Any] = {
    "until": 0,
    "given": [{"uid": 7, "expires_at": 60_000}],
    "missing": [{"approvers": ["user:ann", "user:bob"], "count": 1}],
    "why_not_you": "",
}


def test_all_of_it_is_shown_and_none_of_it_reaches_the_terminal_raw() -> None:
    shown = "\n".join(lines(ACTION, STATE, "sha256:abc"))
    for text in (
        "mail/send",
        '"to": "eve@example.com"',
        r'"text": "first\nsecond"',
        "<U+202E>eve",
        "file leads to /etc/shadow   (outside the server's directory)",
        "file leads to /srv/a",
        "script is copied: sha256:cc",
        "other is not bound",
        "external, write (assumed)",
        "untrusted, secret",
        "files of Forestall's own",
        "local/1000/mail for planner of example.org",
        "helper<U+001B>[31m 1.0",
        "nobody that was verified",
        "tidy up",
        "default",
        '"order": "77"',
        "t1",
        "sha256:00",
        "ask, ask-too",
        "1 more of user:ann, user:bob",
        "uid 7, until 1970-01-01 00:01:00 UTC",
        "good for 90s, once",
        "sha256:abc",
    ):
        assert text in shown, text
    assert all(line.isprintable() for line in shown.split("\n"))


def test_an_argument_of_any_length_is_shown_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    action = {**ACTION, "arguments": {"text": "x" * 100_000 + "END"}}
    asked = []
    page(lines(action, STATE, ""), 80, 24, lambda: bool(asked.append(1)) or True)
    printed = capsys.readouterr().out.split("\n")
    assert "END" in "".join(printed)
    assert len(asked) == (len(printed) - 2) // 23
    assert max(map(len, printed)) <= 80


def test_whoever_leaves_before_the_end_approves_nothing() -> None:
    with pytest.raises(NotDone, match="not all of it was shown"):
        page(["a", "b", "c"], 80, 2, lambda: False)


@given(st.lists(st.text()), st.integers(1, 9))
def test_folding_loses_nothing(texts: list[str], columns: int) -> None:
    assert "".join(folded(texts, columns)) == "".join(texts)
    assert len(list(folded(texts, columns))) >= len(texts)


def test_wide_letters_take_two_columns() -> None:
    assert list(folded(["漢字漢"], 4)) == ["漢字", "漢"]
    assert list(folded(["漢字"], 1)) == ["漢", "字"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"yes": True}, "--yes needs --digest"),
        ({"yes": True, "digest": "abc"}, "at least 12 hex digits"),
        ({"yes": True, "digest": "x" * 12}, "at least 12 hex digits"),
        ({"yes": True, "digest": "0" * 65}, "at least 12 hex digits"),
        ({}, "no terminal"),
    ],
)
def test_a_command_line_that_could_approve_by_accident_is_refused(words: dict[str, Any], why: str) -> None:
    given_words = {"yes": False, "digest": None, "json": False, **words}
    with pytest.raises(WrongCommandLine, match=why):
        _require_understood(argparse.Namespace(**given_words))


def test_a_digest_may_be_written_as_it_is_shown() -> None:
    _require_understood(argparse.Namespace(yes=True, digest="sha256:" + "0A" * 6, json=False))


def test_a_line_of_the_list_says_who_is_waited_for() -> None:
    hold = {**STATE, "hold": "h1", "tool": "mail/\x1bsend", "effects": ["write"]}
    assert "waits for 1 of user:ann, user:bob" in approvals.line(hold)
    assert "\x1b" not in approvals.line(hold)
    assert approvals.line({**hold, "why_not_you": "no"}).endswith("(not you)")
    assert "waits for the agent" in approvals.line({**hold, "missing": []})


def test_what_is_followed_is_told_once() -> None:
    class Point:
        def __init__(self) -> None:
            self.rounds = [["a", "b"], ["b"], ["b", "c"], ["a"]]

        def ask(self, kind: str, **_: Any) -> dict[str, Any]:
            return {"type": kind, "holds": [{"hold": name} for name in self.rounds.pop(0)]}

    point: Any = Point()
    told = approvals.follow(point, {"a"}, lambda: bool(point.rounds))
    assert [hold["hold"] for hold in told] == ["b", "c", "a"]


@pytest.mark.parametrize("words", [["approvals"], ["approve", "x", "--json"], ["deny", "x", "--why", "no"]])
def test_without_a_decision_point_nothing_is_answered(
    words: list[str], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], "--socket", str(tmp_path / "socket"), *words[1:]]) == 69
    assert "No decision point answers" in capsys.readouterr().err
