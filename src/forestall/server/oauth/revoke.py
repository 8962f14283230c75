"""POST /revoke (RFC 7009): its holder completes a task, and with it all that it handed on."""

from __future__ import annotations

from forestall.core.ask import CannotDo
from forestall.core.errors import Unavailable
from forestall.core.reason import Reason
from forestall.core.task import close_task
from forestall.run import run_async
from forestall.server.http.message import Request, Response
from forestall.server.oauth.answer import answer
from forestall.server.oauth.authenticate import Caller, authenticate
from forestall.server.oauth.form import read_form, required
from forestall.server.oauth.own import held
from forestall.server.oauth.refusal import Code, Refusal, malformed
from forestall.server.oauth.service import Service, refusal_of

OUTCOMES = frozenset({"completed", "failed"})

OVER = frozenset({Reason.TASK_ENDED, Reason.REVOKED})


async def revoke(service: Service, request: Request) -> Response:
    """Answered once the end of the task is on disk. A task that is over already is no error (RFC 7009, 2.2)."""
    form = read_form(request)
    outcome = form.get("outcome", "completed")
    if outcome not in OUTCOMES:
        raise malformed("`outcome` is completed or failed")
    caller = await authenticate(service, request, form)
    try:
        await _complete(service, caller, required(form, "token"), outcome)
    except Refusal as refusal:
        refusal.subject = caller.subject
        if refusal.reason not in OVER:
            raise
    return answer({})


async def _complete(service: Service, caller: Caller, token: str, outcome: str) -> None:
    service.claim(caller.uses, caller.at)
    grant = held(service, caller, token, Code.INVALID_REQUEST)
    try:
        await run_async(close_task(grant.task, outcome, caller.at), service.table())
        await service.write_down(caller.uses, caller.at, durable=True)  # and the end of the task with it
    except (CannotDo, Unavailable) as error:
        raise refusal_of(error, caller.subject) from None
