"""A ticket is for one receiver, for a minute; it says who hands on what, and nothing that this reader does not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.model import Assurance, Subject
from forestall.proof.fault import Fault
from forestall.proof.jws import verify
from forestall.proof.ticket import (
    BY_REQUIRED,
    CLAIMS,
    DETAIL_TYPE,
    LIFE_MS,
    TYPE,
    Ticket,
    read_handing_on,
    sign_ticket,
    verify_ticket,
)
from forestall.proof.token import GRANT_ALGORITHMS
from tests.tokens import NOW, key, keys, refused, token, without

OURS = key()
ISSUER = "https://forestall.example"
BY = Subject(
    "spiffe://example.org/a", Assurance.SVID, instance="i", tenant="acme", trust_domain="example.org", key="jkt:k"
)
TO = "spiffe://example.org/b"
TICKET = Ticket(ISSUER, "j", NOW, "tree", "task", BY, {"to": TO, "tools": ["shop/read"], "max_depth": 1})


def check(text: str, **options: Any) -> Ticket:
    given = {"issuer": ISSUER, "receiver": TO, "now": NOW}
    return verify_ticket(text, keys(OURS), **{**given, **options})


def claims() -> dict[str, Any]:
    text = sign_ticket(TICKET, OURS)
    return verify(text, keys(OURS), algorithms=GRANT_ALGORITHMS, types=frozenset({TYPE})).claims()


def changed(**members: Any) -> str:
    return token({**claims(), **members}, OURS, typ=TYPE)


def test_a_ticket_is_read_back_as_it_was_signed() -> None:
    assert check(sign_ticket(TICKET, OURS)) == TICKET
    plain = replace(TICKET, by=replace(BY, instance=""))
    assert check(sign_ticket(plain, OURS)) == plain
    assert TICKET.to == TO


def test_a_ticket_counts_for_a_minute_and_once() -> None:
    text = sign_ticket(TICKET, OURS)
    assert check(text, now=NOW + LIFE_MS - 1).once == TICKET.once
    with refused(Fault.EXPIRED):
        check(text, now=NOW + LIFE_MS)
    assert TICKET.once.until > NOW + LIFE_MS
    assert TICKET.once.id != replace(TICKET, id="k").once.id


def test_a_ticket_is_for_its_receiver_alone() -> None:
    with refused(Fault.WRONG_SUBJECT):
        check(sign_ticket(TICKET, OURS), receiver="spiffe://example.org/c")
    with refused(Fault.WRONG_SUBJECT):
        check(changed(authorization_details=[{"type": DETAIL_TYPE, "to": "spiffe://example.org/c"}]))


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_a_ticket_without_a_claim_is_refused(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(token(without(claims(), name), OURS, typ=TYPE))


@pytest.mark.parametrize("name", sorted(BY_REQUIRED))
def test_a_ticket_that_does_not_say_who_hands_on_is_refused(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(changed(by=without(claims()["by"], name)))


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "https://other.example"}, Fault.WRONG_ISSUER),
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"iat": NOW // 1000 + 1}, Fault.CLOCK),
        ({"exp": NOW // 1000}, Fault.EXPIRED),
        ({"exp": NOW // 1000 + LIFE_MS // 1000 + 1}, Fault.TOO_LONG),
        ({"cnf": {}}, Fault.MALFORMED),
        ({"by": "a"}, Fault.MALFORMED),
        ({"by": {**claims()["by"], "assurance": "sworn"}}, Fault.MALFORMED),
        ({"by": {**claims()["by"], "more": "x"}}, Fault.MALFORMED),
        ({"jti": ""}, Fault.MALFORMED),
    ],
)
def test_a_ticket_that_is_wrong_in_one_way_has_that_fault(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check(changed(**members))


@pytest.mark.parametrize(
    "details",
    [
        None,
        [],
        ["x"],
        [{"to": TO}],
        [{"type": "urn:forestall:authorization:task", "to": TO}],
        [{"type": DETAIL_TYPE}],
        [{"type": DETAIL_TYPE, "to": TO, "anything": 1}],
        [{"type": DETAIL_TYPE, "to": TO, "tools": []}],
        [{"type": DETAIL_TYPE, "to": TO}, {"type": DETAIL_TYPE, "to": TO}],
    ],
)
def test_what_is_handed_on_is_said_in_one_closed_form(details: Any) -> None:
    with refused(Fault.SCOPE):
        read_handing_on(details)
    with refused(Fault.SCOPE):
        check(changed(authorization_details=details))


def test_a_grant_is_no_ticket_and_one_that_nobody_would_read_is_not_signed() -> None:
    with refused(Fault.WRONG_TYPE):
        check(token(claims(), OURS, typ="task-grant+jwt"))
    with refused(Fault.TOO_LARGE):
        sign_ticket(replace(TICKET, arguments={"to": TO, "tools": ["x" * 1024 for _ in range(16)]}), OURS)
    with pytest.raises(ValueError, match="whole seconds"):
        sign_ticket(replace(TICKET, issued_at=NOW + 1), OURS)
