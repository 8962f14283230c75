"""What every endpoint of the token service needs: the parts, the time, and a place to write what was used and refused.

What counts once (an assertion, a proof, a ticket) is claimed in memory, where one caller wins, and written to the log
before anybody is answered: on its own, or just before the entry that it led to, so that the two share a sync
(docs/adr/0013-token-service.md).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from forestall.core.action import ask_for
from forestall.core.ask import CannotDo, Flow, Verify
from forestall.core.control import out_of_hand
from forestall.core.entry import Use, denied, used
from forestall.core.errors import ForestallError, Unavailable
from forestall.core.model import Action, Deny, Grant, Hold, Json, Subject
from forestall.core.reason import Reason
from forestall.proof.once import Once
from forestall.run import run_async
from forestall.server.oauth.nonces import Nonces
from forestall.server.oauth.refusal import Code, Refusal, refused_as
from forestall.tokens import Tokens
from forestall.wire import Handler, Parts, handlers, order, record

TOKEN = "forestall/token"  # noqa: S105 - no password
"""Under this name requests that were refused before anything was decided stand among the denials."""


@dataclass(frozen=True, slots=True)
class Service:
    parts: Parts
    nonces: Nonces = field(default_factory=lambda: Nonces(secrets.token_bytes(32)))

    @property
    def tokens(self) -> Tokens:
        """As the rules are now. Raises Refusal, where nobody can be verified."""
        tokens = self.parts.tokens
        if tokens is None or not tokens.issuer:
            raise Refusal(Code.INVALID_CLIENT, Reason.INVALID_PROOF, "there is no identity.toml: nobody is anybody")
        return tokens

    def now(self) -> int:
        return self.parts.now()

    # -- what counts once

    def claim(self, uses: Sequence[Use], at: int) -> None:
        """Raises Refusal, where one of them was shown before: told as if it had been no proof at all."""
        with refused_as(Code.INVALID_CLIENT):
            self.parts.state.used.claim(uses, at)

    async def write_down(self, uses: Sequence[Use], at: int, *, durable: bool) -> None:
        """Raises Unavailable."""
        written = record(self.parts, used(secrets.token_hex(16), uses, at, durable=durable))
        if written is not None:
            await written

    # -- what is decided

    async def decide(self, flow: Flow[Any], subject: Subject, name: str) -> Grant:
        """The grant that a flow comes to. Raises Refusal, where it comes to another end, recorded as `name`."""
        limit = time.monotonic() + self.parts.config.serve.decision_timeout_ms / 1000
        try:
            decision = await run_async(flow, self.table(), deadline=limit)
        except CannotDo as error:
            raise refusal_of(error, subject, name) from None
        if isinstance(decision, Grant):
            return decision
        assert isinstance(decision, Deny | Hold)
        detail = decision.detail if isinstance(decision, Deny) else ""
        raise refusal_of(CannotDo(decision.reason, detail), subject, name)

    def table(self) -> Mapping[type, Handler]:
        """Who asks was verified before the flow began: `Verify` gives back the subject that it is handed."""
        return {**handlers(self.parts, directory=""), Verify: lambda ask: _verified(ask.proof)}

    def ask(
        self, tool: str, arguments: Mapping[str, Json], *, task: str, proof: Subject | None, name: str = ""
    ) -> Action:
        return ask_for(
            tool,
            arguments,
            action_id=name or secrets.token_hex(16),
            task=task,
            pin="",
            salt=secrets.token_bytes(16),
            at=self.now(),
            proof=proof,
        )

    # -- what is refused

    async def record_refusal(self, refusal: Refusal, endpoint: str) -> str:
        """The decision's id, for the operator to find it by. A task that gets out of hand is suspended."""
        if refusal.decision:
            return refusal.decision
        who = refusal.subject.id if refusal.subject is not None else ""
        action = self.ask(TOKEN, {"endpoint": endpoint, "client": who}, task=refusal.task, proof=None)
        detail = f"{endpoint}: {refusal.detail}" if refusal.detail else endpoint
        denial = Deny(action.id, refusal.reason, detail=detail)
        with suppress(ForestallError):  # it stands whether or not that can be written
            record(self.parts, denied(denial, action, refusal.subject, None))
        if refusal.code is Code.DENIED and refusal.task and refusal.subject is not None:
            trouble = self.parts.runaways.of(refusal.task).denied(action, denial)
            if trouble:
                with suppress(ForestallError):  # it is refused, and its connections are stopped, all the same
                    await order(self.parts, out_of_hand(refusal.task, refusal.subject.tenant, trouble))
        return action.id


def use_of(once: Once, by: Subject) -> Use:
    return Use(once.id, f"{by.trust_domain} {by.id}", once.until)


def refusal_of(error: CannotDo | Unavailable, subject: Subject | None, decision: str = "") -> Refusal:
    reason = error.reason if isinstance(error, CannotDo) else Reason.UNAVAILABLE
    code = Code.UNAVAILABLE if reason in {Reason.UNAVAILABLE, Reason.DEADLINE} else Code.DENIED
    detail = error.detail if isinstance(error, CannotDo) else str(error)
    refusal = Refusal(code, reason, detail, decision=decision)
    refusal.subject = subject
    return refusal


def _verified(proof: object) -> Subject:
    if not isinstance(proof, Subject):
        raise CannotDo(Reason.INVALID_PROOF, "nobody was verified")
    return proof
