"""What who asked gets: a grant as a token that is bound to their key, or a refusal that tells little."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from forestall.core.ask import CannotDo
from forestall.core.model import NOTHING, Grant, Json, Subject
from forestall.core.reason import Reason
from forestall.core.task import close_task
from forestall.proof.fault import InvalidProof
from forestall.proof.token import GrantToken, details_of, sign_grant, to_the_second
from forestall.run import run_async
from forestall.server.http.message import Response, json_response
from forestall.server.oauth.refusal import Code, Refusal
from forestall.server.oauth.service import Service

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - no password
"""A grant, among the types of RFC 8693, 3."""


def granted(service: Service, grant: Grant, subject: Subject, at: int) -> Response:
    """Raises InvalidProof: too_large, where no token holds what the grant says."""
    tokens = service.tokens
    token = GrantToken(
        issuer=tokens.issuer,
        audience=tokens.issuer,
        issued_at=at - at % 1000,
        id=secrets.token_hex(16),
        epoch=service.parts.state.epoch,
        assurance=subject.assurance,
        grant=grant,
    )
    return answer(
        {
            "access_token": sign_grant(token, tokens.keys.current),
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "DPoP" if subject.key.startswith("jkt:") else "N_A",
            "expires_in": max(0, (to_the_second(grant).expires_at - at) // 1000),
            "task": grant.task,
            "authorization_details": [details_of(grant)],
        }
    )


async def granted_or_closed(service: Service, grant: Grant, subject: Subject, at: int) -> Response:
    """As `granted`, of a task that is new: one that nobody can have a token for is not left open."""
    try:
        return granted(service, grant, subject, at)
    except InvalidProof as error:
        await close(service, grant, "failed")
        raise Refusal(Code.INVALID_DETAILS, Reason.INVALID_PARAMETERS, str(error)) from None


async def close(service: Service, grant: Grant, why: str) -> None:
    """Raises Refusal: temporarily_unavailable. Then it ends in its time, and nobody has a token for it."""
    try:
        await run_async(close_task(grant.task, why, service.now()), service.table())
    except CannotDo as error:
        raise Refusal(Code.UNAVAILABLE, error.reason, error.detail) from None


def answer(value: Mapping[str, Json], headers: Mapping[str, str] = NOTHING) -> Response:
    return json_response(200, dict(value), headers)


def refused(refusal: Refusal, decision: str, nonce: str) -> Response:
    """`decision`: what an operator finds it by."""
    headers = {"DPoP-Nonce": nonce} if refusal.code in {Code.USE_NONCE, Code.INVALID_PROOF} else {}
    body = {"error": refusal.code.value, "decision": decision, **refusal.told}
    return json_response(refusal.code.status, body, headers)
