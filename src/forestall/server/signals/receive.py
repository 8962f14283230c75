"""POST /signals: a security event token, pushed by a transmitter (RFC 8935).

It is acknowledged once what follows from it is on disk. One that comes again, and one about nobody that we know, is
acknowledged and does nothing; both are the transmitter's to send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from forestall.core.errors import Unavailable
from forestall.identities import Identities, Transmitter
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.set import RiskLevelChange, SecurityEvent
from forestall.server.http.message import Request, Response, json_response
from forestall.server.signals.about import About, find
from forestall.server.signals.react import Hands, react, signal_of, signs_out

PATH = "/signals"

CONTENT_TYPE = "application/secevent+jwt"

ERRORS = {
    Fault.UNKNOWN_KEY: "invalid_key",
    Fault.ALGORITHM: "invalid_key",
    Fault.NOT_PUBLIC: "invalid_key",
    Fault.BAD_SIGNATURE: "authentication_failed",
    Fault.UNSIGNED: "authentication_failed",
    Fault.EMBEDDED_KEY: "authentication_failed",
    Fault.WRONG_ISSUER: "invalid_issuer",
    Fault.WRONG_AUDIENCE: "invalid_audience",
}
"""RFC 8935, 2.4; every other fault is `invalid_request`."""


class Memory(Protocol):
    """What was heard before. Everything blocks; everything but `signed_out_at` raises Unavailable."""

    def was_heard(self, event: str) -> bool: ...

    def newest(self, issuer: str, subject: str) -> int: ...

    def sign_out(self, user: str, at: int, now: int) -> None: ...

    def remember(self, event: str, until: int, *, issuer: str, subject: str, at: int, now: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Receiver:
    """`verify` raises InvalidProof, and Unavailable. `say` takes a sentence for the operator, without a full stop."""

    verify: Callable[[str, int], Awaitable[tuple[Transmitter, SecurityEvent]]]
    identities: Callable[[], Identities]
    """As they are now."""
    issuer: Callable[[], str]
    """Ours."""
    memory: Memory
    hands: Hands
    now: Callable[[], int]
    say: Callable[[str], None]
    turn: asyncio.Lock

    async def receive(self, request: Request) -> Response:
        """A route."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CONTENT_TYPE:
            return _error("invalid_request", f"the body is not {CONTENT_TYPE}")
        now = self.now()
        try:
            transmitter, event = await self.verify(request.body.decode("ascii"), now)
        except UnicodeDecodeError:
            return _error("invalid_request", "the body is not a token")
        except InvalidProof as error:
            if error.fault is Fault.NO_BUNDLE:  # ours to mend, so that it is sent again
                self.say(f"A security event cannot be checked: {error}")
                return Response(503)
            self.say(f"A security event was refused: {error}")
            return _error(ERRORS.get(error.fault, "invalid_request"), "the event was not accepted")
        except Unavailable as error:
            self.say(f"A security event cannot be checked: {error}".rstrip("."))
            return Response(503)
        return await self._take(transmitter, event, now)

    async def _take(self, transmitter: Transmitter, event: SecurityEvent, now: int) -> Response:
        signal = signal_of(event.event)
        if signal is not None and signal not in transmitter.signals:
            self.say(f"{transmitter.issuer} may not send {signal.value}")
            return _error("access_denied", "this event is not taken from this transmitter")
        about = None if signal is None else find(event.subject, transmitter.tenant, self.identities(), self.issuer())
        if signal is not None and about is None:
            self.say(f"{transmitter.issuer} sent {signal.value} about nobody that is known here")
        try:
            async with self.turn:  # two of one event, or of one subject, are taken one after the other
                await self._carry_out(event, about, now)
        except Unavailable as error:
            self.say(f"A security event could not be carried out, and will be sent again: {error}".rstrip("."))
            return Response(503)
        return Response(202)

    async def _carry_out(self, event: SecurityEvent, about: About | None, now: int) -> None:
        memory, issuer = self.memory, event.issuer
        if await asyncio.to_thread(memory.was_heard, event.once.id):
            return
        at = min(event.occurred_at or event.issued_at, now)
        subject = ""
        if about is not None:
            if isinstance(event.event, RiskLevelChange):
                subject = f"{about.target.reach.value} {about.target.trust_domain} {about.target.name}"
                if at < await asyncio.to_thread(memory.newest, issuer, subject):
                    about, subject = None, ""  # it was overtaken by a newer one
            elif about.user and not about.task and signs_out(event.event):
                await asyncio.to_thread(memory.sign_out, about.user, at, now)
        if about is not None:
            await react(event, about, self.hands)
        await asyncio.to_thread(
            lambda: memory.remember(event.once.id, event.once.until, issuer=issuer, subject=subject, at=at, now=now)
        )


def _error(code: str, description: str) -> Response:
    return json_response(400, {"err": code, "description": description})
