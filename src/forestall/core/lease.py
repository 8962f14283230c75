"""When a credential is over: one rule, for every credential that the log has no end of."""

from __future__ import annotations

from dataclasses import dataclass

from forestall.core.model import Grant, Lease, Risk, Scope
from forestall.core.reason import Reason

_LEVELS = tuple(Risk)
"""From the lowest."""


@dataclass(frozen=True, slots=True)
class Around:
    """What is known of a credential's surroundings at one moment."""

    at: int
    grant: Grant | None
    """Of its task, while that is open."""
    stopped: Reason | None
    """As `port.State.stopped` says of its task."""
    settled: bool
    """Its permit has an outcome."""
    risk: Risk | None = None
    """Of its task; None where nobody tells."""
    revoke_at: Risk | None = None
    """The risk that ends it; None where none does."""
    until: int = 0
    """When the backend ends it, unless it is renewed before; 0 where only the lease says."""
    is_ours: bool = True
    """This process made it. Nobody else has what an answer alone told, and no tool uses it any more."""
    condemned: str = ""
    """Why it is to be ended whatever its task is doing; empty where nothing of the kind has happened."""


def over(lease: Lease, around: Around) -> str:
    """Why it is to be ended, as the ledger says it; empty while it may live."""
    if around.condemned:
        return around.condemned
    if not around.is_ours:
        return "swept"
    if around.stopped is Reason.REVOKED:
        return "killed"
    if around.grant is None:
        return "task_ended"
    if around.stopped is Reason.SUSPENDED:
        return "suspended"
    if lease.scope is Scope.ACTION and around.settled:
        return "settled"
    if around.at >= min(lease.expires_at, around.until or lease.expires_at):
        return "expired"
    return "risk" if reaches(around.risk, around.revoke_at) else ""


def reaches(risk: Risk | None, level: Risk | None) -> bool:
    """Is it as high as that? What nobody tells reaches nothing: where it matters, policy asks for it."""
    return risk is not None and level is not None and _LEVELS.index(risk) >= _LEVELS.index(level)
