"""Workload tokens of OpenID Connect issuers: Kubernetes, GitHub Actions, and any other, each by a rule of its own.

The issuer is configured, never learnt from the token, and so is everything that makes its tokens good: the audience,
the algorithms, how long they may live, and which workload of which trust domain their claims come to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import (
    MAX_SKEW_MS,
    check_times,
    optional_text,
    require_audience,
    require_issuer,
    text,
)
from forestall.proof.fault import InvalidProof
from forestall.proof.jwk import KeySet
from forestall.proof.jws import MEMBERS, verify
from forestall.proof.kubernetes import API_SERVER, ServiceAccounts
from forestall.proof.spiffe_id import SpiffeId, require_trust_domain
from forestall.proof.url import require_issuer_url
from forestall.proof.workload import Rule, workload_id

HEADER = MEMBERS | {"x5t", "x5t#S256"}
"""Some issuers add the digest of a certificate. It names the key a second time, and is not looked at."""

TYPES: frozenset[str | None] = frozenset({"jwt", None})


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer, and what its tokens come to."""

    issuer: str
    """Compared with `iss` and with the discovery document byte for byte."""
    audience: str
    """Ours, and the token's only one."""
    algorithms: frozenset[Algorithm]
    trust_domain: str
    rule: Rule
    max_life_ms: int
    """The longest-lived token that counts; Kubernetes' live for an hour unless told otherwise."""
    skew_ms: int = 30_000
    loopback: bool = False
    """Let the issuer be an http address of this machine: for a laptop and for tests."""

    def __post_init__(self) -> None:
        require_issuer_url(self.issuer, loopback=self.loopback)
        try:
            require_trust_domain(self.trust_domain)
        except InvalidProof as error:
            raise ValueError(str(error)) from None
        if not self.audience or not self.algorithms or self.max_life_ms <= 0 or not 0 <= self.skew_ms <= MAX_SKEW_MS:
            raise ValueError("a rule for an issuer has an audience, algorithms, a lifetime, and a skew within bounds")
        if isinstance(self.rule, ServiceAccounts) and self.audience in API_SERVER | {self.issuer}:
            raise ValueError("the audience is the API server's own; choose one for Forestall alone")


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload whose identity an issuer vouches for, by a token that whoever holds it can show."""

    id: SpiffeId
    issuer: str
    subject: str
    """`sub`, as the issuer calls it."""
    expires_at: int
    """Milliseconds since the epoch."""
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    token_id: str | None = None
    """`jti`, where there is one."""


def verify_workload(token: str | bytes, keys: KeySet, issuer: Issuer, *, now: int) -> Workload:
    """The workload that the token is of.

    Args:
        token: the compact form, as it came.
        keys: the issuer's, from its `jwks_uri`.
        issuer: the rule.
        now: milliseconds since the epoch.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED, WRONG_ISSUER, WRONG_AUDIENCE, CLOCK,
            NOT_YET_VALID, EXPIRED, TOO_LONG, WRONG_SUBJECT.
    """
    claims = verify(token, keys, algorithms=issuer.algorithms, types=TYPES, members=HEADER).claims()
    require_issuer(claims, issuer.issuer)
    require_audience(claims, issuer.audience, single=True)  # so that none is good at a cluster's API server as well
    required = frozenset({"exp", "iat"})
    times = check_times(claims, now=now, skew_ms=issuer.skew_ms, required=required, max_life_ms=issuer.max_life_ms)
    assert times.expires_at is not None
    found = issuer.rule.find(claims)
    return Workload(
        id=workload_id(issuer.trust_domain, found.path),
        issuer=issuer.issuer,
        subject=text(claims, "sub"),
        expires_at=times.expires_at,
        facts=MappingProxyType(dict(found.facts)),
        token_id=optional_text(claims, "jti", longest=256),
    )
