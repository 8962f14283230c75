"""A permit as a token: what a resource demands before it does anything (docs/adr/0018-permits-at-the-edge.md).

It says what was permitted, to whom, on which policy, and whose key may present it. It is good once, for seconds, and
only with a proof of that key. Who verifies it is a resource of its own (`edge/`), by code of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forestall.core.model import Permit
from forestall.proof.jwk import SigningKey
from forestall.proof.jws import sign

TYPE = "forestall-permit+jwt"

METHOD = "POST"
"""`htm` of a proof for a call that has no request line of its own; its `htu` is the audience."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a permit is good, and for whom."""

    issuer: str
    """The origin of the ledger that the permit is recorded in."""
    audience: str
    subject: str
    """The id of the workload, as it was verified."""
    epoch: int
    """Orders that were in force when it was given."""
    key: str
    """Thumbprint (RFC 7638) of the enforcement point's key."""
    instance: str = ""
    """The one instance of the audience that it is good at; empty: any, by a store of burns that they share."""


def sign_permit(permit: Permit, edge: Edge, key: SigningKey, at: int) -> str:
    """The token. Its times are whole seconds (RFC 7519, 2), and never beyond the permit's own.

    Args:
        permit: recorded, and confirmed to stand. Where it has `refs`, its digest is that of
            `core.refer.bound_digest`.
        edge: where it is good.
        key: of permits, and of nothing else.
        at: milliseconds since the epoch.

    Raises:
        InvalidInput: it has no canonical form.
    """
    claims: dict[str, Any] = {
        "iss": edge.issuer,
        "aud": edge.audience,
        "sub": edge.subject,
        "jti": permit.id,
        "iat": at // 1000,
        "exp": permit.expires_at // 1000,
        "task": permit.task,
        "tool": permit.tool,
        "pin": permit.pin,
        "arguments": permit.digest,
        "policy": permit.policy_digest,
        "epoch": edge.epoch,
        "effects": sorted(effect.value for effect in permit.effects),
        "cnf": {"jkt": edge.key},
    }
    if edge.instance:
        claims["instance"] = edge.instance
    if permit.refs:
        claims["refs"] = dict(permit.refs)
    return sign(claims, key, typ=TYPE)
