"""The user that a task serves, by an ID token (OpenID Connect Core 1.0, 3.1.3.7).

It says who signed in at the front end, and nothing of what they asked for. It is read and never passed on.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import (
    MAX_SKEW_MS,
    audiences,
    check_times,
    optional_text,
    optional_time,
    require_audience,
    require_issuer,
    text,
)
from forestall.proof.encoding import encode
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet
from forestall.proof.jws import verify
from forestall.proof.oidc import HEADER, TYPES
from forestall.proof.url import require_issuer_url


@dataclass(frozen=True, slots=True)
class UserIssuer:
    """An identity provider whose users tasks may serve."""

    issuer: str
    client: str
    """The `client_id` that the front end has there: the token's audience."""
    algorithms: frozenset[Algorithm]
    tenant: str
    """Whose users they are: of one tenant here, whatever the token says."""
    max_age_ms: int
    """How long ago the token may have been issued."""
    skew_ms: int = 30_000
    loopback: bool = False

    def __post_init__(self) -> None:
        require_issuer_url(self.issuer, loopback=self.loopback)
        if not (self.client and self.algorithms and self.tenant) or self.max_age_ms <= 0:
            raise ValueError("a rule for users has a client, algorithms, a tenant, and an age")
        if not 0 <= self.skew_ms <= MAX_SKEW_MS:
            raise ValueError(f"a skew has 0 to {MAX_SKEW_MS} ms")


def user_id(issuer: str, subject: str) -> str:
    """Who a user is, in one text, as `Grant.user` and orders have it. An issuer has no `#`."""
    return f"{issuer}#{subject}"


@dataclass(frozen=True, slots=True)
class User:
    """Someone who signed in. The pair of issuer and subject is who it is; an address is not."""

    issuer: str
    subject: str
    tenant: str
    expires_at: int
    """Milliseconds since the epoch, as the other times."""
    signed_in_at: int | None
    """`auth_time`."""
    context: str | None
    """`acr`: how surely it is them."""
    issued_at: int

    @property
    def vouched_at(self) -> int:
        """When the issuer last knew that they were there: they signed in, or else the token was issued."""
        return self.issued_at if self.signed_in_at is None else self.signed_in_at


def verify_user(
    token: str | bytes,
    keys: KeySet,
    issuer: UserIssuer,
    *,
    now: int,
    nonce: str | None,
    access_token: str | None,
    max_sign_in_age_ms: int | None = None,
) -> User:
    """The user that the ID token is of.

    Args:
        token: the compact form, as it came.
        keys: the issuer's.
        issuer: the rule.
        now: milliseconds since the epoch.
        nonce: the one that the sign-in began with; None where the caller did not begin it.
        access_token: the one that came with it, to compare with `at_hash`; None where none did.
        max_sign_in_age_ms: how long ago they may have signed in; then `auth_time` has to be there.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED, WRONG_ISSUER, WRONG_AUDIENCE, CLOCK,
            NOT_YET_VALID, EXPIRED, TOO_OLD, NONCE; OTHER_TOKEN, where `at_hash` is another access token's.
    """
    verified = verify(token, keys, algorithms=issuer.algorithms, types=TYPES, members=HEADER)
    claims = verified.claims()
    require_issuer(claims, issuer.issuer)
    _check_client(claims, issuer.client)
    times = check_times(
        claims, now=now, skew_ms=issuer.skew_ms, required=frozenset({"exp", "iat"}), max_age_ms=issuer.max_age_ms
    )
    assert times.expires_at is not None
    assert times.issued_at is not None
    signed_in_at = optional_time(claims, "auth_time")
    if max_sign_in_age_ms is not None:
        if signed_in_at is None:
            raise InvalidProof(Fault.MALFORMED, "`auth_time` is missing")
        if signed_in_at < now - max_sign_in_age_ms - issuer.skew_ms:
            raise InvalidProof(Fault.TOO_OLD, "signed in too long ago")
    if nonce is not None and not _same(optional_text(claims, "nonce") or "", nonce):
        raise InvalidProof(Fault.NONCE)
    half = optional_text(claims, "at_hash", longest=64)
    if half is not None and access_token is not None and not _same(half, at_hash(verified.header, access_token)):
        raise InvalidProof(Fault.OTHER_TOKEN)
    return User(
        issuer=issuer.issuer,
        subject=text(claims, "sub", longest=255),
        tenant=issuer.tenant,
        expires_at=times.expires_at,
        signed_in_at=signed_in_at,
        context=optional_text(claims, "acr", longest=256),
        issued_at=times.issued_at,
    )


def at_hash(header: Mapping[str, Any], access_token: str) -> str:
    """The left half of the access token's digest, with the hash of the ID token's algorithm (Core 3.1.3.6).

    For EdDSA that is SHA-512, the one that Ed25519 signs with.
    """
    bits = header["alg"][2:]
    name = f"sha{bits}" if bits in {"256", "384", "512"} else "sha512"
    whole = hashlib.new(name, _bytes(access_token)).digest()
    return encode(whole[: len(whole) // 2])


def _check_client(claims: Mapping[str, Any], client: str) -> None:
    require_audience(claims, client, single=False)
    party = optional_text(claims, "azp")
    if party is None and len(audiences(claims)) > 1:
        raise InvalidProof(Fault.WRONG_AUDIENCE, "several audiences, and none of them is the authorized party")
    if party is not None and party != client:
        raise InvalidProof(Fault.WRONG_AUDIENCE, "the authorized party is another")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
