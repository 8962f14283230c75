"""One security event to a token, about one subject, read whole or refused."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault
from forestall.proof.set import (
    CAEP,
    CLAIMS_REQUIRED,
    SSF,
    Change,
    CredentialChange,
    Level,
    RiskLevelChange,
    SecurityEvent,
    SessionRevoked,
    Verification,
    verify_event,
)
from forestall.proof.subject import Complex, Email, IssuerSubject, Opaque, Uri, parse_subject
from tests.tokens import NOW, SECONDS, key, keys, refused, token, without

ISSUER = "https://transmitter.example"
AUDIENCE = "https://forestall.example/events"
SENDER = key(Algorithm.RS256)
WEEK = 7 * 86_400_000
SUBJECT = {"format": "iss_sub", "iss": "https://idp.example", "sub": "alice"}


def claims(kind: str = CAEP + "session-revoked", body: Any = None, **members: Any) -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": "event-1",
        "iat": SECONDS,
        "sub_id": SUBJECT,
        "events": {kind: {} if body is None else body},
        **members,
    }


def check(members: dict[str, Any], now: int = NOW, **header: Any) -> SecurityEvent:
    text = token(members, SENDER, **{"typ": "secevent+jwt", **header})
    return verify_event(text, keys(SENDER), issuer=ISSUER, audience=AUDIENCE, now=now, skew_ms=30_000, max_age_ms=WEEK)


def test_a_session_that_was_revoked() -> None:
    body = {"event_timestamp": SECONDS - 1, "initiating_entity": "policy", "reason_admin": {"en": "left"}}
    found = check(claims(body=body, txn="t"))
    assert found.event == SessionRevoked()
    assert found.subject == IssuerSubject("https://idp.example", "alice")
    assert (found.occurred_at, found.initiator, found.transaction) == (NOW - 1000, "policy", "t")
    assert (found.issuer, found.id, found.issued_at) == (ISSUER, "event-1", NOW)


@pytest.mark.parametrize("change", Change)
def test_a_credential_that_changed(change: Change) -> None:
    body = {"credential_type": "x509", "change_type": change.value, "x509_issuer": "CN=a", "x509_serial": "1f"}
    assert check(claims(CAEP + "credential-change", body)).event == CredentialChange("x509", change, "CN=a", "1f")


@pytest.mark.parametrize("level", Level)
def test_a_risk_that_changed(level: Level) -> None:
    body = {"principal": "USER", "current_level": level.value, "previous_level": "LOW", "risk_reason": "PASSWORD"}
    found = check(claims(CAEP + "risk-level-change", body)).event
    assert found == RiskLevelChange("USER", level, Level.LOW, "PASSWORD")
    del body["previous_level"], body["risk_reason"]
    assert check(claims(CAEP + "risk-level-change", body)).event == RiskLevelChange("USER", level)


def test_a_stream_that_is_tried() -> None:
    found = check(claims(SSF + "verification", {"state": "s"}, sub_id={"format": "opaque", "id": "stream-1"}))
    assert (found.event, found.subject) == (Verification("s"), Opaque("stream-1"))


@pytest.mark.parametrize(
    "kind",
    [
        CAEP + "session-presented",
        CAEP + "Session-Revoked",
        "session-revoked",
        "",
        "https://evil.example/session-revoked",
    ],
)
def test_an_event_that_is_not_known_has_a_fault_of_its_own(kind: str) -> None:
    with refused(Fault.UNKNOWN_EVENT):
        check(claims(kind))


@pytest.mark.parametrize(
    "events",
    [None, {}, [], {CAEP + "session-revoked": {}, CAEP + "risk-level-change": {}}, {CAEP + "session-revoked": None}],
)
def test_there_is_exactly_one_event(events: Any) -> None:
    with refused(Fault.MALFORMED):
        check(claims(events=events))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("credential-change", {}),
        ("credential-change", {"credential_type": "password"}),
        ("credential-change", {"credential_type": "password", "change_type": "stolen"}),
        ("credential-change", {"credential_type": "password", "change_type": "Revoke"}),
        ("credential-change", {"credential_type": "", "change_type": "revoke"}),
        ("credential-change", {"credential_type": "x509", "change_type": "revoke", "x509_serial": 7}),
        ("risk-level-change", {}),
        ("risk-level-change", {"principal": "USER"}),
        ("risk-level-change", {"principal": "USER", "current_level": "high"}),
        ("risk-level-change", {"principal": "USER", "current_level": "HIGH", "previous_level": "NONE"}),
        ("risk-level-change", {"current_level": "HIGH"}),
        ("session-revoked", {"event_timestamp": "yesterday"}),
        ("session-revoked", {"initiating_entity": 7}),
    ],
)
def test_an_event_with_half_of_its_members_is_malformed(kind: str, body: dict[str, Any]) -> None:
    with refused(Fault.MALFORMED):
        check(claims(CAEP + kind, body))


@pytest.mark.parametrize(("name", "value"), [("sub", "alice"), ("exp", SECONDS + 600), ("nonce", "n")])
def test_an_event_never_passes_for_another_token(name: str, value: Any) -> None:
    with refused(Fault.MALFORMED):
        check(claims(**{name: value}))
    for kind in ("JWT", None, "task-grant+jwt"):
        with refused(Fault.WRONG_TYPE):
            check(claims(), typ=kind)


@pytest.mark.parametrize("name", sorted(CLAIMS_REQUIRED))
def test_an_event_without_a_claim_is_refused(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(without(claims(), name))


def test_an_event_is_from_its_transmitter_and_for_us() -> None:
    assert check(claims(aud=["https://other.example", AUDIENCE])).event == SessionRevoked()
    with refused(Fault.WRONG_ISSUER):
        check(claims(iss="https://other.example"))
    with refused(Fault.WRONG_AUDIENCE):
        check(claims(aud="https://other.example"))


def test_an_event_is_remembered_for_as_long_as_it_is_taken() -> None:
    found = check(claims())
    assert check(claims(CAEP + "risk-level-change", {"principal": "USER", "current_level": "LOW"})).once == found.once
    assert check(claims(jti="event-2")).once.id != found.once.id
    assert check(claims(), now=found.once.until - 1).once == found.once
    with refused(Fault.TOO_OLD):
        check(claims(), now=found.once.until)
    with refused(Fault.CLOCK):
        check(claims(), now=NOW - 30_001)


def test_an_event_is_signed_with_rs256_unless_another_is_named() -> None:
    other = key(Algorithm.ES256)
    given: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "now": NOW, "skew_ms": 0, "max_age_ms": WEEK}
    text = token(claims(), other, typ="secevent+jwt")
    with refused(Fault.ALGORITHM):
        verify_event(text, keys(other), **given)
    assert verify_event(text, keys(other), algorithms=frozenset({Algorithm.ES256}), **given).event == SessionRevoked()


# -- whom it is about


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        (SUBJECT, IssuerSubject("https://idp.example", "alice")),
        ({"format": "email", "email": "Alice@example.org"}, Email("Alice@example.org")),
        ({"format": "opaque", "id": "7"}, Opaque("7")),
        ({"format": "uri", "uri": "spiffe://example.org/agent"}, Uri("spiffe://example.org/agent")),
        (
            {"format": "complex", "user": SUBJECT, "session": {"format": "opaque", "id": "task-1"}},
            Complex({"user": IssuerSubject("https://idp.example", "alice"), "session": Opaque("task-1")}),
        ),
    ],
)
def test_a_subject_is_read(value: Any, subject: Any) -> None:
    assert parse_subject(value) == subject


@pytest.mark.parametrize(
    "value",
    [
        None,
        "alice",
        [],
        {},
        {"format": "iss_sub"},
        {"format": "iss_sub", "iss": "a"},
        {"format": "iss_sub", "iss": "a", "sub": ""},
        {"format": "iss_sub", "iss": "a", "sub": "b", "email": "c"},
        {"format": "email", "id": "a"},
        {"format": "did", "url": "did:a:b"},
        {"format": "phone_number", "phone_number": "+1"},
        {"format": ["email"], "email": "a"},
        {"format": "Email", "email": "a"},
        {"iss": "a", "sub": "b"},
        {"format": "complex"},
        {"format": "complex", "user": None},
        {"format": "complex", "user": {}},
        {"format": "complex", "user": SUBJECT, "pet": SUBJECT},
        {"format": "complex", "user": {"format": "complex", "user": SUBJECT}},
    ],
)
def test_a_subject_that_nobody_could_find_is_malformed(value: Any) -> None:
    with refused(Fault.MALFORMED):
        parse_subject(value)
    with refused(Fault.MALFORMED):
        check(claims(sub_id=value))
