"""A task is to live longer: decided as an action of its holder's, and answered with a new token for the same task."""

from __future__ import annotations

from typing import Any

from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.task import EXTEND, extend
from forestall.proof.token import DETAIL_TYPE
from forestall.server.http.message import Response
from forestall.server.oauth.answer import granted
from forestall.server.oauth.authenticate import Caller
from forestall.server.oauth.form import Form, bad_details, read_details, required
from forestall.server.oauth.own import held
from forestall.server.oauth.refusal import Code, refused_as
from forestall.server.oauth.service import Service


async def live_on(service: Service, caller: Caller, form: Form) -> Response:
    """An exchange of one's own grant (RFC 8693, 2.1), with `expires_at` in milliseconds since the epoch."""
    until = _until(read_details(form))
    grant = held(service, caller, required(form, "subject_token"), Code.INVALID_REQUEST)
    service.claim(caller.uses, caller.at)
    await service.write_down(caller.uses, caller.at, durable=False)  # the extension is synced next, and this with it
    action = service.ask(EXTEND.id, {"expires_at": until}, task=grant.task, proof=caller.subject)
    longer = await service.decide(extend(action), caller.subject, action.id)
    with refused_as(Code.INVALID_DETAILS):
        return granted(service, longer, caller.subject, caller.at)


def _until(details: list[Any]) -> int:
    if len(details) != 1 or not isinstance(details[0], dict) or set(details[0]) != {"type", "expires_at"}:
        raise bad_details("an extension says `type` and `expires_at`, and nothing else")
    until = details[0]["expires_at"]
    if details[0]["type"] != DETAIL_TYPE or type(until) is not int or not 0 < until <= MAX_SAFE_INTEGER:
        raise bad_details("`expires_at` is in milliseconds since the epoch")
    return int(until)
