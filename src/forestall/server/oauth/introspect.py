"""POST /introspect (RFC 7662): does a grant count, and what does it say? Of one that does not, nothing is said."""

from __future__ import annotations

from forestall.core.ask import CannotDo
from forestall.core.model import Grant, Json
from forestall.proof.actor import Actor, ActorChain
from forestall.proof.fault import InvalidProof
from forestall.proof.token import GrantToken, binding_of, details_of, to_the_second
from forestall.server.http.message import Request, Response
from forestall.server.oauth.answer import answer
from forestall.server.oauth.authenticate import authenticate
from forestall.server.oauth.form import read_form, required
from forestall.server.oauth.own import recorded
from forestall.server.oauth.service import Service


async def introspect(service: Service, request: Request) -> Response:
    """For workloads of the grant's own trust domain. What they show counts once, but is not written down: it moves
    nothing, and to hear the same again gives nobody more.
    """
    form = read_form(request)
    caller = await authenticate(service, request, form)
    service.claim(caller.uses, caller.at)
    try:
        said = service.tokens.read_grant(required(form, "token"), caller.at)
        grant = recorded(service, said)
    except (InvalidProof, CannotDo):
        return answer({"active": False})
    subject = caller.subject
    if (grant.tenant, grant.trust_domain) != (subject.tenant, subject.trust_domain) or caller.at >= grant.expires_at:
        return answer({"active": False})
    return answer({"active": True, **_about(said, grant)})


def _about(said: GrantToken, grant: Grant) -> dict[str, Json]:
    chain = ActorChain(tuple(Actor(issuer, subject) for issuer, subject in grant.chain))
    return {
        "iss": said.issuer,
        "aud": said.audience,
        "sub": grant.user or grant.holder,
        "client_id": grant.holder,
        "iat": said.issued_at // 1000,
        "exp": to_the_second(said.grant).expires_at // 1000,
        "jti": said.id,
        "txn": grant.tree,
        "task": grant.task,
        "act": chain.to_json(),
        "cnf": binding_of(grant.key).to_json(),
        "token_type": "DPoP" if grant.key.startswith("jkt:") else "N_A",
        "authorization_details": [details_of(grant)],
    }
