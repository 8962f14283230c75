"""The user that a task serves, by an identity assertion authorization grant (ID-JAG, draft-ietf-oauth-identity-
assertion-authz-grant-04): the identity provider says that this client may ask us in this user's name.

It is made for one resource authorization server and one of its clients, lives for minutes, and counts once. What it
grants is leave to ask: which authority the task gets is policy's to decide, and never wider than `scope` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import (
    MAX_SKEW_MS,
    MAX_TEXT,
    check_times,
    optional_text,
    optional_time,
    require_audience,
    require_issuer,
    text,
)
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet
from forestall.proof.jws import verify
from forestall.proof.oidc import HEADER
from forestall.proof.once import Once, once
from forestall.proof.possession import Proof, read_binding, require_holder
from forestall.proof.url import require_issuer_url

TYPE = "oauth-id-jag+jwt"

TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id-jag"  # noqa: S105 - no password
"""`requested_token_type` at the identity provider."""

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""`grant_type` with which it is presented to us (RFC 7523, 2.1)."""

GRANT_PROFILE = "urn:ietf:params:oauth:grant-profile:id-jag"
"""What `authorization_grant_profiles_supported` of our metadata holds."""

MAX_LIFE_MS = 600_000
"""Ten minutes: identity providers make them for about five."""

MAX_RESOURCES = 32

_SCOPE = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*")
"""RFC 6749, 3.3."""


@dataclass(frozen=True, slots=True)
class GrantIssuer:
    """An identity provider whose word we take for who a user is, and for which clients may act for them."""

    issuer: str
    audience: str
    """Our issuer identifier, as a resource authorization server."""
    algorithms: frozenset[Algorithm]
    tenant: str
    """Whose users they are: of one tenant here, whatever the token says."""
    foreign_tenant: str | None = None
    """`tenant`, for an identity provider that serves several under one issuer; None for one that has no such claim."""
    max_life_ms: int = MAX_LIFE_MS
    skew_ms: int = 30_000
    loopback: bool = False

    def __post_init__(self) -> None:
        require_issuer_url(self.issuer, loopback=self.loopback)
        if not (self.audience and self.algorithms and self.tenant) or self.foreign_tenant == "":
            raise ValueError("a rule for grants has an audience, algorithms and a tenant")
        if self.issuer == self.audience:
            raise ValueError("an identity provider does not take its own grants")
        if self.max_life_ms <= 0 or not 0 <= self.skew_ms <= MAX_SKEW_MS:
            raise ValueError(f"a rule for grants has a lifetime, and a skew of 0 to {MAX_SKEW_MS} ms")


@dataclass(frozen=True, slots=True)
class IdentityGrant:
    """A user, and the client that may ask in their name. Good only after `once` was burnt."""

    issuer: str
    subject: str
    tenant: str
    client: str
    expires_at: int
    """Milliseconds since the epoch, as the other times."""
    once: Once
    scope: tuple[str, ...] | None
    """What may be asked for; None where the grant does not limit it."""
    resources: tuple[str, ...]
    """Resource identifiers; empty where the grant names none."""
    signed_in_at: int | None
    context: str | None
    """`acr`: how surely it is them."""
    issued_at: int

    @property
    def vouched_at(self) -> int:
        """When the issuer last knew that they were there: they signed in, or else the grant was issued."""
        return self.issued_at if self.signed_in_at is None else self.signed_in_at


def verify_identity_grant(
    token: str | bytes,
    keys: KeySet,
    issuer: GrantIssuer,
    *,
    client: str,
    proof: Proof | None,
    certificate: bytes | None,
    now: int,
) -> IdentityGrant:
    """The user that the grant is of, where it is for us, and for the client that presents it.

    Args:
        token: `assertion`, as it came.
        keys: the identity provider's.
        issuer: the rule.
        client: who presents it, authenticated by other means.
        proof: the request's DPoP proof, verified; None where there was none.
        certificate: the client's, in DER, of a mutual TLS that was verified; None where there was none.
        now: milliseconds since the epoch.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED, WRONG_ISSUER, WRONG_AUDIENCE, CLOCK,
            NOT_YET_VALID, EXPIRED, TOO_LONG, WRONG_TENANT; WRONG_SUBJECT, where it is another client's; NOT_BOUND,
            NO_PROOF, OTHER_KEY, where it is bound to a key; SCOPE, where it limits what it grants in other ways.
    """
    if not client:
        raise ValueError("no client to compare with")
    claims = verify(token, keys, algorithms=issuer.algorithms, types=frozenset({TYPE}), members=HEADER).claims()
    require_issuer(claims, issuer.issuer)
    require_audience(claims, issuer.audience, single=True)
    required = frozenset({"exp", "iat"})
    times = check_times(claims, now=now, skew_ms=issuer.skew_ms, required=required, max_life_ms=issuer.max_life_ms)
    assert times.expires_at is not None
    assert times.issued_at is not None
    if optional_text(claims, "tenant") != issuer.foreign_tenant:
        raise InvalidProof(Fault.WRONG_TENANT)
    if text(claims, "client_id") != client:
        raise InvalidProof(Fault.WRONG_SUBJECT, "the grant is another client's")
    if "cnf" in claims:
        require_holder(read_binding(claims), proof=proof, certificate=certificate)
    if "authorization_details" in claims:  # a limit that is passed over is a wider grant
        raise InvalidProof(Fault.SCOPE, "`authorization_details` of an identity provider has no meaning here")
    jti = text(claims, "jti", longest=256)
    return IdentityGrant(
        issuer=issuer.issuer,
        subject=text(claims, "sub", longest=255),
        tenant=issuer.tenant,
        client=client,
        expires_at=times.expires_at,
        once=once("id-jag", issuer.issuer, jti, until=times.expires_at + issuer.skew_ms),
        scope=_scope(claims),
        resources=_resources(claims),
        signed_in_at=optional_time(claims, "auth_time"),
        context=optional_text(claims, "acr", longest=256),
        issued_at=times.issued_at,
    )


def _scope(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = optional_text(claims, "scope")
    if value is not None and not _SCOPE.fullmatch(value):
        raise InvalidProof(Fault.MALFORMED, "`scope` is not words with one space between them")
    return None if value is None else tuple(value.split(" "))


def _resources(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """RFC 8707, 2: one resource, or a list. One that is there and names nothing could mean all or none."""
    if "resource" not in claims:
        return ()
    value = claims["resource"]
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not 0 < len(given) <= MAX_RESOURCES:
        raise InvalidProof(Fault.MALFORMED, f"`resource` is not one to {MAX_RESOURCES} strings")
    if not all(isinstance(each, str) and 0 < len(each) <= MAX_TEXT for each in given):
        raise InvalidProof(Fault.MALFORMED, "`resource` holds what is not a string, is empty, or is too long")
    return tuple(given)
