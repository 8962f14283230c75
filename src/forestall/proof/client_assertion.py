"""Clients of the token endpoint, by an assertion that they sign themselves (RFC 7521, 4.2; RFC 7523, 2.2 and 3).

No secret is shared, and nothing that is sent can be sent again: an assertion is for one token endpoint, lives for
minutes, and counts once. The caller burns `Authenticated.once` before it believes it.

The audience is the authorization server's issuer identifier and nothing else. RFC 7523 lets it be the token endpoint's
address as well; a client of two servers could then be led to sign for one what the other takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import MAX_SKEW_MS, MAX_TEXT, check_times, require_audience, text
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet, SigningKey
from forestall.proof.jws import sign, verify
from forestall.proof.once import Once, once

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""The one value of `client_assertion_type` that goes with these (RFC 7523, 2.2)."""

TYPE = "client-authentication+jwt"
"""`typ` of the assertions that we make, and one that is accepted; older clients write `JWT`, or none."""

TYPES: frozenset[str | None] = frozenset({TYPE, "jwt", None})

MAX_JTI = 256
"""Characters."""

MAX_LIFE_MS = 300_000
"""Five minutes. An assertion is made for one request; the longer it counts, the longer it has to be remembered."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client that was registered, and the keys that are its own."""

    id: str
    """`client_id`."""
    keys: KeySet
    algorithms: frozenset[Algorithm]
    max_life_ms: int = MAX_LIFE_MS
    skew_ms: int = 10_000

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= MAX_TEXT or not self.keys.keys or not self.algorithms:
            raise ValueError("a client has an id, keys and algorithms")
        if self.max_life_ms <= 0 or not 0 <= self.skew_ms <= MAX_SKEW_MS:
            raise ValueError(f"a client has a lifetime for its assertions, and a skew of 0 to {MAX_SKEW_MS} ms")


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The client signed this request. Good only after `once` was burnt."""

    client: str
    once: Once
    expires_at: int
    """Milliseconds since the epoch."""


def verify_client(assertion: str | bytes, client: Client, *, audience: str, now: int) -> Authenticated:
    """That the assertion is the client's, for us, now.

    Args:
        assertion: `client_assertion`, as it came.
        client: the one that `client_id` of the request names. Which it is, the assertion does not get to say.
        audience: our issuer identifier.
        now: milliseconds since the epoch.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED; WRONG_ISSUER or WRONG_SUBJECT, where it is
            not by or not about the client; WRONG_AUDIENCE, CLOCK, NOT_YET_VALID, EXPIRED, TOO_LONG.
    """
    claims = verify(assertion, client.keys, algorithms=client.algorithms, types=TYPES).claims()
    if text(claims, "iss") != client.id:
        raise InvalidProof(Fault.WRONG_ISSUER, "a client signs for itself alone")
    if text(claims, "sub") != client.id:
        raise InvalidProof(Fault.WRONG_SUBJECT, "a client signs for itself alone")
    require_audience(claims, audience, single=True)
    required = frozenset({"exp", "iat"})
    times = check_times(claims, now=now, skew_ms=client.skew_ms, required=required, max_life_ms=client.max_life_ms)
    assert times.expires_at is not None
    jti = text(claims, "jti", longest=MAX_JTI)
    # the whole of the time in which it would be accepted: an assertion that is forgotten earlier comes back
    until = times.expires_at + client.skew_ms
    return Authenticated(client.id, once("client-assertion", client.id, audience, jti, until=until), times.expires_at)


def make_assertion(key: SigningKey, *, client: str, audience: str, now: int, jti: str, life_ms: int = 60_000) -> str:
    """An assertion of ours, where we are a client ourselves. `jti` is 16 random bytes or more, in text.

    Raises:
        ValueError: a lifetime that is not of whole seconds from 1 s to `MAX_LIFE_MS`.
    """
    if not 0 < life_ms <= MAX_LIFE_MS or life_ms % 1000:
        raise ValueError(f"an assertion lives for whole seconds, at most {MAX_LIFE_MS} ms")
    issued_at = now // 1000
    claims: dict[str, Any] = {
        "iss": client,
        "sub": client,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + life_ms // 1000,
        "jti": jti,
    }
    return sign(claims, key, typ=TYPE)
