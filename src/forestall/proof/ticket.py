"""A task on its way to another agent: the ticket that its holder asks for, and that the receiver changes for a grant.

It says who hands on, which task, to whom, and how much of it. It grants nothing: whether the task may be handed on is
decided when the receiver comes with it, with an identity and a key of its own. It lives for a minute and counts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.errors import InvalidInput
from forestall.core.model import Assurance, Json, Subject
from forestall.core.wanted import parse_wanted
from forestall.proof.claims import (
    check_times,
    optional_text,
    require_audience,
    require_issuer,
    require_members,
    text,
)
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet, SigningKey
from forestall.proof.jws import MAX_TOKEN, sign, verify
from forestall.proof.once import Once, once
from forestall.proof.token import GRANT_ALGORITHMS

TYPE = "task-delegation+jwt"

TOKEN_TYPE = "urn:forestall:token-type:delegation"  # noqa: S105 - no password
"""What a holder requests, and a receiver presents (RFC 8693, 3)."""

DETAIL_TYPE = "urn:forestall:authorization:delegation"

LIFE_MS = 60_000
"""A minute: what it takes to hand it over."""

CLAIMS = frozenset({"iss", "aud", "iat", "exp", "jti", "txn", "task", "by", "sub", "authorization_details"})
BY_REQUIRED, BY_OPTIONAL = frozenset({"id", "assurance", "tenant", "trust_domain", "key"}), frozenset({"instance"})


@dataclass(frozen=True, slots=True)
class Ticket:
    """Times are milliseconds since the epoch, of whole seconds."""

    issuer: str
    id: str
    """`jti`: names the delegation, in the log too."""
    issued_at: int
    tree: str
    task: str
    """The one that is handed on."""
    by: Subject
    """Who hands it on, as it was verified then."""
    arguments: Mapping[str, Json] = field(repr=False)
    """Of `forestall/delegate`: who is to hold it, and how much of it."""
    life_ms: int = LIFE_MS

    @property
    def to(self) -> str:
        return str(self.arguments["to"])

    @property
    def expires_at(self) -> int:
        return self.issued_at + self.life_ms

    @property
    def once(self) -> Once:
        return once("delegation", self.issuer, self.id, until=self.expires_at + 1)


def sign_ticket(ticket: Ticket, key: SigningKey) -> str:
    """Raises InvalidProof: TOO_LARGE; ValueError, for a time that is not of whole seconds."""
    if ticket.issued_at % 1000 or ticket.life_ms % 1000 or ticket.life_ms <= 0:
        raise ValueError("the times of a ticket are of whole seconds")
    by = ticket.by
    optional = {"instance": by.instance} if by.instance else {}
    claims = {
        "iss": ticket.issuer,
        "aud": ticket.issuer,
        "iat": ticket.issued_at // 1000,
        "exp": ticket.expires_at // 1000,
        "jti": ticket.id,
        "txn": ticket.tree,
        "task": ticket.task,
        "by": {
            "id": by.id,
            "assurance": by.assurance.value,
            "tenant": by.tenant,
            "trust_domain": by.trust_domain,
            "key": by.key,
            **optional,
        },
        "sub": ticket.to,
        "authorization_details": [{"type": DETAIL_TYPE, **ticket.arguments}],
    }
    signed = sign(claims, key, typ=TYPE)
    if len(signed) > MAX_TOKEN:
        raise InvalidProof(Fault.TOO_LARGE, f"the ticket would have {len(signed)} bytes")
    return signed


def verify_ticket(token: str | bytes, keys: KeySet, *, issuer: str, receiver: str, now: int) -> Ticket:
    """The ticket, where it is one of ours for this receiver. Good only after its `once` was burnt.

    Args:
        token: the compact form, as it came.
        keys: our own.
        issuer: ours, which is its audience too.
        receiver: the id of who presents it, authenticated by other means.
        now: milliseconds since the epoch.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED, WRONG_ISSUER, WRONG_AUDIENCE, CLOCK,
            EXPIRED, TOO_LONG, SCOPE; WRONG_SUBJECT, where it is for another.
    """
    claims = verify(token, keys, algorithms=GRANT_ALGORITHMS, types=frozenset({TYPE})).claims()
    require_issuer(claims, issuer)
    require_audience(claims, issuer, single=True)
    require_members(claims, required=CLAIMS, optional=frozenset())
    required = frozenset({"exp", "iat"})
    times = check_times(claims, now=now, skew_ms=0, required=required, max_life_ms=LIFE_MS)
    assert times.issued_at is not None
    assert times.expires_at is not None
    if text(claims, "sub") != receiver:
        raise InvalidProof(Fault.WRONG_SUBJECT, "the ticket is for another agent")
    arguments = read_handing_on(claims["authorization_details"])
    if arguments["to"] != receiver:
        raise InvalidProof(Fault.WRONG_SUBJECT, "the ticket says two receivers")
    return Ticket(
        issuer=issuer,
        id=text(claims, "jti", longest=256),
        issued_at=times.issued_at,
        tree=text(claims, "txn", longest=256),
        task=text(claims, "task", longest=256),
        by=_by(claims["by"]),
        arguments=arguments,
        life_ms=times.expires_at - times.issued_at,
    )


def read_handing_on(value: object) -> dict[str, Json]:
    """The arguments of `forestall/delegate` in `authorization_details`: one object of the type of delegations.

    Raises:
        InvalidProof: SCOPE.
    """
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        raise InvalidProof(Fault.SCOPE, "not a list of one object")
    arguments: dict[str, Json] = dict(value[0])
    if arguments.pop("type", None) != DETAIL_TYPE:
        raise InvalidProof(Fault.SCOPE, "a type that is not known here")
    try:
        parse_wanted(arguments)
    except InvalidInput as error:
        raise InvalidProof(Fault.SCOPE, str(error)) from None
    return arguments


def _by(value: Any) -> Subject:
    if not isinstance(value, dict):
        raise InvalidProof(Fault.MALFORMED, "`by` is not an object")
    require_members(value, required=BY_REQUIRED, optional=BY_OPTIONAL)
    try:
        assurance = Assurance(text(value, "assurance"))
    except ValueError:
        raise InvalidProof(Fault.MALFORMED, "`assurance` is none that there is") from None
    return Subject(
        text(value, "id"),
        assurance,
        instance=optional_text(value, "instance") or "",
        tenant=text(value, "tenant"),
        trust_domain=text(value, "trust_domain"),
        key=text(value, "key"),
    )
