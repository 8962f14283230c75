"""A task is handed on in two steps, so that each agent speaks for itself.

The holder asks for a ticket that names the receiver and how much of the task it is to have. The receiver comes with it,
with an identity and a key of its own: only then is the delegation decided, under the rules and labels of that moment.
"""

from __future__ import annotations

import secrets

from forestall.core.attenuate import attenuate
from forestall.core.delegate import delegate
from forestall.core.errors import Unavailable
from forestall.core.model import Grant, Subject
from forestall.core.reason import Objection
from forestall.core.wanted import DELEGATE, parse_wanted
from forestall.proof.ticket import LIFE_MS, TOKEN_TYPE, Ticket, read_handing_on, sign_ticket, verify_ticket
from forestall.server.http.message import Response
from forestall.server.oauth.answer import answer, granted_or_closed
from forestall.server.oauth.authenticate import Caller
from forestall.server.oauth.form import Form, read_details, required
from forestall.server.oauth.own import held
from forestall.server.oauth.refusal import Code, Refusal, refused_as
from forestall.server.oauth.service import Service, refusal_of, use_of


async def hand_on(service: Service, caller: Caller, form: Form) -> Response:
    """The holder's step: a ticket for its grant (RFC 8693, 2.1). What can be known to be too much is refused now."""
    with refused_as(Code.INVALID_DETAILS):
        arguments = read_handing_on(read_details(form))
    parent = held(service, caller, required(form, "subject_token"), Code.INVALID_REQUEST)
    _require_narrower(parent, caller, arguments)
    ticket = Ticket(
        issuer=service.tokens.issuer,
        id=secrets.token_hex(16),
        issued_at=caller.at - caller.at % 1000,
        tree=parent.tree,
        task=parent.task,
        by=caller.subject,
        arguments=arguments,
    )
    with refused_as(Code.INVALID_DETAILS):
        signed = sign_ticket(ticket, service.tokens.keys.current)
    service.claim(caller.uses, caller.at)
    try:
        await service.write_down(caller.uses, caller.at, durable=True)
    except Unavailable as error:
        raise refusal_of(error, caller.subject) from None
    return answer(
        {
            "access_token": signed,
            "issued_token_type": TOKEN_TYPE,
            "token_type": "N_A",
            "expires_in": LIFE_MS // 1000,
        }
    )


async def receive(service: Service, caller: Caller, form: Form) -> Response:
    """The receiver's step: the ticket for a grant of its own."""
    tokens = service.tokens
    with refused_as(Code.INVALID_REQUEST):
        ticket = verify_ticket(
            required(form, "subject_token"),
            tokens.keys.public(caller.at),
            issuer=tokens.issuer,
            receiver=caller.subject.id,
            now=caller.at,
        )
    uses = (*caller.uses, use_of(ticket.once, caller.subject))
    service.claim(uses, caller.at)
    await service.write_down(uses, caller.at, durable=False)  # the task's own entry is synced next, and this with it
    action = service.ask(DELEGATE.id, ticket.arguments, task=ticket.task, proof=ticket.by, name=ticket.id)
    grant = await service.decide(delegate(action, caller.subject, secrets.token_hex(16)), caller.subject, action.id)
    return await granted_or_closed(service, grant, caller.subject, caller.at)


def _require_narrower(parent: Grant, caller: Caller, arguments: dict[str, object]) -> None:
    """It is decided when the receiver comes; but who wants too much hears of it while they can still mend it."""
    wanted = parse_wanted(arguments)
    subject = caller.subject
    to = Subject(wanted.to, subject.assurance, tenant=subject.tenant, trust_domain=subject.trust_domain)
    against = attenuate(parent, wanted, task="", holder=to, at=caller.at)
    if isinstance(against, Objection):
        refusal = Refusal(Code.DENIED, against.reason, against.detail)
        refusal.task = parent.task
        raise refusal
