"""Security events (RFC 8417) as Shared Signals and CAEP 1.0 send them: what happened, to whom, as a frozen value.

Exactly one event to a token. Which task or grant the subject stands for is the caller's to find; so is burning `once`,
as a transmitter sends an event again until it was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import (
    check_times,
    optional_text,
    optional_time,
    require_audience,
    require_issuer,
    require_members,
    text,
)
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet
from forestall.proof.jws import verify
from forestall.proof.once import Once, once
from forestall.proof.subject import SubjectId, parse_subject

TYPE = "secevent+jwt"

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"

CLAIMS_REQUIRED = frozenset({"iss", "aud", "jti", "iat", "events", "sub_id"})
CLAIMS_OPTIONAL = frozenset({"txn", "toe", "nbf"})
"""Neither `sub` nor `exp` (CAEP interoperability; RFC 8417, 2.2): an event never passes for another kind of token."""


class Change(StrEnum):
    CREATE = "create"
    REVOKE = "revoke"
    UPDATE = "update"
    DELETE = "delete"


class Level(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


@dataclass(frozen=True, slots=True)
class SessionRevoked:
    """The subject's sessions have ended (CAEP 3.1)."""


@dataclass(frozen=True, slots=True)
class CredentialChange:
    """One of the subject's credentials was made, changed or taken away (CAEP 3.3)."""

    credential: str
    """`password`, `x509`, `fido2-roaming` and so on: an open list."""
    change: Change
    x509_issuer: str | None = None
    x509_serial: str | None = None
    fido2_aaguid: str | None = None


@dataclass(frozen=True, slots=True)
class RiskLevelChange:
    """How dangerous the transmitter takes the subject to be (CAEP 3.8)."""

    principal: str
    """`USER`, `DEVICE`, `SESSION`, `TENANT` and so on."""
    current: Level
    previous: Level | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The stream works (SSF 8.1.4.1). `state` is what the receiver had asked with."""

    state: str | None = None


Event = SessionRevoked | CredentialChange | RiskLevelChange | Verification


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """Times are milliseconds since the epoch."""

    issuer: str
    id: str
    """`jti`."""
    issued_at: int
    subject: SubjectId
    event: Event
    once: Once
    occurred_at: int | None = None
    """`event_timestamp`."""
    initiator: str | None = None
    """`admin`, `user`, `policy` or `system`."""
    transaction: str | None = None
    """`txn`: the same for all events of one cause."""


def verify_event(
    token: str | bytes,
    keys: KeySet,
    *,
    issuer: str,
    audience: str,
    now: int,
    skew_ms: int,
    max_age_ms: int,
    algorithms: frozenset[Algorithm] = frozenset({Algorithm.RS256}),
) -> SecurityEvent:
    """What the transmitter says has happened.

    Args:
        token: the compact form, as it came.
        keys: the transmitter's.
        issuer: the stream's.
        audience: ours.
        now: milliseconds since the epoch.
        skew_ms: how far the transmitter's clock may be off.
        max_age_ms: how long after its cause an event is still taken; it is remembered for as long.
        algorithms: RS256 is what the CAEP interoperability profile asks for.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED, WRONG_ISSUER, WRONG_AUDIENCE, CLOCK,
            TOO_OLD, NOT_YET_VALID; UNKNOWN_EVENT, where the form is good and the event is none of those above.
    """
    claims = verify(token, keys, algorithms=algorithms, types=frozenset({TYPE})).claims()
    require_issuer(claims, issuer)
    require_audience(claims, audience, single=False)
    require_members(claims, required=CLAIMS_REQUIRED, optional=CLAIMS_OPTIONAL)
    times = check_times(claims, now=now, skew_ms=skew_ms, required=frozenset({"iat"}), max_age_ms=max_age_ms)
    assert times.issued_at is not None
    jti = text(claims, "jti", longest=256)
    kind, body = _only(claims["events"])
    return SecurityEvent(
        issuer=issuer,
        id=jti,
        issued_at=times.issued_at,
        subject=parse_subject(claims["sub_id"]),
        event=_event(kind, body),
        once=once("set", issuer, jti, until=times.issued_at + max_age_ms + skew_ms + 1),
        occurred_at=optional_time(body, "event_timestamp"),
        initiator=optional_text(body, "initiating_entity", longest=64),
        transaction=optional_text(claims, "txn", longest=256),
    )


def _only(events: object) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(events, dict) or len(events) != 1:
        raise InvalidProof(Fault.MALFORMED, "not exactly one event")
    ((kind, body),) = events.items()
    if not isinstance(body, dict):
        raise InvalidProof(Fault.MALFORMED, "an event is not an object")
    return kind, body


def _event(kind: str, body: Mapping[str, Any]) -> Event:
    reader = READERS.get(kind)
    if reader is None:
        raise InvalidProof(Fault.UNKNOWN_EVENT)
    try:
        return reader(body)
    except ValueError:
        raise InvalidProof(Fault.MALFORMED, "an event has a value that does not exist") from None


def _credential_change(body: Mapping[str, Any]) -> CredentialChange:
    return CredentialChange(
        credential=text(body, "credential_type", longest=64),
        change=Change(text(body, "change_type")),
        x509_issuer=optional_text(body, "x509_issuer"),
        x509_serial=optional_text(body, "x509_serial"),
        fido2_aaguid=optional_text(body, "fido2_aaguid"),
    )


def _risk_level_change(body: Mapping[str, Any]) -> RiskLevelChange:
    previous = optional_text(body, "previous_level")
    return RiskLevelChange(
        principal=text(body, "principal", longest=64),
        current=Level(text(body, "current_level")),
        previous=None if previous is None else Level(previous),
        reason=optional_text(body, "risk_reason"),
    )


READERS: Mapping[str, Callable[[Mapping[str, Any]], Event]] = {
    CAEP + "session-revoked": lambda _body: SessionRevoked(),
    CAEP + "credential-change": _credential_change,
    CAEP + "risk-level-change": _risk_level_change,
    SSF + "verification": lambda body: Verification(optional_text(body, "state")),
}
