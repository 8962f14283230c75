"""The grant of a task as a signed token (RFC 9068's shape, under a type of its own: `task-grant+jwt`).

It says who acts (`act`) for whom (`sub`) in which task (`txn`), within what scope (`authorization_details`, RFC 9396),
how far down a chain, and since which revocation epoch. It is bound to the actor's key (`cnf`), so that whoever finds it
has nothing, and it is never refreshed: a task that goes on asks to be extended, which is decided.

A closed form. What this reader does not know, no reader of ours has looked at, so that it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from forestall.core.effects import Effect
from forestall.core.grant import MAX_DEPTH
from forestall.core.label import Confidentiality
from forestall.proof.actor import ActorChain, parse_act
from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import (
    audiences,
    check_times,
    require_audience,
    require_issuer,
    require_members,
    text,
    whole,
)
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet, SigningKey
from forestall.proof.jws import sign, verify
from forestall.proof.possession import Binding, read_binding

TYPE = "task-grant+jwt"

DETAIL_TYPE = "urn:forestall:authorization:task"
"""The one type of `authorization_details` that a grant has."""

GRANT_ALGORITHMS = frozenset({Algorithm.EDDSA, Algorithm.ES256})

MAX_ENTRIES = 256
"""Tools, resources or values of one, in a scope: what still fits into a header line."""

MAX_AMOUNT = 2**53 - 1
"""The largest whole number that every reader of JSON reads alike."""

CLAIMS = frozenset(
    {
        *("iss", "sub", "aud", "client_id", "iat", "exp", "jti", "txn", "act", "authorization_details", "cnf"),
        *("epoch", "del_depth", "del_max_depth", "tenant", "trust_domain"),
    }
)
"""All of them have to be there, and nothing else."""

DETAIL_REQUIRED = frozenset({"type", "tools", "effects"})
DETAIL_OPTIONAL = frozenset({"resources", "budget", "confidentiality"})


@dataclass(frozen=True, slots=True)
class Scope:
    """What a grant covers. Its tools and effects are never empty: a grant of nothing is a mistake."""

    tools: tuple[str, ...]
    """Patterns over `server/tool`."""
    effects: frozenset[Effect]
    resources: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """By kind of resource (`order`, `repository`): the only ones there are for this task."""
    budget: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """By what is counted (an effect's calls, rows, bytes): how much the whole tree may use."""
    confidentiality: Confidentiality | None = None
    """The narrowest circle whose data it may touch; None where the grant does not limit it."""

    def to_json(self) -> dict[str, Any]:
        """The one object of `authorization_details`."""
        detail: dict[str, Any] = {
            "type": DETAIL_TYPE,
            "tools": list(self.tools),
            "effects": [effect.value for effect in Effect if effect in self.effects],
        }
        if self.resources:
            detail["resources"] = {kind: list(values) for kind, values in self.resources.items()}
        if self.budget:
            detail["budget"] = dict(self.budget)
        if self.confidentiality is not None:
            detail["confidentiality"] = self.confidentiality.value
        return detail


@dataclass(frozen=True, slots=True)
class GrantToken:
    """What a grant token says. Times are milliseconds since the epoch, of whole seconds."""

    issuer: str
    subject: str
    """The user that the task serves."""
    audience: str
    client: str
    """`client_id`: who asked for it at the token endpoint."""
    issued_at: int
    expires_at: int
    id: str
    """`jti`."""
    task: str
    """`txn`: the task, on every hop the same."""
    chain: ActorChain
    scope: Scope
    binding: Binding
    epoch: int
    """The revocation epoch it was issued in."""
    depth: int
    """Hops from the task that was opened first, whose depth is 0."""
    max_depth: int
    tenant: str
    trust_domain: str


def sign_grant(grant: GrantToken, key: SigningKey) -> str:
    """The token. What its reader would refuse is refused here.

    Raises:
        InvalidProof: as `verify_grant`, for what the grant says; CLOCK never, as nothing is compared with a clock.
        ValueError: a time that is not of whole seconds; an algorithm that grants are not signed with.
    """
    if key.algorithm not in GRANT_ALGORITHMS:
        raise ValueError("grants are signed with EdDSA or ES256")
    if grant.issued_at % 1000 or grant.expires_at % 1000:
        raise ValueError("the times of a grant token are of whole seconds")
    claims = {
        "iss": grant.issuer,
        "sub": grant.subject,
        "aud": grant.audience,
        "client_id": grant.client,
        "iat": grant.issued_at // 1000,
        "exp": grant.expires_at // 1000,
        "jti": grant.id,
        "txn": grant.task,
        "act": grant.chain.to_json(),
        "authorization_details": [grant.scope.to_json()],
        "cnf": grant.binding.to_json(),
        "epoch": grant.epoch,
        "del_depth": grant.depth,
        "del_max_depth": grant.max_depth,
        "tenant": grant.tenant,
        "trust_domain": grant.trust_domain,
    }
    _read(claims, issued_at=grant.issued_at, expires_at=grant.expires_at)
    return sign(claims, key, typ=TYPE)


def verify_grant(
    token: str | bytes,
    keys: KeySet,
    *,
    issuer: str,
    audience: str,
    tenant: str,
    trust_domain: str,
    least_epoch: int,
    now: int,
    skew_ms: int,
    max_life_ms: int,
) -> GrantToken:
    """What the grant says, if it is one of ours and still counts. That its holder presents it is still to be shown.

    Args:
        token: the compact form, as it came.
        keys: our own, those that were rotated out among them for as long as their tokens live.
        issuer: ours.
        audience: the one that is asked now.
        tenant: the one that is asked for.
        trust_domain: ours.
        least_epoch: grants of an earlier revocation epoch are dead.
        now: milliseconds since the epoch.
        skew_ms: how far the issuer's clock may be off.
        max_life_ms: no grant of ours lives longer.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED, WRONG_ISSUER, WRONG_AUDIENCE,
            WRONG_TRUST_DOMAIN, WRONG_TENANT, CLOCK, EXPIRED, TOO_LONG, NOT_BOUND, SCOPE, TOO_DEEP, CYCLE, REVOKED.
    """
    claims = verify(token, keys, algorithms=GRANT_ALGORITHMS, types=frozenset({TYPE})).claims()
    require_issuer(claims, issuer)
    require_audience(claims, audience, single=True)
    if text(claims, "trust_domain") != trust_domain:
        raise InvalidProof(Fault.WRONG_TRUST_DOMAIN)
    if text(claims, "tenant") != tenant:
        raise InvalidProof(Fault.WRONG_TENANT)
    times = check_times(claims, now=now, skew_ms=skew_ms, required=frozenset({"exp", "iat"}), max_life_ms=max_life_ms)
    assert times.issued_at is not None
    assert times.expires_at is not None
    grant = _read(claims, issued_at=times.issued_at, expires_at=times.expires_at)
    if grant.epoch < least_epoch:
        raise InvalidProof(Fault.REVOKED)
    return grant


def read_details(value: object) -> Scope:
    """The scope in `authorization_details`: exactly one object, of our type, all of whose members are known.

    Raises:
        InvalidProof: SCOPE.
    """
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        raise InvalidProof(Fault.SCOPE, "not a list of one object")
    detail: dict[str, Any] = value[0]
    if detail.get("type") != DETAIL_TYPE:
        raise InvalidProof(Fault.SCOPE, "a type that is not known here")
    if not DETAIL_REQUIRED <= set(detail) <= DETAIL_REQUIRED | DETAIL_OPTIONAL:
        raise InvalidProof(Fault.SCOPE, "a member is missing, or has no meaning here")
    resources, budget = (_object(detail, name) for name in ("resources", "budget"))
    try:
        effects = frozenset(Effect(effect) for effect in _texts(detail["effects"]))
        narrowest = Confidentiality(detail["confidentiality"]) if "confidentiality" in detail else None
    except ValueError:
        raise InvalidProof(Fault.SCOPE, "an effect or a confidentiality that does not exist") from None
    if not all(type(amount) is int and 0 <= amount <= MAX_AMOUNT for amount in budget.values()):
        raise InvalidProof(Fault.SCOPE, "an amount is not a whole number")
    return Scope(
        tools=_texts(detail["tools"]),
        effects=effects,
        resources=MappingProxyType({kind: _texts(values) for kind, values in resources.items()}),
        budget=MappingProxyType(budget),
        confidentiality=narrowest,
    )


def _read(claims: Mapping[str, Any], *, issued_at: int, expires_at: int) -> GrantToken:
    binding = read_binding(claims)  # first: `cnf` that was taken out has a fault of its own
    require_members(claims, required=CLAIMS, optional=frozenset())
    if not isinstance(claims["aud"], str):
        raise InvalidProof(Fault.MALFORMED, "`aud` is not one string")
    if expires_at <= issued_at:
        raise InvalidProof(Fault.MALFORMED, "it ends before it begins")
    chain = parse_act(claims["act"])
    depth = whole(claims, "del_depth", least=0, most=MAX_DEPTH)
    max_depth = whole(claims, "del_max_depth", least=0, most=MAX_DEPTH)
    if depth > max_depth:
        raise InvalidProof(Fault.TOO_DEEP)
    if len(chain.actors) <= depth:
        raise InvalidProof(Fault.MALFORMED, "fewer actors than hops")
    return GrantToken(
        issuer=text(claims, "iss"),
        subject=text(claims, "sub"),
        audience=audiences(claims)[0],
        client=text(claims, "client_id"),
        issued_at=issued_at,
        expires_at=expires_at,
        id=text(claims, "jti", longest=256),
        task=text(claims, "txn", longest=256),
        chain=chain,
        scope=read_details(claims["authorization_details"]),
        binding=binding,
        epoch=whole(claims, "epoch", least=0, most=MAX_AMOUNT),
        depth=depth,
        max_depth=max_depth,
        tenant=text(claims, "tenant", longest=256),
        trust_domain=text(claims, "trust_domain", longest=255),
    )


def _object(detail: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A member that may be missing; one that is there and holds nothing could mean all or none, and is refused."""
    value = detail.get(name, {})
    if not isinstance(value, dict) or not (name not in detail or 0 < len(value) <= MAX_ENTRIES) or "" in value:
        raise InvalidProof(Fault.SCOPE, f"`{name}` is not an object with members")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ENTRIES:
        raise InvalidProof(Fault.SCOPE, "not a list of strings")
    if not all(isinstance(each, str) and 0 < len(each) <= 1024 for each in value):
        raise InvalidProof(Fault.SCOPE, "not a string, an empty one, or one that is too long")
    if len(set(value)) != len(value):
        raise InvalidProof(Fault.SCOPE, "a value occurs twice")
    return tuple(value)
