"""Where a connection's grant is looked up: what makes of a token, and the proof with it, a task and who acts in it."""

from __future__ import annotations

from collections.abc import Callable

from forestall.core.ask import CannotDo
from forestall.core.model import Grant, Subject
from forestall.core.reason import Reason
from forestall.wire import Parts

AcceptGrant = Callable[[Parts, str, str, str, int], tuple[Grant, Subject]]
"""Of the parts, the token, the proof, the nonce that it is for, and the time. Blocks. Raises CannotDo."""


def no_grants(parts: Parts, token: str, proof: str, nonce: str, at: int) -> tuple[Grant, Subject]:
    """Where no tokens are issued, none is good."""
    del parts, token, proof, nonce, at
    raise CannotDo(Reason.INVALID_PROOF, "this decision point issues no grants as tokens")
