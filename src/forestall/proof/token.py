"""The grant of a task as a signed token (RFC 9068's shape, under a type of its own: `task-grant+jwt`).

It says all that the recorded grant says: who acts (`act`) for whom (`sub`) in which task of which tree (`task`, `txn`),
within what (`authorization_details`, RFC 9396), how far down a chain. It is bound to the holder's key (`cnf`), so that
whoever finds it has nothing, and it is never refreshed: a task that goes on asks to be extended, which is decided.

It proves nothing that the log does not say. Whoever takes one ends with `require_recorded`: the grant as it is recorded
is what counts, and a token that says anything else is refused.

A closed form. What this reader does not know, no reader of ours has looked at, so that it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.effects import Effect
from forestall.core.grant import MAX_DEPTH
from forestall.core.grant_json import counted_from_json, resource_from_json, resource_to_json
from forestall.core.label import Confidentiality
from forestall.core.model import Assurance, Counted, Grant, Resource
from forestall.core.quantity import Quantity
from forestall.proof.actor import Actor, ActorChain, parse_act
from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import (
    MAX_TEXT,
    audiences,
    check_times,
    optional_text,
    require_audience,
    require_issuer,
    require_members,
    text,
    whole,
)
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet, SigningKey
from forestall.proof.jws import MAX_TOKEN, sign, verify
from forestall.proof.possession import Binding, read_binding

TYPE = "task-grant+jwt"

DETAIL_TYPE = "urn:forestall:authorization:task"
"""The one type of `authorization_details` that a grant has."""

GRANT_ALGORITHMS = frozenset({Algorithm.EDDSA, Algorithm.ES256})

MAX_ENTRIES = 256
"""Tools, resources, parameters or parts of one value."""

CLAIMS = frozenset(
    {
        *("iss", "sub", "aud", "client_id", "iat", "exp", "jti", "txn", "task", "act", "authorization_details", "cnf"),
        *("epoch", "assurance", "del_depth", "del_max_depth", "tenant", "trust_domain"),
    }
)
"""All of them have to be there."""

OPTIONAL_CLAIMS = frozenset({"parent", "instance"})
"""And nothing else may."""

DETAIL_REQUIRED = frozenset({"type", "mandate", "purpose", "tools", "effects"})
DETAIL_OPTIONAL = frozenset(
    {"resources", "budget", "per_call", "confidentiality", "parameters", "request", "longest_at"}
)


@dataclass(frozen=True, slots=True)
class GrantToken:
    """What a grant token says. Times are milliseconds since the epoch, of whole seconds."""

    issuer: str
    audience: str
    issued_at: int
    id: str
    """`jti`."""
    epoch: int
    """How many orders had been taken in when it was issued. For the record: what counts is how things stand now."""
    assurance: Assurance
    """How its holder was verified when the grant was given."""
    grant: Grant
    """Bound to a key, and of a trust domain. It ends at the beginning of the second in which the recorded one does."""

    @property
    def expires_at(self) -> int:
        return self.grant.expires_at


def sign_grant(token: GrantToken, key: SigningKey) -> str:
    """The token. What its reader would refuse is refused here.

    Raises:
        InvalidProof: as `verify_grant`, for what the token says; TOO_LARGE, where nobody would read it.
        ValueError: a time of issue that is not of whole seconds; an algorithm that grants are not signed with.
    """
    if key.algorithm not in GRANT_ALGORITHMS:
        raise ValueError("grants are signed with EdDSA or ES256")
    if token.issued_at % 1000:
        raise ValueError("the times of a grant token are of whole seconds")
    said = replace(token, grant=to_the_second(token.grant))
    claims = _claims(said)
    if _read(claims, issued_at=said.issued_at, expires_at=said.expires_at) != said:
        raise InvalidProof(Fault.MALFORMED, "the grant says what no token can")
    signed = sign(claims, key, typ=TYPE)
    if len(signed) > MAX_TOKEN:
        raise InvalidProof(Fault.TOO_LARGE, f"the grant's token would have {len(signed)} bytes")
    return signed


def verify_grant(
    token: str | bytes,
    keys: KeySet,
    *,
    issuer: str,
    audience: str,
    tenants: Mapping[str, str],
    now: int,
    skew_ms: int,
    max_life_ms: int,
) -> GrantToken:
    """What the token says, if it is one of ours. It counts for nothing yet: its holder's proof and `require_recorded`
    are still to come.

    Args:
        token: the compact form, as it came.
        keys: our own, those that were rotated out among them for as long as their tokens live.
        issuer: ours.
        audience: the one that is asked now.
        tenants: of the trust domains whose workloads may ask now, by their names.
        now: milliseconds since the epoch.
        skew_ms: how far the issuer's clock may be off.
        max_life_ms: no grant of ours lives longer.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED, WRONG_ISSUER, WRONG_AUDIENCE,
            WRONG_TRUST_DOMAIN, WRONG_TENANT, CLOCK, EXPIRED, TOO_LONG, NOT_BOUND, SCOPE, TOO_DEEP, CYCLE.
    """
    claims = verify(token, keys, algorithms=GRANT_ALGORITHMS, types=frozenset({TYPE})).claims()
    require_issuer(claims, issuer)
    require_audience(claims, audience, single=True)
    trust_domain, tenant = text(claims, "trust_domain"), text(claims, "tenant")
    if trust_domain not in tenants:
        raise InvalidProof(Fault.WRONG_TRUST_DOMAIN)
    if tenant != tenants[trust_domain]:
        raise InvalidProof(Fault.WRONG_TENANT)
    times = check_times(claims, now=now, skew_ms=skew_ms, required=frozenset({"exp", "iat"}), max_life_ms=max_life_ms)
    assert times.issued_at is not None
    assert times.expires_at is not None
    return _read(claims, issued_at=times.issued_at, expires_at=times.expires_at)


def require_recorded(token: GrantToken, recorded: Grant | None) -> Grant:
    """The grant as it is recorded, where the token says just that. One that was extended since may be said to end
    earlier.

    `recorded`: the open task that the token names; None where it is not open any more.

    Raises:
        InvalidProof: ENDED; UNLIKE_RECORD.
    """
    if recorded is None:
        raise InvalidProof(Fault.ENDED)
    if token.grant.expires_at > recorded.expires_at:
        raise InvalidProof(Fault.UNLIKE_RECORD, "it ends after the recorded grant does")
    if replace(token.grant, expires_at=recorded.expires_at) != recorded:
        raise InvalidProof(Fault.UNLIKE_RECORD, "it says something else than the recorded grant")
    return recorded


def to_the_second(grant: Grant) -> Grant:
    """As a token can say it: a token that ends after the grant would promise too much."""
    return replace(grant, expires_at=grant.expires_at - grant.expires_at % 1000)


def details_of(grant: Grant) -> dict[str, Any]:
    """The one object of `authorization_details`."""
    optional = {
        "resources": [resource_to_json(resource) for resource in grant.resources],
        "budget": {counted.value: limit for counted, limit in grant.budget.items()},
        "per_call": {quantity.value: limit for quantity, limit in grant.per_call.items()},
        "confidentiality": grant.ceiling.value if grant.ceiling is not None else "",
        "parameters": dict(grant.parameters),
        "request": grant.request,
        "longest_at": grant.longest_at,
    }
    return {
        "type": DETAIL_TYPE,
        "mandate": grant.mandate,
        "purpose": grant.purpose,
        "tools": list(grant.tools),
        "effects": [effect.value for effect in Effect if effect in grant.effects],
        **{name: value for name, value in optional.items() if value},
    }


def binding_of(key: str) -> Binding:
    """`cnf` for `Grant.key`. Raises InvalidProof: NOT_BOUND."""
    kind, _, name = key.partition(":")
    value = name or None
    return Binding(key=value if kind == "jkt" else None, certificate=value if kind == "x5t#S256" else None)


def key_of(binding: Binding) -> str:
    """`Grant.key` for `cnf`."""
    return f"jkt:{binding.key}" if binding.key is not None else f"x5t#S256:{binding.certificate}"


def _claims(token: GrantToken) -> dict[str, Any]:
    grant = token.grant
    chain = ActorChain(tuple(Actor(issuer, subject) for issuer, subject in grant.chain))
    optional = {"parent": grant.parent, "instance": grant.instance}
    return {
        "iss": token.issuer,
        "sub": grant.user or grant.holder,
        "aud": token.audience,
        "client_id": grant.holder,
        "iat": token.issued_at // 1000,
        "exp": grant.expires_at // 1000,
        "jti": token.id,
        "txn": grant.tree,
        "task": grant.task,
        "act": chain.to_json(),
        "authorization_details": [details_of(grant)],
        "cnf": binding_of(grant.key).to_json(),
        "epoch": token.epoch,
        "assurance": token.assurance.value,
        "del_depth": grant.depth,
        "del_max_depth": grant.max_depth,
        "tenant": grant.tenant,
        "trust_domain": grant.trust_domain,
        **{name: value for name, value in optional.items() if value},
    }


def _read(claims: Mapping[str, Any], *, issued_at: int, expires_at: int) -> GrantToken:
    binding = read_binding(claims)  # first: `cnf` that was taken out has a fault of its own
    require_members(claims, required=CLAIMS, optional=OPTIONAL_CLAIMS)
    if not isinstance(claims["aud"], str):
        raise InvalidProof(Fault.MALFORMED, "`aud` is not one string")
    if expires_at <= issued_at:
        raise InvalidProof(Fault.MALFORMED, "it ends before it begins")
    try:
        assurance = Assurance(text(claims, "assurance"))
    except ValueError:
        raise InvalidProof(Fault.MALFORMED, "`assurance` is none that there is") from None
    return GrantToken(
        issuer=text(claims, "iss"),
        audience=audiences(claims)[0],
        issued_at=issued_at,
        id=text(claims, "jti", longest=256),
        epoch=whole(claims, "epoch", least=0, most=MAX_SAFE_INTEGER),
        assurance=assurance,
        grant=_grant(claims, expires_at, key_of(binding)),
    )


def _grant(claims: Mapping[str, Any], expires_at: int, key: str) -> Grant:
    depth, max_depth = (whole(claims, name, least=0, most=MAX_DEPTH) for name in ("del_depth", "del_max_depth"))
    if depth > max_depth:
        raise InvalidProof(Fault.TOO_DEEP)
    task, tree = text(claims, "task", longest=256), text(claims, "txn", longest=256)
    parent, holder, who = optional_text(claims, "parent") or "", text(claims, "client_id"), text(claims, "sub")
    if bool(parent) is not bool(depth) or (tree == task) is not (depth == 0):
        raise InvalidProof(Fault.MALFORMED, "its place in the tree is none")
    trust_domain = text(claims, "trust_domain", longest=255)
    detail = read_details(claims["authorization_details"])
    return replace(
        detail,
        task=task,
        holder=holder,
        expires_at=expires_at,
        depth=depth,
        max_depth=max_depth,
        parent=parent,
        root="" if tree == task else tree,
        actors=_actors(parse_act(claims["act"]), depth, (trust_domain, holder)),
        tenant=text(claims, "tenant", longest=256),
        trust_domain=trust_domain,
        instance=optional_text(claims, "instance") or "",
        user="" if who == holder else who,
        key=key,
    )


def _actors(chain: ActorChain, depth: int, holder: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """As `Grant.actors` has them: none where the holder acts for nobody."""
    if chain.current.pair != holder:
        raise InvalidProof(Fault.MALFORMED, "who acts is not the holder")
    if len(chain.actors) != depth + 1:
        raise InvalidProof(Fault.MALFORMED, "another number of actors than of hops")
    return tuple(actor.pair for actor in chain.actors) if depth else ()


def read_details(value: object) -> Grant:
    """What `authorization_details` says of a grant, whose other fields are empty: exactly one object, of our type, all
    of whose members are known.

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
    try:
        return _details(detail)
    except (ValueError, KeyError, TypeError):
        raise InvalidProof(Fault.SCOPE, "an effect, a quantity, a bound or a level that is none") from None


def _details(detail: Mapping[str, Any]) -> Grant:
    budget: dict[Counted, int] = {counted_from_json(name): limit for name, limit in _amounts(detail, "budget").items()}
    return Grant(
        task="",
        holder="",
        expires_at=0,
        purpose=_text(detail["purpose"]),
        mandate=_text(detail["mandate"]),
        tools=tuple(map(_text, _list(detail["tools"]))),
        effects=frozenset(Effect(_text(effect)) for effect in _list(detail["effects"])),
        budget=budget,
        per_call={Quantity(name): limit for name, limit in _amounts(detail, "per_call").items()},
        request=_text(detail["request"]) if "request" in detail else "",
        parameters={name: _text(value) for name, value in _object(detail, "parameters").items()},
        resources=tuple(map(_resource, _list(detail["resources"]))) if "resources" in detail else (),
        ceiling=Confidentiality(_text(detail["confidentiality"])) if "confidentiality" in detail else None,
        longest_at=_amount(detail["longest_at"], least=1) if "longest_at" in detail else 0,
    )


def _resource(value: object) -> Resource:
    if not isinstance(value, dict) or set(value) != {"tool", "argument", "value"}:
        raise InvalidProof(Fault.SCOPE, "a resource is a tool, an argument and the parts of its value")
    _text(value["tool"])
    _text(value["argument"])
    _list(value["value"])
    return resource_from_json(value)


def _amounts(detail: Mapping[str, Any], name: str) -> dict[str, int]:
    return {counted: _amount(amount) for counted, amount in _object(detail, name).items()}


def _amount(value: object, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_SAFE_INTEGER:
        raise InvalidProof(Fault.SCOPE, "an amount is not a whole number")
    return value


def _object(detail: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A member that may be missing; one that is there and holds nothing could mean all or none, and is refused."""
    value = detail.get(name, {})
    if not isinstance(value, dict) or not (name not in detail or 0 < len(value) <= MAX_ENTRIES) or "" in value:
        raise InvalidProof(Fault.SCOPE, f"`{name}` is not an object with members")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ENTRIES:
        raise InvalidProof(Fault.SCOPE, "not a list with members")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise InvalidProof(Fault.SCOPE, "not a string, an empty one, or one that is too long")
    return value
