"""A caller's own grant: the token that they show, as it stands in the record, in the hands of who holds it."""

from __future__ import annotations

from forestall.core.ask import CannotDo, FindGrant
from forestall.core.grant import holder_objection
from forestall.core.model import Grant
from forestall.core.reason import Reason
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.possession import require_holder
from forestall.proof.token import GrantToken, binding_of, require_recorded
from forestall.server.oauth.authenticate import Caller
from forestall.server.oauth.refusal import Code, Refusal, refused_as
from forestall.server.oauth.service import Service


def recorded(service: Service, token: GrantToken) -> Grant:
    """Raises InvalidProof, as `require_recorded`; CannotDo, where the task is suspended or was ended."""
    found: Grant | None = service.table()[FindGrant](FindGrant(token.grant.task))
    return require_recorded(token, found)


def held(service: Service, caller: Caller, token: str, code: Code) -> Grant:
    """The grant that the caller holds. Raises Refusal: `code`; access_denied, where its task is over or suspended."""
    with refused_as(code):
        said = service.tokens.read_grant(token, caller.at)
        require_holder(binding_of(said.grant.key), proof=caller.proof, certificate=caller.certificate)
        try:
            grant = recorded(service, said)
        except CannotDo as error:
            raise _over(said, error.reason, error.detail) from None
        except InvalidProof as error:
            if error.fault is Fault.ENDED:
                raise _over(said, Reason.TASK_ENDED, "") from None
            raise
    against = holder_objection(grant, caller.subject, caller.at)
    if against is not None:
        refusal = Refusal(code, against, "the grant is not the caller's")
        refusal.task = grant.task
        raise refusal
    return grant


def _over(token: GrantToken, reason: Reason, detail: str) -> Refusal:
    refusal = Refusal(Code.DENIED, reason, detail)
    refusal.task = token.grant.task
    return refusal
