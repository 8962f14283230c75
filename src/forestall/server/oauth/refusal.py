"""Why a request gets nothing: a standard code for who asked, and what was really wrong for the operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from forestall.core.ask import CannotDo
from forestall.core.errors import Unavailable
from forestall.core.model import NOTHING, Subject
from forestall.core.reason import Reason
from forestall.core.task import told
from forestall.proof.fault import InvalidProof


class Code(StrEnum):
    """`error` (RFC 6749, 5.2). They tell apart what an honest client can mend, and nothing else."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    INVALID_GRANT = "invalid_grant"
    INVALID_SCOPE = "invalid_scope"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    INVALID_TARGET = "invalid_target"  # RFC 8693, 2.2.2
    INVALID_DETAILS = "invalid_authorization_details"  # RFC 9396, 5
    INVALID_PROOF = "invalid_dpop_proof"  # RFC 9449, 5
    USE_NONCE = "use_dpop_nonce"  # RFC 9449, 8
    DENIED = "access_denied"  # decided, and refused: who asked was verified
    UNAVAILABLE = "temporarily_unavailable"

    @property
    def status(self) -> int:
        return {Code.INVALID_CLIENT: 401, Code.UNAVAILABLE: 503}.get(self, 400)


class Refusal(Exception):
    """A request is refused. Never sent as it is: `code` and what `told` says are all that leaves."""

    def __init__(self, code: Code, reason: Reason, detail: str, *, decision: str = "") -> None:
        """`decision`: the id of one that was recorded already."""
        super().__init__(detail)
        self.code, self.reason, self.detail, self.decision = code, reason, detail, decision
        self.subject: Subject | None = None
        self.task = ""

    @property
    def told(self) -> Mapping[str, str]:
        """What a verified caller is told of a decision: what would change it, and nothing of the policy."""
        if self.code is not Code.DENIED:
            return NOTHING
        sentence = told(CannotDo(self.reason, self.detail))
        return {"error_description": sentence, "reason": self.reason.value, "retry": self.reason.advice.retry.value}


def malformed(detail: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, Reason.INVALID_MESSAGE, detail)


@contextmanager
def refused_as(code: Code) -> Iterator[None]:
    """What does not hold inside is `code` outside, whatever was wrong with it."""
    try:
        yield
    except InvalidProof as error:
        raise Refusal(code, Reason.INVALID_PROOF, str(error)) from None
    except Unavailable as error:
        raise Refusal(Code.UNAVAILABLE, Reason.UNAVAILABLE, str(error)) from None
