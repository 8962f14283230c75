"""Whom a security event is about (RFC 9493; Shared Signals 1.0, 3): subject identifiers, each format a value.

A format that is not known here is refused, and with it the event: what it revokes nobody here could find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from forestall.proof.claims import require_members, text
from forestall.proof.fault import Fault, InvalidProof


@dataclass(frozen=True, slots=True)
class IssuerSubject:
    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Email:
    address: str
    """As sent: which letters count alike is the mail host's to say."""


@dataclass(frozen=True, slots=True)
class Opaque:
    id: str


@dataclass(frozen=True, slots=True)
class Uri:
    uri: str


SimpleSubject = IssuerSubject | Email | Opaque | Uri


@dataclass(frozen=True, slots=True)
class Complex:
    """All of `members` at once: this user on that device. Never empty, as what is not named is a wildcard."""

    members: Mapping[str, SimpleSubject]
    """By `user`, `device`, `session`, `application`, `tenant`, `org_unit` or `group`."""


SubjectId = SimpleSubject | Complex

PARTS = frozenset({"user", "device", "session", "application", "tenant", "org_unit", "group"})

MEMBERS = {
    "iss_sub": ("iss", "sub"),
    "email": ("email",),
    "opaque": ("id",),
    "uri": ("uri",),
}


def parse_subject(value: object) -> SubjectId:
    """The subject in `sub_id`. Raises InvalidProof: MALFORMED; also for a format that is not known here."""
    if not isinstance(value, dict):
        raise InvalidProof(Fault.MALFORMED, "a subject is not an object")
    if value.get("format") != "complex":
        return _simple(value)
    parts = {name: part for name, part in value.items() if name != "format"}
    if not parts or not PARTS.issuperset(parts):
        raise InvalidProof(Fault.MALFORMED, "a complex subject names nothing, or what is not known here")
    return Complex(MappingProxyType({name: _simple(part) for name, part in parts.items()}))


def _simple(value: object) -> SimpleSubject:
    members: dict[str, Any] = value if isinstance(value, dict) else {}
    kind = members.get("format")
    names = MEMBERS.get(kind) if isinstance(kind, str) else None
    if names is None:
        raise InvalidProof(Fault.MALFORMED, "a subject's format is not known here")
    require_members(members, required=frozenset({"format", *names}), optional=frozenset())
    texts = [text(members, name) for name in names]
    match kind:
        case "iss_sub":
            return IssuerSubject(texts[0], texts[1])
        case "email":
            return Email(texts[0])
        case "opaque":
            return Opaque(texts[0])
        case _:
            return Uri(texts[0])
