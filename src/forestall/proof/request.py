"""What a user asked for, in the words of the front end that they said it to: a signed request object of our own.

The workload carries it and cannot change it. It is for one user, counts once, and lives for minutes; what it says is
the text that control arguments may be traced to (design, 5). A request that comes without one is the workload's word.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import check_times, require_audience, require_issuer, require_members, text
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet
from forestall.proof.jws import verify
from forestall.proof.once import Once, once
from forestall.proof.user import user_id

TYPE = "task-request+jwt"

MAX_REQUEST = 8192
"""Characters of what a user asked for."""

MAX_LIFE_MS, SKEW_MS = 600_000, 30_000

CLAIMS = frozenset({"iss", "aud", "iat", "exp", "jti", "user", "request"})


@dataclass(frozen=True, slots=True)
class UserRequest:
    """Good only after `once` was burnt."""

    front_end: str
    user: str
    """As `proof.user.user_id` has it."""
    user_issuer: str
    text: str = field(repr=False)
    once: Once


def verify_request(
    token: str | bytes,
    keys: KeySet,
    *,
    issuer: str,
    audience: str,
    users: tuple[str, ...],
    algorithms: frozenset[Algorithm],
    now: int,
) -> UserRequest:
    """What the user asked for.

    Args:
        token: the compact form, as it came.
        keys: the front end's.
        issuer: the front end, as registered.
        audience: our issuer identifier.
        users: the issuers of users that it may speak for.
        algorithms: those that it may sign with.
        now: milliseconds since the epoch.

    Raises:
        InvalidProof: what `forestall.proof.jws.verify` raises; MALFORMED, WRONG_ISSUER, WRONG_AUDIENCE, CLOCK,
            EXPIRED, TOO_LONG; WRONG_SUBJECT, where the user is not one that it may speak for.
    """
    claims = verify(token, keys, algorithms=algorithms, types=frozenset({TYPE})).claims()
    require_issuer(claims, issuer)
    require_audience(claims, audience, single=True)
    require_members(claims, required=CLAIMS, optional=frozenset())
    required = frozenset({"exp", "iat"})
    times = check_times(claims, now=now, skew_ms=SKEW_MS, required=required, max_life_ms=MAX_LIFE_MS)
    assert times.expires_at is not None
    user = claims["user"]
    if not isinstance(user, dict):
        raise InvalidProof(Fault.MALFORMED, "`user` is not an object")
    require_members(user, required=frozenset({"iss", "sub"}), optional=frozenset())
    user_issuer, subject = text(user, "iss"), text(user, "sub", longest=255)
    if user_issuer not in users:
        raise InvalidProof(Fault.WRONG_SUBJECT, "the front end does not speak for that issuer's users")
    jti = text(claims, "jti", longest=256)
    return UserRequest(
        front_end=issuer,
        user=user_id(user_issuer, subject),
        user_issuer=user_issuer,
        text=text(claims, "request", longest=MAX_REQUEST),
        once=once("task-request", issuer, jti, until=times.expires_at + SKEW_MS),
    )
