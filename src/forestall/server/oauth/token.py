"""POST /token: which of the service's grants is asked for (RFC 6749, 4.5), and by whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from forestall.core.reason import Reason
from forestall.proof.id_jag import GRANT_TYPE as ASSERTION
from forestall.proof.ticket import TOKEN_TYPE as TICKET
from forestall.server.http.message import Request, Response
from forestall.server.oauth import delegate, extend
from forestall.server.oauth import open as opening
from forestall.server.oauth.answer import ACCESS_TOKEN
from forestall.server.oauth.authenticate import Caller, authenticate
from forestall.server.oauth.form import Form, read_form, required
from forestall.server.oauth.refusal import Code, Refusal, malformed
from forestall.server.oauth.service import Service

CLIENT_CREDENTIALS = "client_credentials"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANT_TYPES = (CLIENT_CREDENTIALS, EXCHANGE, ASSERTION)

ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - no password

Handle = Callable[[Service, Caller, Form], Awaitable[Response]]

EXCHANGES: Mapping[tuple[str, str], Handle] = {
    (ID_TOKEN, ACCESS_TOKEN): opening.for_signed_in,
    (ACCESS_TOKEN, ACCESS_TOKEN): extend.live_on,
    (ACCESS_TOKEN, TICKET): delegate.hand_on,
    (TICKET, ACCESS_TOKEN): delegate.receive,
}
"""By what is shown and what is asked for (RFC 8693, 2.1)."""


async def token(service: Service, request: Request) -> Response:
    form = read_form(request)
    handle = _handle(form)
    caller = await authenticate(service, request, form)
    try:
        _require_target(service, form)
        return await handle(service, caller, form)
    except Refusal as refusal:
        refusal.subject = refusal.subject or caller.subject
        raise


def _handle(form: Form) -> Handle:
    kind = required(form, "grant_type")
    if "scope" in form:
        raise Refusal(Code.INVALID_SCOPE, Reason.INVALID_MESSAGE, "a scope, where `authorization_details` says more")
    if kind == CLIENT_CREDENTIALS:
        return opening.for_nobody
    if kind == ASSERTION:
        return opening.for_asserted
    if kind != EXCHANGE:
        raise Refusal(Code.UNSUPPORTED_GRANT_TYPE, Reason.INVALID_MESSAGE, "a grant type that is not known here")
    if "actor_token" in form:
        raise malformed("an actor token, where the actor is who was verified")
    wanted = form.get("requested_token_type", ACCESS_TOKEN)
    found = EXCHANGES.get((required(form, "subject_token_type"), wanted))
    if found is None:
        raise malformed("an exchange that is not known here")
    return found


def _require_target(service: Service, form: Form) -> None:
    """RFC 8693, 2.1 and RFC 8707, 2: our tokens are for us alone."""
    for name in ("resource", "audience"):
        if form.get(name, service.tokens.issuer) != service.tokens.issuer:
            raise Refusal(Code.INVALID_TARGET, Reason.INVALID_MESSAGE, f"`{name}` is another than ours")
