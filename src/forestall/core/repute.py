"""How far a task is to be trusted just now, and in what posture its agent is: what a source tells, read strictly.

    at = 1795000000000                # when it was so, in milliseconds since the epoch; else when it was written
    default = "low"                   # of whom nothing is said; without it, nothing is known of them

    [[agents]]
    id = "spiffe://example.org/refunds"
    trust_domain = "example.org"
    risk = "high"
    posture = { disk = "encrypted" }

    [[users]]                         # also `tenant`
    id = "alice"
    risk = "medium"

    [[trust_domains]]
    id = "example.org"
    risk = "low"

The same as JSON: an object with these members.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.errors import InvalidInput
from forestall.core.model import NOTHING, Actor, Grant, Risk

MAX_MEMBERS = 10_000
"""Agents, users or trust domains of one document."""

MAX_TEXT = 1024
"""Characters of an id or of a value."""

_ORDER = {risk: place for place, risk in enumerate((Risk.LOW, Risk.MEDIUM, Risk.HIGH))}
_MEMBERS = {"agents": "trust_domain", "users": "tenant", "trust_domains": ""}
_KNOWN = ("at", "default", *_MEMBERS)


@dataclass(frozen=True, slots=True)
class Repute:
    """What is known. What is not there is missing, and never harmless."""

    risk: Risk | None = None
    posture: Mapping[str, str] = field(default_factory=lambda: NOTHING)


UNKNOWN = Repute()


@dataclass(frozen=True, slots=True)
class Reputes:
    """One document."""

    at: int | None = None
    default: Risk | None = None
    agents: Mapping[Actor, Repute] = field(default_factory=lambda: NOTHING)
    users: Mapping[tuple[str, str], Repute] = field(default_factory=lambda: NOTHING)
    """By tenant and id."""
    trust_domains: Mapping[str, Repute] = field(default_factory=lambda: NOTHING)

    def of(self, grant: Grant) -> Repute:
        """The highest risk of all who act in the task's chain, of their trust domains, and of the user; the posture of
        who holds it, then of its user, then of its trust domain, the first that says it.
        """
        holder = self.agents.get(grant.chain[0])
        own = [holder, self.users.get((grant.tenant, grant.user)), self.trust_domains.get(grant.trust_domain)]
        above = [self.agents.get(actor) for actor in grant.chain[1:]]
        domains = [self.trust_domains.get(domain) for domain, _ in grant.chain[1:]]
        risks = [one.risk for one in (*own, *above, *domains) if one is not None and one.risk is not None]
        posture: dict[str, str] = {}
        for one in reversed(own):
            posture |= one.posture if one is not None else {}
        return Repute(max(risks, key=_ORDER.__getitem__, default=self.default), posture)


def together(told: Iterable[Repute]) -> Repute:
    """What several sources tell: the highest risk of all. Where one of them does not know it, nor do we, unless another
    says the worst there is. No two tell of the same part of a posture.
    """
    risks: list[Risk | None] = []
    posture: dict[str, str] = {}
    for one in told:
        risks.append(one.risk)
        posture |= one.posture
    if Risk.HIGH in risks:
        return Repute(Risk.HIGH, posture)
    known = [risk for risk in risks if risk is not None]
    complete = bool(known) and len(known) == len(risks)
    return Repute(max(known, key=_ORDER.__getitem__) if complete else None, posture)


def parse_reputes(document: Any, posture: Collection[str]) -> Reputes:
    """`posture`: the parts of it that this source may tell of.

    Raises:
        InvalidInput: another form, an unknown member or word, somebody who is there twice; nothing of it counts.
    """
    if not isinstance(document, Mapping) or not set(document) <= set(_KNOWN):
        raise InvalidInput(f"A source of risk is an object of {', '.join(_KNOWN)}, and nothing else.")
    at = document.get("at")
    if at is not None and (type(at) is not int or not 0 < at <= MAX_SAFE_INTEGER):
        raise InvalidInput("`at` is in milliseconds since the epoch.")
    default = _risk(document["default"]) if "default" in document else None
    agents = _members(document, "agents", posture)
    users = _members(document, "users", posture)
    domains = {name: one for (_, name), one in _members(document, "trust_domains", posture).items()}
    return Reputes(at, default, agents, users, domains)


def _members(document: Mapping[str, Any], kind: str, posture: Collection[str]) -> dict[tuple[str, str], Repute]:
    members, beside = document.get(kind, []), _MEMBERS[kind]
    if not isinstance(members, list) or len(members) > MAX_MEMBERS:
        raise InvalidInput(f"`{kind}` is a list, of {MAX_MEMBERS} at the most.")
    found: dict[tuple[str, str], Repute] = {}
    for member in members:
        known = {"id", "risk", "posture", *([beside] if beside else [])}
        if not isinstance(member, Mapping) or not set(member) <= known or "id" not in member or len(member) < 2:
            raise InvalidInput(f"Each of `{kind}` has an `id`, a `risk` or a `posture`, and nothing unknown.")
        name = (_text(member[beside]) if beside and beside in member else "", _text(member["id"]))
        if name in found:
            raise InvalidInput(f"One of `{kind}` is there twice.")
        found[name] = Repute(
            _risk(member["risk"]) if "risk" in member else None, _posture(member.get("posture", {}), posture)
        )
    return found


def _posture(value: Any, known: Collection[str]) -> dict[str, str]:
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        raise InvalidInput(
            "`posture` is an object of what the source is said to tell, under `posture` of its [[risk]]."
        )
    return {name: _text(part) for name, part in value.items()}


def _risk(value: Any) -> Risk:
    try:
        return Risk(_text(value))
    except ValueError:
        raise InvalidInput(f"A risk is one of {', '.join(Risk)}.") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise InvalidInput(f"A name or a value is a text that prints, of {MAX_TEXT} characters at the most.")
    return value
