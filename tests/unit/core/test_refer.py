"""Content that a call refers to: when it is bound, and what a permit for it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.canonical import digest
from forestall.core.model import Approval, Decision, RealPath, Reference
from forestall.core.reason import Reason
from forestall.core.refer import bound_digest, by_pointer, held_if_unbound, with_references
from forestall.testing.world import PERMITTED, TOOL, action, facts

C, D = "sha256:" + "c" * 64, "sha256:" + "d" * 64
SENDS = replace(TOOL, control=frozenset({"script", "files"}), references=frozenset({"script", "files"}))


def known(arguments: dict[str, Any], refs: dict[str, Reference], **paths: list[str]) -> Any:
    led = {name: tuple(RealPath(real) for real in found) for name, found in paths.items()}
    return with_references(replace(facts(SENDS), paths=led), SENDS, action(arguments, refs=refs))


def test_what_was_copied_from_where_the_path_leads_is_bound() -> None:
    found = known({"script": "a.py", "text": "b"}, {"/script": Reference(C, "/w/a.py")}, script=["/w/a.py"])
    assert (dict(found.references), found.unbound) == ({"script": (C,)}, ())
    refs = {"/files/0": Reference(C, "/w/a"), "/files/1": Reference(D, "/w/b")}
    found = known({"files": ["a", "b"]}, refs, files=["/w/a", "/w/b"])
    assert (dict(found.references), found.unbound) == ({"files": (C, D)}, ())


@pytest.mark.parametrize(
    ("arguments", "refs", "paths"),
    [
        ({"script": "a.py"}, {}, {"script": ["/w/a.py"]}),
        ({"script": "a.py"}, {"/script": Reference(C, "/etc/shadow")}, {"script": ["/w/a.py"]}),
        ({"script": "a.py"}, {"/script": Reference(C, "/w/a.py")}, {}),
        ({"script": {"path": "a.py"}}, {"/script": Reference(C, "/w/a.py")}, {}),
        ({"script": 7}, {}, {}),
        ({"script": ["a.py", 7]}, {"/script/0": Reference(C, "/w/a.py")}, {"script": ["/w/a.py"]}),
        ({"files": ["a", "b"]}, {"/files/0": Reference(C, "/w/a")}, {"files": ["/w/a", "/w/b"]}),
        ({"files": ["a", "b"]}, {"/files/0": Reference(C, "/w/a")}, {"files": ["/w/a"]}),
        ({"Script": "a.py"}, {"/Script": Reference(C, "/w/a.py")}, {"Script": ["/w/a.py"]}),
    ],
    ids=["no copy", "of another file", "path unknown", "object", "number", "mixed", "one of two", "fewer", "case"],
)
def test_everything_else_is_unbound(arguments: Any, refs: Any, paths: Any) -> None:
    found = known(arguments, refs, **paths)
    assert found.unbound == tuple(arguments)
    assert not found.references


def test_nothing_that_is_named_is_nothing_to_bind() -> None:
    for arguments in ({}, {"script": None}, {"files": []}, {"text": "a.py"}):
        found = known(arguments, {})
        assert (dict(found.references), found.unbound) == ({}, ()) or found.references == {"files": ()}


def test_what_is_unbound_is_held_whatever_permits_it_and_permitted_by_nobody_but_a_person() -> None:
    loose = known({"script": "a.py"}, {})
    held = held_if_unbound(PERMITTED, loose)
    assert (held.decision, held.reason) == (Decision.HOLD, Reason.NEEDS_APPROVAL)
    assert held.approvals == (Approval(("owner",)),)
    assert replace(held, decision=PERMITTED.decision, reason=PERMITTED.reason, approvals=()) == PERMITTED
    assert held_if_unbound(PERMITTED, facts()) is PERMITTED
    for other in (
        replace(PERMITTED, decision=Decision.DENY),
        replace(PERMITTED, decision=Decision.HOLD, approvals=(Approval(("local",)),)),
        replace(PERMITTED, policies=()),
    ):
        assert held_if_unbound(other, loose) is other


def test_a_bound_name_stands_as_the_digest_of_its_content() -> None:
    arguments = {"script": "a.py", "files": ["a", "b"], "text": "a.py"}
    refs = by_pointer(arguments, {"script": (C,), "files": (C, D)})
    assert refs == {"/script": C, "/files/0": C, "/files/1": D}
    stands = {"script": {"ref": C}, "files": [{"ref": C}, {"ref": D}], "text": "a.py"}
    assert bound_digest(arguments, refs) == digest(stands)
    assert arguments["files"] == ["a", "b"]
