"""A workload opens a task: under a mandate, for a user that was verified or for nobody, with what that user asked."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.core.effects import Effect
from forestall.core.entry import Use
from forestall.core.mandate import Origin, Wish
from forestall.core.model import NOTHING, Grant, Json, Subject
from forestall.core.reason import Reason
from forestall.core.task import open_task
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.request import MAX_REQUEST, UserRequest
from forestall.proof.token import DETAIL_TYPE, MAX_ENTRIES
from forestall.proof.user import user_id
from forestall.server.http.message import Response
from forestall.server.oauth.answer import close, granted_or_closed
from forestall.server.oauth.authenticate import Caller
from forestall.server.oauth.form import Form, bad_details, read_details, required
from forestall.server.oauth.refusal import Code, Refusal, refused_as
from forestall.server.oauth.service import Service, use_of

TEXTS = ("mandate", "purpose", "request", "signed_request")
MEMBERS = frozenset({"type", "parameters", "expires_in_s", "tools", "effects", *TEXTS})

MAX_TEXT = {"mandate": 128, "purpose": 1024, "request": MAX_REQUEST, "signed_request": 16_384}
"""Characters of each."""

MAX_WORD = 1024

YEAR_S = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Opening:
    """What the request asks for."""

    mandate: str
    parameters: Mapping[str, str]
    purpose: str
    request: str
    """In the words of the workload: asserted, and good for nothing but the record."""
    signed_request: str
    """In the words of a front end."""
    lifetime_ms: int | None
    tools: tuple[str, ...] | None
    """None, here and below: as the mandate has it."""
    effects: frozenset[Effect] | None


@dataclass(frozen=True, slots=True)
class Served:
    """The user that the task is for."""

    user: str = ""
    vouched_at: int = 0
    """Of the session that says so: when it began, or was last vouched for."""
    uses: tuple[Use, ...] = ()


async def for_nobody(service: Service, caller: Caller, form: Form) -> Response:
    """`client_credentials` (RFC 6749, 4.4)."""
    return await _open(service, caller, form, Served())


async def for_signed_in(service: Service, caller: Caller, form: Form) -> Response:
    """A token exchange with the user's ID token as its subject (RFC 8693, 2.1)."""
    with refused_as(Code.INVALID_REQUEST):  # RFC 8693, 2.2.2
        user = await service.tokens.verifiers.user(required(form, "subject_token"), caller.at)
        _require_tenant(user.tenant, caller.subject)
        name = user_id(user.issuer, user.subject)
        service.parts.require_signed_in(name, user.vouched_at)
    return await _open(service, caller, form, Served(name, user.vouched_at))


async def for_asserted(service: Service, caller: Caller, form: Form) -> Response:
    """`jwt-bearer` with an ID-JAG (RFC 7523, 2.1)."""
    opening = _read(read_details(form))
    with refused_as(Code.INVALID_GRANT):
        found = await service.tokens.verifiers.grant(
            required(form, "assertion"),
            client=caller.subject.id,
            proof=caller.proof,
            certificate=caller.certificate,
            now=caller.at,
        )
        _require_tenant(found.tenant, caller.subject)
        if found.resources and service.tokens.issuer not in found.resources:
            raise InvalidProof(Fault.SCOPE, "it is for other resources")
        name = user_id(found.issuer, found.subject)
        service.parts.require_signed_in(name, found.vouched_at)
    if found.scope is not None and opening.mandate not in found.scope:
        raise Refusal(Code.INVALID_SCOPE, Reason.OUT_OF_SCOPE, "the user's grant does not name this mandate")
    served = Served(name, found.vouched_at, (use_of(found.once, caller.subject),))
    return await _open(service, caller, form, served)


async def _open(service: Service, caller: Caller, form: Form, served: Served) -> Response:
    opening = _read(read_details(form))
    said = await _said(service, opening, served, caller.at)
    uses = (*caller.uses, *served.uses, *((use_of(said.once, caller.subject),) if said is not None else ()))
    service.claim(uses, caller.at)
    await service.write_down(uses, caller.at, durable=False)  # what is opened next is synced, and this with it
    mandate = service.parts.rules.mandates.get(opening.mandate)
    task, wish = secrets.token_hex(16), _wish(opening, served, said)
    flow = open_task(mandate, task, caller.subject, caller.at, wish=wish, salt=secrets.token_bytes(16))
    grant = await service.decide(flow, caller.subject, task)
    await _require_still_signed_in(service, served, grant)
    return await granted_or_closed(service, grant, caller.subject, caller.at)


async def _require_still_signed_in(service: Service, served: Served, grant: Grant) -> None:
    """Whoever revokes a session ends the tasks that were opened in it. One that was on its way then was not there yet,
    and is ended here; from when it is there on, it is found.
    """
    if not served.user:
        return
    try:
        service.parts.require_signed_in(served.user, served.vouched_at)
    except InvalidProof as error:
        await close(service, grant, "revoked")
        raise Refusal(Code.INVALID_GRANT, Reason.INVALID_PROOF, str(error)) from None


def _wish(opening: Opening, served: Served, said: UserRequest | None) -> Wish:
    text = said.text if said is not None else opening.request
    return Wish(
        parameters=opening.parameters,
        user=served.user,
        request=_digest(text) if text else "",
        lifetime_ms=opening.lifetime_ms,
        origin=Origin.USER if said is not None else Origin.ASSERTED,
        purpose=opening.purpose,
        tools=opening.tools,
        effects=opening.effects,
    )


async def _said(service: Service, opening: Opening, served: Served, at: int) -> UserRequest | None:
    if not opening.signed_request:
        return None
    with refused_as(Code.INVALID_DETAILS):
        tokens = service.tokens
        said = await tokens.verifiers.request(opening.signed_request, audience=tokens.issuer, now=at)
        if said.user != served.user:
            raise InvalidProof(Fault.WRONG_SUBJECT, "it is another user's request")
    return said


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _require_tenant(tenant: str, subject: Subject) -> None:
    if tenant != subject.tenant:
        raise InvalidProof(Fault.WRONG_TENANT, "a workload serves users of its own tenant alone")


def _read(details: list[Json]) -> Opening:
    """Raises Refusal: invalid_authorization_details."""
    if len(details) != 1 or not isinstance(details[0], dict):
        raise bad_details("not one object")
    detail: dict[str, Any] = details[0]
    if detail.get("type") != DETAIL_TYPE or not MEMBERS.issuperset(detail):
        raise bad_details("a type, or a member, that is not known here")
    texts = {name: _text(detail, name) for name in TEXTS}
    if texts["request"] and texts["signed_request"]:
        raise bad_details("one request, not two")
    return Opening(
        **texts,
        parameters=_parameters(detail),
        lifetime_ms=_lifetime(detail),
        tools=_words(detail, "tools"),
        effects=_effects(detail),
    )


def _text(detail: Mapping[str, Any], name: str) -> str:
    value = detail.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT[name] or (name in detail and not value):
        raise bad_details(f"`{name}` is not a text of 1 to {MAX_TEXT[name]} characters")
    return value


def _parameters(detail: Mapping[str, Any]) -> Mapping[str, str]:
    value = detail.get("parameters", NOTHING)
    if not isinstance(value, Mapping) or len(value) > MAX_ENTRIES:
        raise bad_details("`parameters` is not an object")
    if not all(isinstance(each, str) for each in value.values()):
        raise bad_details("`parameters` are texts")
    return dict(value)


def _words(detail: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    if name not in detail:
        return None
    value = detail[name]
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ENTRIES:
        raise bad_details(f"`{name}` is not a list with members")
    if not all(isinstance(each, str) and 0 < len(each) <= MAX_WORD for each in value):
        raise bad_details(f"`{name}` are texts of 1 to {MAX_WORD} characters")
    return tuple(value)


def _effects(detail: Mapping[str, Any]) -> frozenset[Effect] | None:
    words = _words(detail, "effects")
    try:
        return None if words is None else frozenset(map(Effect, words))
    except ValueError:
        raise bad_details("an effect that does not exist") from None


def _lifetime(detail: Mapping[str, Any]) -> int | None:
    if "expires_in_s" not in detail:
        return None
    value = detail["expires_in_s"]
    if type(value) is not int or not 0 < value <= YEAR_S:
        raise bad_details("`expires_in_s` is not a whole number of seconds, at most a year")
    return int(value) * 1000
