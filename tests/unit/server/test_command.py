"""Whom an order is about, where the command line left some of it unsaid."""

from __future__ import annotations

import pytest

from forestall.core.control import Command, Order, Reach, Target
from forestall.server.command import placed

TENANTS = {"example.org": "acme"}
USERS = {"https://id.example": "acme"}
SUPPORT = "spiffe://example.org/support"


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        (Target(Reach.AGENT, SUPPORT), Target(Reach.AGENT, SUPPORT, "example.org", "acme")),
        (Target(Reach.AGENT, "bot", "example.org"), Target(Reach.AGENT, "bot", "example.org", "acme")),
        (Target(Reach.TRUST_DOMAIN, "example.org"), Target(Reach.TRUST_DOMAIN, "example.org", tenant="acme")),
        (
            Target(Reach.AGENT, "spiffe://other.example/a"),
            Target(Reach.AGENT, "spiffe://other.example/a", "other.example"),
        ),
        (Target(Reach.AGENT, "spiffe://"), Target(Reach.AGENT, "spiffe://")),
        (Target(Reach.USER, "https://id.example#7"), Target(Reach.USER, "https://id.example#7", tenant="acme")),
    ],
)
def test_a_spiffe_id_names_its_trust_domain_and_a_trust_domain_or_a_users_issuer_its_tenant(
    named: Target, meant: Target
) -> None:
    assert placed(Command(Order.KILL, named, "why", "uid/0"), TENANTS, USERS).target == meant


@pytest.mark.parametrize(
    "named",
    [
        Target(Reach.AGENT, SUPPORT, "elsewhere.example", "theirs"),
        Target(Reach.AGENT, SUPPORT, "example.org", "theirs"),
        Target(Reach.AGENT, "bot"),
        Target(Reach.USER, "example.org"),
        Target(Reach.USER, "https://id.example#7", tenant="theirs"),
        Target(Reach.USER, "https://elsewhere.example#7"),
        Target(Reach.TASK, "example.org"),
        Target(Reach.EVERYTHING),
    ],
)
def test_what_was_said_stays_and_nothing_else_is_added(named: Target) -> None:
    assert placed(Command(Order.KILL, named, "why", "uid/0"), TENANTS, USERS).target == named
