"""What a person is shown of a held action, what their yes is bound to, and when it counts.

The rules, each with a test in the same words:

 1. An approval counts for the action that was shown and for no other: task, tool, pin, arguments, where its paths lead,
    the content that it refers to.
 2. It counts under the policies that asked for it, and the requirement that they make now is met by those who approved.
 3. A quorum is of distinct persons, and nobody who asks is one of them, unless policy says `local` in so many words.
 4. It counts until it expires, and once.
 5. Effects, labels and confidence may be no worse than those that were shown.
 6. A requirement that names no approvers is met by nobody.
 7. Who declined has the last word, for as long as the task lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from forestall.core.canonical import canonical_plain, digest
from forestall.core.effects import Confidence, Effect
from forestall.core.grant_json import effects_from_json, label_from_json, subject_from_json
from forestall.core.label import Label
from forestall.core.model import NOTHING, Action, Approval, Assurance, Facts, RealPath, Ruling, Subject
from forestall.core.reason import Reason

LOCAL = "local"
"""As an approver: any person at this machine's command line, also one of the user that asks."""

OWNER = "owner"
"""As an approver: the user that the decision point runs as, who owns its home."""

HERE = frozenset({Assurance.LOCAL, Assurance.ATTESTED, Assurance.EMBEDDED})
"""Where who asks is a process of this machine, and may be of the user that approves."""


@dataclass(frozen=True, slots=True)
class Approver:
    """A person, as far as this machine can tell persons apart: by their user."""

    uid: int
    names: frozenset[str]
    """What a policy may call them: `uid:1000`, `user:ann`, `group:staff`. And `owner`."""
    assurance: Assurance = Assurance.ATTESTED

    @property
    def id(self) -> str:
        return f"uid/{self.uid}"


@dataclass(frozen=True, slots=True)
class Consent:
    """A yes, as it was recorded."""

    id: str
    approver: Approver
    expires_at: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What was shown of a held action: what a yes to it is bound to."""

    hold: str
    task: str
    tool: str
    pin: str
    slice_digest: str
    """Of the policies that asked. A reload that does not touch them voids nothing."""
    approvals: tuple[Approval, ...]
    effects: frozenset[Effect]
    confidence: Confidence
    labels: Label
    reaches_own_files: bool
    asker: Subject
    binding: str = field(default="", repr=False)
    """As `binding` has it; empty where it is not known, and then nothing counts."""

    @property
    def lifetime_ms(self) -> int:
        """Of the hold, and of each approval: the shortest that a policy which asks will have."""
        return min((approval.lifetime_ms for approval in self.approvals), default=0)


class Unfit(StrEnum):
    """Why somebody's yes to an action does not count."""

    ASKS = "asks"  # the agent runs as this user
    UNKNOWN_ASKER = "unknown_asker"  # nobody knows which user the agent runs as
    NOT_NAMED = "not_named"


def binding(
    arguments: str,
    paths: Mapping[str, tuple[RealPath, ...]],
    references: Mapping[str, Sequence[str]] = NOTHING,
) -> str:
    """Digest of what exactly would be done. `arguments`: the digest of the canonical arguments."""
    led = {name: [[path.real, path.inside] for path in found] for name, found in paths.items()}
    used = {name: list(found) for name, found in references.items()}
    parts = {"paths": canonical_plain(led).decode()} if led else {}
    parts |= {"references": canonical_plain(used).decode()} if used else {}
    return digest({"arguments": arguments, **parts})


def binding_of(action: Action, facts: Facts) -> str:
    return binding(action.digest, facts.paths, facts.references)


def judge(
    shown: Shown, consents: Iterable[Consent], asked: Action, asker: Subject, ruling: Ruling, facts: Facts
) -> tuple[str, ...] | Reason:
    """The approvals that let `asked` pass, by id; or what it is: needs_approval or approval_expired."""
    if not same(shown, asked, ruling, facts) or worse(shown, facts):
        return Reason.NEEDS_APPROVAL
    every = list(consents)
    alive = [consent for consent in every if asked.at < consent.expires_at]
    if met(ruling.approvals, alive, asker):
        return tuple(consent.id for consent in alive)
    return Reason.APPROVAL_EXPIRED if met(ruling.approvals, every, asker) else Reason.NEEDS_APPROVAL


def same(shown: Shown, asked: Action, ruling: Ruling, facts: Facts) -> bool:
    """Is this the action that was shown, under the policies that asked then? (Rules 1 and 2.)"""
    return (
        (shown.task, shown.tool, shown.pin) == (asked.task, asked.tool, asked.pin)
        and shown.binding == binding_of(asked, facts)
        and shown.slice_digest == ruling.slice_digest
    )


def worse(shown: Shown, facts: Facts) -> bool:
    """Is anything about it graver than what was shown? (Rule 5.)"""
    return (
        not facts.effects <= shown.effects
        or not facts.labels.may_flow(shown.labels)
        or _SURENESS[facts.confidence] < _SURENESS[shown.confidence]
        or (facts.reaches_own_files and not shown.reaches_own_files)
    )


def met(approvals: Sequence[Approval], consents: Sequence[Consent], asker: Subject) -> bool:
    """Does every group have its quorum of distinct persons? (Rules 3 and 6.)"""
    return bool(approvals) and all(missing(approval, consents, asker) == 0 for approval in approvals)


def missing(approval: Approval, consents: Iterable[Consent], asker: Subject) -> int:
    """How many persons more a group needs. One that names nobody never has enough."""
    counted = {one.approver.uid for one in consents if unfit(one.approver, approval, asker) is None}
    return max(0, max(1, approval.quorum) - len(counted))


def unfit(approver: Approver, approval: Approval, asker: Subject) -> Unfit | None:
    """Why this person does not count in this group; None where they do."""
    if LOCAL in approval.approvers:
        return None
    if approver.uid == asker.uid:
        return Unfit.ASKS
    if asker.uid is None and asker.assurance in HERE:
        return Unfit.UNKNOWN_ASKER
    return None if approver.names.intersection(approval.approvers) else Unfit.NOT_NAMED


def unfit_for_all(approver: Approver, shown: Shown) -> Unfit | None:
    """Why this person's yes would count in no group; None where it does in one."""
    found = [unfit(approver, approval, shown.asker) for approval in shown.approvals]
    return None if None in found else next(iter(found), Unfit.NOT_NAMED)


_SURENESS: Mapping[Confidence, int] = {confidence: rank for rank, confidence in enumerate(Confidence)}


def shown_from_json(hold: str, body: Mapping[str, Any], bound: str = "") -> Shown:
    """From the body of a `held`, `approved` or `declined` entry. Raises KeyError, TypeError, ValueError or
    AttributeError.
    """
    return Shown(
        hold=hold,
        task=str(body["task"]),
        tool=str(body["tool"]),
        pin=str(body["pin"]),
        slice_digest=str(body["slice_digest"]),
        approvals=tuple(_approval(approval) for approval in body["approvals"]),
        effects=effects_from_json(body["effects"]),
        confidence=Confidence(body["confidence"]),
        labels=label_from_json(body["seen"]),
        reaches_own_files=bool(body["reaches_own_files"]),
        asker=subject_from_json(body["subject"]),
        binding=bound,
    )


def consent_from_json(body: Mapping[str, Any]) -> Consent:
    """From the body of an `approved` entry. Raises as `shown_from_json`."""
    approver = Approver(int(body["uid"]), frozenset(map(str, body["names"])), Assurance(body["assurance"]))
    return Consent(str(body["id"]), approver, int(body["expires_at"]))


def _approval(body: Mapping[str, Any]) -> Approval:
    return Approval(tuple(map(str, body["approvers"])), int(body["quorum"]), int(body["lifetime_ms"]))
