"""A grant that is shown on the decision point's socket: whoever holds its key acts in its task on that connection."""

from __future__ import annotations

from forestall.core.ask import CannotDo, FindGrant
from forestall.core.grant import holder_objection
from forestall.core.model import Grant, Subject
from forestall.core.reason import Reason
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.possession import SOCKET_METHOD, SOCKET_URL, require_holder, verify_proof
from forestall.proof.token import binding_of, require_recorded
from forestall.wire import Parts, handlers


def accept_grant(parts: Parts, token: str, proof: str, nonce: str, at: int) -> tuple[Grant, Subject]:
    """The grant as it is recorded, and who holds it.

    Args:
        parts: of the decision point.
        token: the grant's, as it came.
        proof: a DPoP proof for it (RFC 9449), of `SOCKET_METHOD` and `SOCKET_URL`.
        nonce: the one that this connection was given, and nobody else.
        at: milliseconds since the epoch.

    Raises:
        CannotDo: invalid_proof; task_ended, or what the task was stopped for. `detail` is for the operator.
    """
    tokens = parts.tokens
    if tokens is None or not tokens.issuer:
        raise CannotDo(Reason.INVALID_PROOF, "this decision point issues no grants as tokens")
    try:
        said = tokens.read_grant(token, at)
        shown = verify_proof(
            proof, method=SOCKET_METHOD, url=SOCKET_URL, now=at, access_token=token, nonces=frozenset({nonce})
        )
        require_holder(binding_of(said.grant.key), proof=shown, certificate=None)
        recorded: Grant | None = handlers(parts, directory="")[FindGrant](FindGrant(said.grant.task))
        grant = require_recorded(said, recorded)
    except InvalidProof as error:
        reason = Reason.TASK_ENDED if error.fault is Fault.ENDED else Reason.INVALID_PROOF
        raise CannotDo(reason, f"grant: {error}") from None
    subject = Subject(
        grant.holder,
        said.assurance,
        instance=grant.instance,
        tenant=grant.tenant,
        trust_domain=grant.trust_domain,
        key=grant.key,
    )
    against = holder_objection(grant, subject, at)
    if against is not None:
        raise CannotDo(against)
    return grant, subject
