"""A SPIFFE ID has one spelling; every other is refused, and a path is compared by whole segments."""

from __future__ import annotations

import pytest

from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import (
    MAX_ID,
    MAX_TRUST_DOMAIN,
    SpiffeId,
    parse_spiffe_id,
    parse_trust_domain_id,
    parse_workload_id,
)


@pytest.mark.parametrize(
    ("text", "trust_domain", "path"),
    [
        ("spiffe://example.org", "example.org", ""),
        ("spiffe://example.org/agent", "example.org", "/agent"),
        ("spiffe://example.org/ns/default/sa/Agent_1", "example.org", "/ns/default/sa/Agent_1"),
        ("spiffe://10.2.3.4/service", "10.2.3.4", "/service"),
        ("spiffe://a_b-c.d/...", "a_b-c.d", "/..."),
        ("spiffe://example.org/.hidden/x..y", "example.org", "/.hidden/x..y"),
    ],
)
def test_an_id_is_a_trust_domain_and_a_path(text: str, trust_domain: str, path: str) -> None:
    identity = parse_spiffe_id(text)
    assert identity == SpiffeId(trust_domain, path)
    assert str(identity) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:",
        "spiffe://",
        "spiffe:///agent",
        "example.org/agent",
        "https://example.org/agent",
        "SPIFFE://example.org/agent",
        "spiffe://Example.org/agent",
        "spiffe://example.org/",
        "spiffe://example.org/agent/",
        "spiffe://example.org//agent",
        "spiffe://example.org/a//b",
        "spiffe://example.org/.",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/a/./b",
        "spiffe://example.org/a%2Fb",
        "spiffe://example.org/%61gent",
        "spiffe://example%2Eorg/agent",
        "spiffe://example.org:443/agent",
        "spiffe://user@example.org/agent",
        "spiffe://example.org/agent?query",
        "spiffe://example.org?query",
        "spiffe://example.org/agent#fragment",
        "spiffe://example.org/agent name",
        " spiffe://example.org/agent",
        "spiffe://example.org/agent\n",
        "spiffe://example.org\n/agent",
        "spiffe://exämple.org/agent",
        "spiffe://example.org/\uff41gent",
        "spiffe://example.org/\u0430gent",
        "spiffe://example.org/\u0661",
        "spiffe://example.org\\agent",
        "spiffe://example.org/a\x00b",
        "spiffe:/example.org/agent",
        "spiffe://[::1]/agent",
    ],
)
def test_any_other_spelling_is_malformed(text: str) -> None:
    with pytest.raises(InvalidProof) as refused:
        parse_spiffe_id(text)
    assert refused.value.fault is Fault.MALFORMED
    assert len(text) < 10 or text not in str(refused.value)


def test_a_whole_id_has_at_most_2048_bytes() -> None:
    head = "spiffe://example.org/"
    longest = head + "a" * (MAX_ID - len(head))
    assert str(parse_spiffe_id(longest)) == longest
    with pytest.raises(InvalidProof) as refused:
        parse_spiffe_id(longest + "a")
    assert refused.value.fault is Fault.TOO_LARGE


def test_a_trust_domain_has_at_most_255_bytes() -> None:
    longest = "a" * MAX_TRUST_DOMAIN
    assert parse_spiffe_id(f"spiffe://{longest}").trust_domain == longest
    with pytest.raises(InvalidProof) as refused:
        parse_spiffe_id(f"spiffe://{longest}a/agent")
    assert refused.value.fault is Fault.MALFORMED


def test_a_workload_has_a_path_and_a_trust_domain_has_none() -> None:
    assert parse_workload_id("spiffe://example.org/agent") == SpiffeId("example.org", "/agent")
    assert parse_trust_domain_id("spiffe://example.org") == "example.org"
    with pytest.raises(InvalidProof, match="no workload's"):
        parse_workload_id("spiffe://example.org")
    with pytest.raises(InvalidProof, match="no path"):
        parse_trust_domain_id("spiffe://example.org/agent")


@pytest.mark.parametrize(
    ("identity", "other", "within"),
    [
        ("spiffe://example.org/pay", "spiffe://example.org/pay", True),
        ("spiffe://example.org/pay/out", "spiffe://example.org/pay", True),
        ("spiffe://example.org/pay", "spiffe://example.org", True),
        ("spiffe://example.org", "spiffe://example.org", True),
        ("spiffe://example.org/payroll", "spiffe://example.org/pay", False),
        ("spiffe://example.org/pay", "spiffe://example.org/pay/out", False),
        ("spiffe://example.org", "spiffe://example.org/pay", False),
        ("spiffe://example.org.evil/pay", "spiffe://example.org", False),
        ("spiffe://example.com/pay", "spiffe://example.org/pay", False),
        ("spiffe://example.org/Pay/out", "spiffe://example.org/pay", False),
    ],
)
def test_within_goes_by_whole_segments(identity: str, other: str, within: bool) -> None:
    assert parse_spiffe_id(identity).is_within(parse_spiffe_id(other)) is within
