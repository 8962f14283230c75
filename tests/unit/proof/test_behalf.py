"""Our words about a task are of a type of their own, for one server, and short-lived; nobody takes one for another."""

from __future__ import annotations

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.behalf import LIFE_S, TYPE, Behalf, sign_assertion, sign_id_jag
from forestall.proof.fault import Fault
from forestall.proof.id_jag import GrantIssuer, verify_identity_grant
from forestall.proof.jws import verify
from forestall.proof.token import TYPE as GRANT
from tests.tokens import NOW, SECONDS, key, keys, refused

BEHALF = Behalf("https://idp#alice", [("example.org", "reader"), ("example.org", "planner")], "task-2", "task-1")
OURS, THEIRS = "https://forestall.example", "https://login.example"


def assertion() -> str:
    return sign_assertion(BEHALF, key(), issuer=OURS, audience=THEIRS, now=NOW, jti="j")


def id_jag(resources: tuple[str, ...] = ("https://crm",), client: str = "us") -> str:
    return sign_id_jag(
        BEHALF,
        key(),
        issuer=OURS,
        audience=THEIRS,
        client=client,
        scope=["a", "b"],
        resources=resources,
        now=NOW,
        jti="j",
    )


def test_an_assertion_says_who_acts_for_whom_in_which_task() -> None:
    claims = verify(assertion(), keys(key()), algorithms=frozenset({Algorithm.EDDSA}), types=frozenset({TYPE})).claims()
    assert claims == {
        "iss": OURS,
        "sub": "https://idp#alice",
        "aud": THEIRS,
        "iat": SECONDS,
        "exp": SECONDS + LIFE_S,
        "jti": "j",
        "act": {"iss": "example.org", "sub": "reader", "act": {"iss": "example.org", "sub": "planner"}},
        "task": "task-2",
        "txn": "task-1",
    }


@pytest.mark.parametrize("other", [GRANT, "oauth-id-jag+jwt", "jwt", None])
def test_an_assertion_is_taken_for_nothing_else(other: str | None) -> None:
    with refused(Fault.WRONG_TYPE):
        verify(assertion(), keys(key()), algorithms=frozenset({Algorithm.EDDSA}), types=frozenset({other}))


def test_an_id_jag_is_what_our_own_reader_takes_from_others() -> None:
    rule = GrantIssuer(issuer=OURS, audience=THEIRS, algorithms=frozenset({Algorithm.EDDSA}), tenant="acme")
    for resources in ((), ("https://crm",), ("https://one", "https://two")):
        read = verify_identity_grant(
            id_jag(resources), keys(key()), rule, client="us", proof=None, certificate=None, now=NOW
        )
        assert (read.subject, read.client, read.scope, read.resources) == (BEHALF.subject, "us", ("a", "b"), resources)
    with refused(Fault.WRONG_SUBJECT):
        verify_identity_grant(id_jag(), keys(key()), rule, client="other", proof=None, certificate=None, now=NOW)


def test_a_chain_that_is_none_is_not_said() -> None:
    for chain, fault in (([], Fault.MALFORMED), ([("a", "b"), ("a", "b")], Fault.CYCLE)):
        with refused(fault):
            sign_assertion(Behalf("s", chain, "t", "t"), key(), issuer=OURS, audience=THEIRS, now=NOW, jti="j")
