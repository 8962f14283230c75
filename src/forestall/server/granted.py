"""Where a connection's grant is looked up: what makes of a token, and the proof with it, a task and who acts in it."""

from __future__ import annotations

from collections.abc import Callable

from forestall.core.model import Grant, Subject
from forestall.wire import Parts

AcceptGrant = Callable[[Parts, str, str, str, int], tuple[Grant, Subject]]
"""Of the parts, the token, the proof, the nonce that it is for, and the time. Blocks. Raises CannotDo."""


def accept(parts: Parts, token: str, proof: str, nonce: str, at: int) -> tuple[Grant, Subject]:
    """As the token service issues them. What reads them is loaded for the first."""
    from forestall.server.oauth.accept import accept_grant

    return accept_grant(parts, token, proof, nonce, at)
