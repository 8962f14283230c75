"""What a caller has to burn, so that a proof counts once: an atomic insert of `id`, which may be dropped at `until`.

Whether it is there already only a store can say, and that is I/O; a proof is not good until its `Once` was burnt.
Where the insert finds it there, the fault is REPLAYED.
"""

from __future__ import annotations

from dataclasses import dataclass

from forestall.core.canonical import canonical
from forestall.proof.encoding import digest


@dataclass(frozen=True, slots=True)
class Once:
    id: str
    """43 characters: a digest, so that what an attacker puts into a `jti` decides nothing about the store's keys."""
    until: int
    """Milliseconds since the epoch: from then on the proof is refused for its age alone."""


def once(kind: str, *parts: str, until: int) -> Once:
    """`parts` name the proof among all of its kind: who made it (a key, an issuer), and its `jti`."""
    return Once(digest(canonical([kind, *parts])), until)
