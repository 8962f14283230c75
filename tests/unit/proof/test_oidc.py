"""A workload token counts where a rule was written for its issuer, and comes to the workload that the rule says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.kubernetes import ServiceAccounts
from forestall.proof.oidc import Issuer, Workload, verify_workload
from forestall.proof.workload import Listed, Match
from tests.tokens import NOW, SECONDS, key, keys, refused, token, unsigned, without

SIGNER = key(Algorithm.RS256)
AGENT = Match("/agents/billing", {"sub": "client-7"})
ISSUER = Issuer(
    issuer="https://idp.example/tenant",
    audience="https://forestall.example",
    algorithms=frozenset({Algorithm.RS256, Algorithm.ES256}),
    trust_domain="example.org",
    rule=Listed((AGENT, Match("/agents/shipping", {"sub": "client-8", "azp": "robot"}))),
    max_life_ms=3_600_000,
)
CLAIMS: dict[str, Any] = {
    "iss": ISSUER.issuer,
    "sub": "client-7",
    "aud": ISSUER.audience,
    "iat": SECONDS,
    "exp": SECONDS + 3600,
    "jti": "j",
}


def check(claims: dict[str, Any], issuer: Issuer = ISSUER, now: int = NOW, **header: Any) -> Workload:
    return verify_workload(token(claims, SIGNER, **header), keys(SIGNER), issuer, now=now)


def test_a_token_comes_to_the_workload_that_its_rule_says() -> None:
    found = check(CLAIMS)
    assert str(found.id) == "spiffe://example.org/agents/billing"
    assert (found.issuer, found.subject, found.token_id) == (ISSUER.issuer, "client-7", "j")
    assert found.expires_at == NOW + 3_600_000
    assert found.facts == {"sub": "client-7"}
    assert str(check({**CLAIMS, "sub": "client-8", "azp": "robot"}).id) == "spiffe://example.org/agents/shipping"


@pytest.mark.parametrize("header", [{"typ": None}, {"typ": "jwt"}, {"x5t": "AA"}, {"x5t#S256": "AA"}])
def test_a_header_may_say_what_issuers_say(header: dict[str, Any]) -> None:
    assert check(CLAIMS, **header) == check(CLAIMS)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "https://idp.example/tenant/"}, Fault.WRONG_ISSUER),
        ({"iss": "https://IDP.example/tenant"}, Fault.WRONG_ISSUER),
        ({"iss": "https://other.example"}, Fault.WRONG_ISSUER),
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"aud": [ISSUER.audience, "https://other.example"]}, Fault.WRONG_AUDIENCE),
        ({"sub": "client-9"}, Fault.WRONG_SUBJECT),
        ({"sub": "client-8"}, Fault.WRONG_SUBJECT),
        ({"sub": "client-8", "azp": ["robot"]}, Fault.WRONG_SUBJECT),
        ({"iat": SECONDS + 31}, Fault.CLOCK),
        ({"nbf": SECONDS + 31}, Fault.NOT_YET_VALID),
        ({"iat": SECONDS - 100, "exp": SECONDS - 30}, Fault.EXPIRED),
        ({"exp": SECONDS + 3601}, Fault.TOO_LONG),
        ({"exp": None}, Fault.MALFORMED),
        ({"jti": 7}, Fault.MALFORMED),
    ],
)
def test_a_token_that_is_wrong_in_one_way_has_that_fault(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check({**CLAIMS, **members})


@pytest.mark.parametrize("name", ["iss", "aud", "iat", "exp"])
def test_a_token_without_a_claim_is_malformed(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(without(CLAIMS, name))


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ({"typ": "at+jwt"}, Fault.WRONG_TYPE),
        ({"typ": "dpop+jwt"}, Fault.WRONG_TYPE),
        ({"alg": "none"}, Fault.UNSIGNED),
        ({"alg": "HS256"}, Fault.ALGORITHM),
        ({"alg": "RS512"}, Fault.ALGORITHM),
        ({"alg": "ES256"}, Fault.ALGORITHM),
        ({"jku": "https://evil.example"}, Fault.EMBEDDED_KEY),
        ({"x5c": ["AA"]}, Fault.EMBEDDED_KEY),
        ({"kid": "other"}, Fault.UNKNOWN_KEY),
    ],
)
def test_a_header_that_is_wrong_in_one_way_has_that_fault(header: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check(CLAIMS, **header)


def test_a_token_of_another_key_is_refused() -> None:
    other = key(Algorithm.ES256)
    with refused(Fault.UNKNOWN_KEY):
        verify_workload(token(CLAIMS, other), keys(SIGNER), ISSUER, now=NOW)
    with refused(Fault.UNSIGNED):
        verify_workload(unsigned({"alg": "none"}), keys(SIGNER), ISSUER, now=NOW)


def test_two_rules_that_fit_are_none() -> None:
    both = replace(ISSUER, rule=Listed((AGENT, Match("/agents/other", {"iss": ISSUER.issuer}))))
    with refused(Fault.WRONG_SUBJECT):
        check(CLAIMS, both)


def test_what_a_token_says_is_kept_as_it_was() -> None:
    with pytest.raises(TypeError):
        check(CLAIMS).facts["sub"] = "client-8"  # type: ignore[index]


@pytest.mark.parametrize(
    "members",
    [
        {"issuer": "http://idp.example"},
        {"issuer": "idp.example"},
        {"issuer": "https://idp.example/?a"},
        {"issuer": "http://127.0.0.1:1"},
        {"audience": ""},
        {"algorithms": frozenset()},
        {"trust_domain": "Example.org"},
        {"trust_domain": ""},
        {"max_life_ms": 0},
        {"skew_ms": 60_001},
        {"skew_ms": -1},
        {"rule": ServiceAccounts(), "audience": "https://kubernetes.default.svc"},
        {"rule": ServiceAccounts(), "audience": ISSUER.issuer},
    ],
)
def test_a_rule_that_would_let_too_much_through_cannot_be_made(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(ISSUER, **members)


def test_an_issuer_on_this_machine_has_to_be_asked_for() -> None:
    assert replace(ISSUER, issuer="http://127.0.0.1:8080", loopback=True).loopback


def test_an_audience_is_the_api_servers_only_where_there_is_one() -> None:
    assert replace(ISSUER, audience="kubernetes").audience == "kubernetes"


@pytest.mark.parametrize(
    "rule", [("agent", {"sub": "a"}), ("/", {"sub": "a"}), ("/a/../b", {"sub": "a"}), ("/a", {}), ("/a", {"sub": ""})]
)
def test_a_match_that_asks_for_nothing_cannot_be_made(rule: tuple[str, dict[str, str]]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Match(*rule)
    with pytest.raises(ValueError, match="no workloads"):
        Listed(())


@given(data=st.data())
def test_one_changed_character_is_one_refused_token(data: st.DataObject) -> None:
    text = token(CLAIMS, SIGNER)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=127).filter(lambda character: character != text[at]))
    with pytest.raises(InvalidProof):
        verify_workload(text[:at] + other + text[at + 1 :], keys(SIGNER), ISSUER, now=NOW)
