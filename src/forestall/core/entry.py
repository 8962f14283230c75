"""A ledger entry: what is written about a decision, and the bytes that the tree is built over.

`body` becomes the leaf, as canonical JSON, and holds no argument and no secret: only a commitment to the arguments,
SHA-256(salt || canonical arguments). `sealed` is what opens the commitment; the ledger encrypts it beside the entry.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from forestall.core.approval import Approver, binding, binding_of
from forestall.core.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, canonical, canonical_plain, digest, parse
from forestall.core.control import Command
from forestall.core.fate import Fate
from forestall.core.grant_json import grant_to_json, subject_to_json
from forestall.core.label import CLEAN, Label
from forestall.core.model import (
    NOTHING,
    Action,
    Approval,
    Deny,
    Facts,
    Grant,
    Hold,
    Lease,
    Permit,
    RealPath,
    Ruling,
    Subject,
)
from forestall.core.quantity import Quantity

FORMAT = 1
"""Version of the body's layout."""

HELD = (
    *("task", "tool", "pin", "arguments", "paths", "subject", "effects", "confidence", "seen", "reaches_own_files"),
    *("depth", "references", "unbound", "approvals", "policies", "policy_digest", "slice_digest"),
)
"""What a `held` entry says of its action, and every answer to it after it."""


class Stream(StrEnum):
    PERMITS = "permits"
    DENIALS = "denials"


class Kind(StrEnum):
    OPENED = "opened"  # a task, by its user or by delegation
    EXTENDED = "extended"  # a task
    PERMITTED = "permitted"
    SETTLED = "settled"
    CLOSED = "closed"  # a task, and all below it
    LEASED = "leased"  # a credential: written before there is one
    REVOKED = "revoked"  # a credential: nobody can use it any more
    USED = "used"  # what counts once, and was shown: proofs, assertions, tickets
    ORDERED = "ordered"  # tasks killed, suspended or resumed, or their risk, by a person or a signal
    APPROVED = "approved"  # a held action, by a person
    DECLINED = "declined"  # a held action, by a person; final for the task
    DENIED = "denied"
    HELD = "held"
    REPEATED = "repeated"  # a denial that came again, counted
    SUPPRESSED = "suppressed"  # denials beyond the quota, counted
    QUARANTINED = "quarantined"  # a tool whose definition is not the reviewed one


@dataclass(frozen=True, slots=True)
class Use:
    """Something that counts once."""

    id: str
    """A digest: nothing of what was shown."""
    by: str
    """Who showed it, as verified: whose quota it counts to."""
    until: int
    """From then on it is refused for its age alone, in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Entry:
    stream: Stream
    kind: Kind
    id: str
    """Of the decision, or of the task."""
    at: int
    body: Mapping[str, Any]
    durable: bool = True
    """Must it be on disk before the writer is answered?"""
    sealed: bytes | None = field(default=None, repr=False)
    fingerprint: str = field(default="", repr=False)
    """Equal for repetitions of one denial. Kept in memory, never written."""
    binding: str = field(default="", repr=False)
    """Of a hold: what exactly was held (`core.approval.binding`). Kept in memory, never written."""

    def leaf(self) -> bytes:
        """Canonical bytes: the record that is hashed into the tree."""
        head: dict[str, Any] = {
            "format": FORMAT,
            "stream": self.stream,
            "kind": self.kind,
            "id": self.id,
            "at": self.at,
        }
        if self.sealed is not None:
            head["sealed"] = True  # so that a payload cannot vanish unnoticed
        form = canonical_plain if self.kind in _PLAIN else canonical
        return form({**self.body, **head})


_PLAIN = frozenset({Kind.PERMITTED, Kind.SETTLED})
"""Written for every call, with names and amounts that are this program's own."""


def commitment(action: Action, form: bytes | None = None) -> str:
    """To the arguments, or to another canonical form that is sealed beside the entry with the action's salt."""
    return "sha256:" + hashlib.sha256(action.salt + (action.canonical if form is None else form)).hexdigest()


def opened(grant: Grant, subject: Subject, at: int, labels: Label = CLEAN, ruling: Ruling | None = None) -> Entry:
    """`labels`: of what its holder has seen before, or was told by the task above. `ruling`: what permitted it."""
    body = {**grant_to_json(grant), "subject": subject_to_json(subject), "seen": _label(labels), **_ruled(ruling)}
    return Entry(Stream.PERMITS, Kind.OPENED, grant.task, at, body)


def extended(
    task: str, expires_at: int, subject: Subject, at: int, ruling: Ruling, approvals: tuple[str, ...] = ()
) -> Entry:
    """`expires_at`: when the task ends from now on. `approvals`: ids of those that it uses up."""
    body = {"task": task, "expires_at": expires_at, "subject": subject_to_json(subject), **_ruled(ruling)}
    body |= {"approved_by": list(approvals)} if approvals else {}
    return Entry(Stream.PERMITS, Kind.EXTENDED, task, at, body)


def closed(task: str, why: str, at: int) -> Entry:
    """The task is over, and so is every task below it: this one entry says so of all of them."""
    return Entry(Stream.PERMITS, Kind.CLOSED, task, at, {"task": task, "why": why}, durable=False)


def ordered(command: Command, id: str, at: int) -> Entry:  # noqa: A002 - as in Entry
    target = command.target
    body = {
        "order": command.order,
        "reach": target.reach,
        "name": target.name,
        "trust_domain": target.trust_domain,
        "tenant": target.tenant,
        "why": command.why,
        "by": command.by,
        **({"level": command.level} if command.level is not None else {}),
    }
    return Entry(Stream.PERMITS, Kind.ORDERED, id, at, body)


def used(id: str, uses: Iterable[Use], at: int, *, durable: bool) -> Entry:  # noqa: A002 - as in Entry
    """`durable`: False only where an entry that has to be synced follows before anybody is answered."""
    body = {"used": [{"id": use.id, "by": use.by, "until": use.until} for use in uses]}
    return Entry(Stream.PERMITS, Kind.USED, id, at, body, durable)


def permitted(permit: Permit, action: Action, subject: Subject, facts: Facts, *, durable: bool) -> Entry:
    body, sealed = _about(action, subject, facts)
    body |= {
        "output": _label(permit.output),
        "policies": list(permit.policies),
        "policy_digest": permit.policy_digest,
        "expires_at": permit.expires_at,
        "credential": permit.credential,
    }
    if permit.approvals:
        body["approved_by"] = list(permit.approvals)
    return Entry(Stream.PERMITS, Kind.PERMITTED, permit.id, action.at, body, durable, sealed)


def settled(
    permit: Permit,
    fate: Fate,
    at: int,
    *,
    output: str = "",
    detail: str = "",
    used: Mapping[Quantity, int] = NOTHING,
    leaked: bool = False,
) -> Entry:
    """`output`: salted digest of what the tool answered. `leaked`: a credential came back in it.

    Not synced: a permit that lost it is swept as ambiguous.
    """
    body: dict[str, Any] = {
        "task": permit.task,
        "tool": permit.tool,
        "fate": fate,
        "output": output,
        "labels": _label(permit.output),
        "detail": detail,
    }
    if used:
        body["used"] = {quantity.value: min(max(amount, 0), MAX_SAFE_INTEGER) for quantity, amount in used.items()}
    if leaked:
        body["leaked"] = True
    return Entry(Stream.PERMITS, Kind.SETTLED, permit.id, at, body, durable=False)


def leased(lease: Lease, at: int) -> Entry:
    """A credential is about to come into being. What it is for, its permit and task say."""
    body = {
        "task": lease.task,
        "permit": lease.permit,
        "credential": lease.credential,
        "backend": lease.backend,
        "scope": lease.scope,
        "rights": dict(lease.rights),
        "expires_at": lease.expires_at,
        "place": None if lease.place is None else {"where": lease.place.where, "name": lease.place.name},
        "exposed": lease.exposed,
        "standing": lease.standing,
        "words": lease.words,
    }
    return Entry(Stream.PERMITS, Kind.LEASED, lease.name, at, body)


def revoked(lease: Lease, why: str, at: int) -> Entry:
    """Nobody can use it any more. Not synced: where it is lost, the credential is ended, and that written, again."""
    body = {"task": lease.task, "permit": lease.permit, "credential": lease.credential, "why": why}
    return Entry(Stream.PERMITS, Kind.REVOKED, lease.name, at, body, durable=False)


def denied(denial: Deny, action: Action, subject: Subject | None, facts: Facts | None) -> Entry:
    about, sealed = _about(action, subject, facts)
    body = {
        **about,
        "reason": denial.reason,
        "policies": list(denial.policies),
        "policy_digest": denial.policy_digest,
        "detail": denial.detail,
    }
    return Entry(Stream.DENIALS, Kind.DENIED, denial.id, action.at, body, False, sealed, _fingerprint(action, denial))


def held(hold: Hold, action: Action, subject: Subject, facts: Facts) -> Entry:
    about, sealed = _about(action, subject, facts)
    body = {
        **about,
        "reason": hold.reason,
        "approvals": [_approval(approval) for approval in hold.approvals],
        "policies": list(hold.policies),
        "policy_digest": hold.policy_digest,
        "slice_digest": hold.slice_digest,
    }
    bound = binding_of(action, facts)
    alike = f"{_fingerprint(action, hold)}\n{bound}\n{hold.slice_digest}\n{canonical_plain(_facts(facts)).decode()}"
    return Entry(Stream.DENIALS, Kind.HELD, hold.id, action.at, body, False, sealed, alike, bound)


def approved(
    hold: Mapping[str, Any], sealed: bytes, approver: Approver, name: str, *, shown: str, expires_at: int, at: int
) -> Entry:
    """`hold`: the body of what was held, and what is `sealed` beside it; `shown`: digest of what the person saw."""
    body = {**_answered(hold, approver, shown), "expires_at": expires_at}
    return Entry(Stream.PERMITS, Kind.APPROVED, name, at, body, sealed=sealed)


def declined(
    hold: Mapping[str, Any], sealed: bytes, approver: Approver, name: str, *, shown: str, why: str, at: int
) -> Entry:
    body = {**_answered(hold, approver, shown), "why": why}
    return Entry(Stream.PERMITS, Kind.DECLINED, name, at, body, sealed=sealed)


@dataclass(frozen=True, slots=True)
class Opening:
    """What was sealed beside an entry about an action."""

    arguments: Mapping[str, Any] = field(repr=False)
    paths: Mapping[str, Any] = field(repr=False)
    salt: bytes = field(repr=False)
    references: Mapping[str, Any] = field(default_factory=lambda: NOTHING, repr=False)

    @classmethod
    def read(cls, sealed: bytes) -> Opening:
        """Raises InvalidInput, KeyError, TypeError or ValueError where it is no such thing."""
        found = parse(sealed, max_bytes=len(sealed), max_depth=MAX_DEPTH + 1)
        arguments, paths, references = found["arguments"], found.get("paths", {}), found.get("references", {})
        if not all(isinstance(part, dict) for part in (arguments, paths, references)):
            raise TypeError("arguments, paths and references are objects")
        return cls(arguments, paths, base64.b64decode(found["salt"], validate=True), references)

    @property
    def commitments(self) -> dict[str, str]:
        """As the entry's body has them."""
        further = {"paths": self.paths, "references": self.references}
        forms = {"arguments": self.arguments, **{name: form for name, form in further.items() if form}}
        return {
            name: "sha256:" + hashlib.sha256(self.salt + canonical(value)).hexdigest() for name, value in forms.items()
        }

    @property
    def binding(self) -> str:
        found = {
            name: tuple(RealPath(one["real"], one["inside"]) for one in paths) for name, paths in self.paths.items()
        }
        return binding(digest(self.arguments), found, self.references)


def quarantined(id: str, task: str, tool: str, *, seen: str, reviewed: str, change: str, at: int) -> Entry:  # noqa: A002 - as in Entry
    """A tool whose definition, of the pin `seen`, is not the reviewed one. `change`: cosmetic or authority."""
    body = {"task": task, "tool": tool, "seen_pin": seen, "reviewed_pin": reviewed, "change": change}
    return Entry(Stream.DENIALS, Kind.QUARANTINED, id, at, body, durable=False)


def _about(action: Action, subject: Subject | None, facts: Facts | None) -> tuple[dict[str, Any], bytes]:
    """What every entry about an action holds, and what is sealed beside it: the openings of its commitments."""
    body = {
        "task": action.task,
        "tool": action.tool,
        "pin": action.pin,
        "arguments": commitment(action),
        "subject": subject_to_json(subject, acting=True) if subject else None,
        **(_facts(facts) if facts else {}),
    }
    sealed = b'{"arguments":' + action.canonical
    for name, form in _further(facts) if facts is not None else ():
        body[name] = commitment(action, form)
        sealed += b',"' + name.encode() + b'":' + form
    return body, sealed + b',"salt":"' + base64.b64encode(action.salt) + b'"}'


def _further(facts: Facts) -> Iterator[tuple[str, bytes]]:
    """Where paths led, and digests of content: a short content could be guessed from its own, so sealed too."""
    if facts.paths:
        yield "paths", canonical_plain(_paths(facts))
    if facts.references:
        yield "references", canonical_plain({name: list(found) for name, found in facts.references.items()})


def _facts(facts: Facts) -> dict[str, Any]:
    return {
        "effects": sorted(facts.effects),
        "confidence": facts.confidence,
        "seen": _label(facts.labels),
        "reaches_own_files": facts.reaches_own_files,
        "depth": facts.depth,
        **({"risk": facts.risk} if facts.risk is not None else {}),
        **({"posture": dict(facts.posture)} if facts.posture else {}),
        **({"unbound": list(facts.unbound)} if facts.unbound else {}),
    }


def _answered(hold: Mapping[str, Any], approver: Approver, shown: str) -> dict[str, Any]:
    """All that was held, so that the answer stands without the stream of denials."""
    return {
        **{name: hold[name] for name in HELD if name in hold},
        "hold": hold["id"],
        "uid": approver.uid,
        "names": sorted(approver.names),
        "assurance": approver.assurance,
        "shown": shown,
    }


def _label(label: Label) -> dict[str, str]:
    return {"integrity": label.integrity, "confidentiality": label.confidentiality}


def _ruled(ruling: Ruling | None) -> dict[str, Any]:
    return {} if ruling is None else {"policies": list(ruling.policies), "policy_digest": ruling.policy_digest}


def _approval(approval: Approval) -> dict[str, Any]:
    return {
        "approvers": list(approval.approvers),
        "quorum": approval.quorum,
        "lifetime_ms": approval.lifetime_ms,
    }


def _paths(facts: Facts) -> dict[str, Any]:
    """Where path arguments really led: names of the user's files, so sealed and not written in the open."""
    return {name: [{"real": path.real, "inside": path.inside} for path in paths] for name, paths in facts.paths.items()}


def _fingerprint(action: Action, decision: Deny | Hold) -> str:
    detail = decision.detail if isinstance(decision, Deny) else ""
    return f"{action.task}\n{action.tool}\n{action.digest}\n{decision.reason}\n{detail}"
