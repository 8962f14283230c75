"""The receiver of a decision point."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from forestall.core.control import Command
from forestall.identities import Identities, Transmitter
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.set import SecurityEvent
from forestall.server.http.message import Routes
from forestall.server.signals.react import Hands
from forestall.server.signals.receive import PATH, Receiver
from forestall.wire import Parts


def routes(parts: Parts, give: Callable[[Command], Awaitable[object]], say: Callable[[str], None]) -> Routes:
    """By method and path.

    Args:
        parts: of the decision point.
        give: an order; once it is answered it is on disk, in force, and kept by whoever is connected.
        say: takes a sentence for the operator, without a full stop at its end.

    Raises:
        Unavailable: what was heard before cannot be read.
    """

    async def verify(token: str, now: int) -> tuple[Transmitter, SecurityEvent]:
        if parts.tokens is None:
            raise InvalidProof(Fault.WRONG_ISSUER, "no transmitter is configured")
        return await parts.tokens.verifiers.event(token, now)

    receiver = Receiver(
        verify=verify,
        identities=lambda: Identities() if parts.tokens is None else parts.tokens.identities,
        issuer=lambda: parts.issuer,
        memory=parts.hear(),
        hands=Hands(give, parts.state.open_tasks, parts.state.standing),
        now=parts.now,
        say=say,
        turn=asyncio.Lock(),
    )
    return {("POST", PATH): receiver.receive}
