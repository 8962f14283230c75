"""What stands in a leaf, what is sealed beside it, and what is in neither."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from forestall.core import entry
from forestall.core.approval import binding_of
from forestall.core.canonical import canonical
from forestall.core.effects import Effect
from forestall.core.entry import Entry, Kind, Opening, Stream
from forestall.core.fate import Fate
from forestall.core.flow import conclude
from forestall.core.model import Approval, Deny, Hold, Permit, RealPath
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.testing.world import AGENT, GRANT, NOW, PERMITTED, TOOL, action, facts

SECRET = "hunter2-hunter2"
ACTION = action({"path": "notes.md", "token": SECRET})
decided = conclude(PERMITTED, ACTION, TOOL, facts())
assert isinstance(decided, Permit)
PERMIT = decided
DENIAL = Deny(ACTION.id, Reason.FORBIDDEN, ("no-tokens",), "sha256:bundle", "for the operator")
HOLD = Hold(ACTION.id, Reason.NEEDS_APPROVAL, (Approval(("owner", "deputy"), 2, 1_000),), ("ask",), "sha256:bundle")


def entries() -> list[Entry]:
    return [
        entry.opened(replace(GRANT, budget={Effect.WRITE: 2}), AGENT, NOW),
        entry.permitted(PERMIT, ACTION, AGENT, facts(), durable=True),
        entry.settled(PERMIT, Fate.DONE, NOW + 5, output="sha256:out"),
        entry.closed(GRANT.task, "completed", NOW + 9),
        entry.denied(DENIAL, ACTION, AGENT, facts()),
        entry.denied(DENIAL, ACTION, None, None),
        entry.held(HOLD, ACTION, AGENT, facts()),
    ]


def leaf(written: Entry) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(written.leaf())
    return value


@pytest.mark.parametrize("written", entries(), ids=lambda written: written.kind)
def test_a_leaf_is_canonical_and_names_what_it_is(written: Entry) -> None:
    body = leaf(written)
    assert canonical(body) == written.leaf()
    head = {name: body[name] for name in ("format", "stream", "kind", "id", "at")}
    assert head == {
        "format": entry.FORMAT,
        "stream": written.stream.value,
        "kind": written.kind.value,
        "id": written.id,
        "at": written.at,
    }


@pytest.mark.parametrize("written", entries(), ids=lambda written: written.kind)
def test_no_argument_stands_in_a_leaf_or_in_a_repr(written: Entry) -> None:
    assert SECRET.encode() not in written.leaf()
    assert SECRET not in repr(written)
    assert base64.b64encode(ACTION.salt) not in written.leaf()


def test_a_body_cannot_pass_itself_off_as_another_entry() -> None:
    lying = Entry(Stream.DENIALS, Kind.DENIED, "d", 1, {"stream": "permits", "kind": "permitted", "id": "p", "at": 9})
    body = leaf(lying)
    assert (body["stream"], body["kind"], body["id"], body["at"]) == ("denials", "denied", "d", 1)


def test_the_commitment_is_over_the_salt_and_the_canonical_arguments() -> None:
    expected = hashlib.sha256(ACTION.salt + b'{"path":"notes.md","token":"hunter2-hunter2"}').hexdigest()
    assert entry.commitment(ACTION) == "sha256:" + expected
    assert leaf(entries()[1])["arguments"] == "sha256:" + expected


def test_the_commitment_does_not_depend_on_the_order_of_members_but_on_salt_and_values() -> None:
    turned = action({"token": SECRET, "path": "notes.md"})
    assert entry.commitment(turned) == entry.commitment(ACTION)
    assert entry.commitment(replace(ACTION, salt=b"other" * 4)) != entry.commitment(ACTION)
    assert entry.commitment(action({"path": "notes.md"})) != entry.commitment(ACTION)


@pytest.mark.parametrize("number", [1, 4, 6])
def test_what_is_sealed_opens_the_commitment(number: int) -> None:
    written = entries()[number]
    assert written.sealed is not None
    opened = json.loads(written.sealed)
    bare = hashlib.sha256(base64.b64decode(opened["salt"]) + canonical(opened["arguments"])).hexdigest()
    assert leaf(written)["arguments"] == "sha256:" + bare


def test_permits_and_outcomes_are_one_stream_and_refusals_the_other() -> None:
    assert [written.stream for written in entries()] == [Stream.PERMITS] * 4 + [Stream.DENIALS] * 3


def test_only_what_a_release_waits_for_is_synced() -> None:
    waits = {written.kind: written.durable for written in entries()}
    assert waits == {
        Kind.OPENED: True,
        Kind.PERMITTED: True,
        Kind.SETTLED: False,
        Kind.CLOSED: False,
        Kind.DENIED: False,
        Kind.HELD: False,
    }
    assert not entry.permitted(PERMIT, ACTION, AGENT, facts(), durable=False).durable


def test_a_permit_says_under_which_policy_until_when_and_for_what() -> None:
    body = leaf(entries()[1])
    assert body["policies"] == ["writes"]
    assert body["policy_digest"] == "sha256:bundle"
    assert body["expires_at"] == PERMIT.expires_at
    assert body["effects"] == ["write"]
    assert body["pin"] == TOOL.pin
    assert body["subject"] == {"id": AGENT.id, "assurance": "local", "asserted_name": "an agent"}


def test_a_denial_before_anything_was_learnt_says_so() -> None:
    body = leaf(entries()[5])
    assert body["subject"] is None
    assert body["reason"] == "forbidden"
    assert "effects" not in body


def test_a_hold_says_whose_approval_it_waits_for() -> None:
    approvals = leaf(entries()[6])["approvals"]
    assert approvals == [{"approvers": ["owner", "deputy"], "quorum": 2, "lifetime_ms": 1_000}]


def test_an_outcome_says_which_fate_and_which_labels_were_released() -> None:
    body = leaf(entries()[2])
    assert (body["fate"], body["output"]) == ("done", "sha256:out")
    assert body["labels"] == {"integrity": "trusted", "confidentiality": "public"}


def test_what_a_call_used_is_written_within_what_every_reader_can_read() -> None:
    used = {Quantity.ROWS: 3, Quantity.BYTES: -1, Quantity.SPEND: 2**60}
    body = leaf(entry.settled(PERMIT, Fate.DONE, NOW, used=used))
    assert body["used"] == {"rows": 3, "bytes": 0, "spend": 2**53 - 1}
    assert "used" not in leaf(entry.settled(PERMIT, Fate.DONE, NOW))


def test_repetitions_of_a_denial_share_a_fingerprint_that_is_not_written() -> None:
    first, again = (entry.denied(replace(DENIAL, id=id_), replace(ACTION, id=id_), AGENT, facts()) for id_ in "12")
    assert first.fingerprint == again.fingerprint != ""
    assert first.fingerprint.encode() not in first.leaf()
    for changed in (
        replace(ACTION, task="task-2"),
        replace(ACTION, tool="files/read"),
        action({"path": "other.md"}),
    ):
        assert entry.denied(DENIAL, changed, AGENT, facts()).fingerprint != first.fingerprint
    assert entry.denied(replace(DENIAL, reason=Reason.BUDGET), ACTION, AGENT, facts()).fingerprint != first.fingerprint


def test_content_is_committed_to_and_what_is_sealed_opens_it_and_the_approval_s_binding() -> None:
    digest = "sha256:" + "c" * 64
    paths = {"path": (RealPath("/w/notes.md", "notes.md"),)}
    known = replace(facts(), paths=paths, references={"path": (digest,)}, unbound=("other",))
    held = entry.held(HOLD, ACTION, AGENT, known)
    assert held.sealed is not None
    opening = Opening.read(held.sealed)
    assert opening.references == {"path": [digest]}
    assert opening.commitments == {name: leaf(held)[name] for name in ("arguments", "paths", "references")}
    assert (
        opening.binding
        == held.binding
        == binding_of(ACTION, known)
        != binding_of(ACTION, replace(known, references={}))
    )
    assert digest.encode() not in held.leaf()
    assert leaf(held)["unbound"] == ["other"]
    assert not {"references", "unbound"} & leaf(entry.held(HOLD, ACTION, AGENT, facts())).keys()
