"""For whom and through whom a task acts, in our own signed words: what another's authorization server is shown.

Two forms. A *task assertion* is the subject of a token exchange (RFC 8693, 2.1; RFC 7523, 3), of a type of its own. An
ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant-04) is the same as the authorization grant of one client. Both
are for one server, live for a minute, and have an id by which that server can tell the second use of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forestall.core.model import Actor as Pair
from forestall.proof.actor import Actor, ActorChain
from forestall.proof.id_jag import TYPE as ID_JAG
from forestall.proof.jwk import SigningKey
from forestall.proof.jws import sign

TYPE = "task-assertion+jwt"

LIFE_S = 60
"""Seconds: it is made for one request."""


@dataclass(frozen=True, slots=True)
class Behalf:
    subject: str
    """The user, as the other server knows them; the agent, where the task serves nobody."""
    chain: Sequence[Pair]
    """Who acts for whom, the one that acts now first; never empty."""
    task: str
    tree: str
    """The task that was opened first."""


def sign_assertion(behalf: Behalf, key: SigningKey, *, issuer: str, audience: str, now: int, jti: str) -> str:
    """A task assertion. `now`: milliseconds since the epoch; `jti`: 16 random bytes or more, in text.

    Raises:
        InvalidProof: a chain without an actor, with one twice, or too long.
    """
    return sign(_claims(behalf, issuer, audience, now, jti), key, typ=TYPE)


def sign_id_jag(
    behalf: Behalf,
    key: SigningKey,
    *,
    issuer: str,
    audience: str,
    client: str,
    scope: Sequence[str],
    resources: Sequence[str],
    now: int,
    jti: str,
) -> str:
    """An ID-JAG. `audience`: the issuer identifier of the resource's server; `client`: who may present it there.

    Raises:
        InvalidProof: as `sign_assertion`.
    """
    claims = _claims(behalf, issuer, audience, now, jti) | {"client_id": client, "scope": " ".join(scope)}
    if resources:
        claims["resource"] = resources[0] if len(resources) == 1 else list(resources)
    return sign(claims, key, typ=ID_JAG)


def _claims(behalf: Behalf, issuer: str, audience: str, now: int, jti: str) -> dict[str, Any]:
    issued_at = now // 1000
    return {
        "iss": issuer,
        "sub": behalf.subject,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + LIFE_S,
        "jti": jti,
        "act": ActorChain(tuple(Actor(domain, who) for domain, who in behalf.chain)).to_json(),
        "task": behalf.task,
        "txn": behalf.tree,
    }
