"""What a person at a command line may ask about held actions, over the same socket, and answer.

Who they are comes from the kernel. They see what they may answer, and the decision point's own user sees everything.
A yes names the digest of what was shown, so that it is to that and to nothing else.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forestall.adapter.people import approver as approver_of
from forestall.core.answer import Seen, approve, decline
from forestall.core.approval import OWNER, Approver, Unfit, missing, unfit_for_all
from forestall.core.ask import CannotDo, Flow
from forestall.core.canonical import digest
from forestall.core.entry import Opening
from forestall.core.errors import ForestallError, InvalidInput
from forestall.core.reason import Reason
from forestall.port import Waiting
from forestall.run import run_async
from forestall.server.frames import MAX_TEXT, frame_id, shown
from forestall.wire import Parts, handlers

if TYPE_CHECKING:
    from forestall.server.connection import Connection

GONE = {
    "used": "Its approval was used already: the call ran, or was about to.",
    "declined": "Somebody declined it, and that is final for its task.",
    "gone": "No held action of this id waits: it ran out, its task ended, the call was held anew with graver facts, or "
    "so many were held that this one was only counted. If the agent still wants it, it asks again.",
}


class NotDone(Exception):
    """What was asked for is not done; a sentence for the person."""


@dataclass(frozen=True, slots=True)
class Person:
    approver: Approver
    owner: bool
    """Is it the decision point's own user?"""

    def may_see(self, held: Waiting) -> bool:
        return self.owner or unfit_for_all(self.approver, held.shown) is None


def approvals(connection: Connection, frame: Mapping[str, Any]) -> None:
    """Those that wait, or with `hold` all of one."""
    hold = _text(frame, "hold", "")
    _answer(connection, frame, lambda person: _show(connection.point.parts, person, hold))


def approve_hold(connection: Connection, frame: Mapping[str, Any]) -> None:
    hold, seen = _text(frame, "hold"), _text(frame, "digest")
    _answer(connection, frame, lambda person: _approve(connection.point.parts, person, hold, seen))


def deny_hold(connection: Connection, frame: Mapping[str, Any]) -> None:
    hold, why = _text(frame, "hold"), _text(frame, "why")
    _answer(connection, frame, lambda person: _deny(connection.point.parts, person, hold, why))


def _answer(
    connection: Connection, frame: Mapping[str, Any], work: Callable[[Person], Awaitable[dict[str, Any]]]
) -> None:
    number, uid = frame_id(frame), connection.peer.uid

    async def answer() -> None:
        try:
            own = os.geteuid()
            person = Person(await asyncio.to_thread(approver_of, uid, own), uid == own)
            said = await work(person)
        except NotDone as error:
            said = {"type": "not_done", "sentence": str(error)}
        connection.send({**said, "id": number})

    connection.beside(answer())


async def _show(parts: Parts, person: Person, hold: str) -> dict[str, Any]:
    if hold:
        held = _find(parts, person, hold)
        seen, view = await _see(parts, held)
        return {"type": "approval", "action": view, "digest": seen.digest, **_state(person, held)}
    now = parts.now()
    held_now = [held for held in parts.state.waiting() if now < held.until and person.may_see(held)]
    return {"type": "approvals", "holds": [{**_summary(held), **_state(person, held)} for held in held_now]}


async def _approve(parts: Parts, person: Person, hold: str, shown: str) -> dict[str, Any]:
    held = _find(parts, person, hold)
    seen, _ = await _see(parts, held)
    if seen.digest != shown:
        raise NotDone("What is held is not what was shown. Nothing was approved; look at it again.")
    now = parts.now()
    if any(one.approver.uid == person.approver.uid and now < one.expires_at for one in held.consents):
        return {"type": "done", "expires_at": 0, **_state(person, held)}
    until = await _record(parts, approve(seen, person.approver, secrets.token_hex(16), now), person, held)
    after = parts.state.held(held.shown.hold)
    if after is None:
        raise NotDone(f"It was recorded, and came too late. {GONE[parts.state.fate_of(hold)]}")
    return {"type": "done", "expires_at": until, **_state(person, after)}


async def _deny(parts: Parts, person: Person, hold: str, why: str) -> dict[str, Any]:
    held = _find(parts, person, hold)
    if not why.strip():
        raise NotDone("Say why, for the ledger.")
    seen, _ = await _see(parts, held)
    flow = decline(seen, person.approver, shown(why), secrets.token_hex(16), parts.now())
    await _record(parts, flow, person, held)
    if parts.state.fate_of(held.shown.hold) == "used":
        raise NotDone("It was recorded, and came too late: an approval of others was used before.")
    return {"type": "done"}


def _find(parts: Parts, person: Person, hold: str) -> Waiting:
    held = parts.state.held(hold)
    if held is None:
        raise NotDone(GONE[parts.state.fate_of(hold)] if person.owner else GONE["gone"])
    if not person.may_see(held):
        raise NotDone(_why_not(unfit_for_all(person.approver, held.shown), person, held))
    return held


async def _see(parts: Parts, held: Waiting) -> tuple[Seen, dict[str, Any]]:
    """All of it, as a person is shown it. The disk is read beside the loop."""
    try:
        sealed = await asyncio.to_thread(parts.ledger.unseal, held.sealed)
        opening = None if sealed is None else Opening.read(sealed)
    except (ForestallError, KeyError, TypeError, ValueError):
        opening = None
    if opening is None or sealed is None or opening.binding != held.shown.binding:
        raise NotDone("Its arguments were not kept, so nobody can be shown what they would agree to. It stays held.")
    view = _view(parts, held, opening)
    body = {**held.body, **opening.commitments}
    return Seen(held.shown, held.until, body, sealed, digest(view)), view


def _view(parts: Parts, held: Waiting, opening: Opening) -> dict[str, Any]:
    """What a yes is to. Nothing in it changes while it waits."""
    shown, body = held.shown, held.body
    grant = parts.state.find_grant(shown.task)
    if grant is None:
        raise NotDone("Its task has ended, so it will never run.")
    return {
        "hold": shown.hold,
        "tool": shown.tool,
        "pin": shown.pin,
        "arguments": dict(opening.arguments),
        "paths": dict(opening.paths),
        **({"references": dict(opening.references)} if opening.references else {}),
        **({"unbound": list(body["unbound"])} if body.get("unbound") else {}),
        "asks": dict(body["subject"]),
        "chain": [[domain, name] for domain, name in grant.chain],
        "task": shown.task,
        "purpose": grant.purpose,
        "mandate": grant.mandate,
        "parameters": dict(grant.parameters),
        "user": grant.user,
        "request": grant.request,
        "effects": list(body["effects"]),
        "confidence": body["confidence"],
        "labels": dict(body["seen"]),
        "reaches_own_files": body["reaches_own_files"],
        "policies": list(body["policies"]),
        "slice_digest": shown.slice_digest,
        "approvals": list(body["approvals"]),
        "lifetime_ms": shown.lifetime_ms,
    }


def _summary(held: Waiting) -> dict[str, Any]:
    shown = held.shown
    return {
        "hold": shown.hold,
        "tool": shown.tool,
        "task": shown.task,
        "asks": shown.asker.id,
        "effects": sorted(effect.value for effect in shown.effects),
        "policies": list(held.body["policies"]),
    }


def _state(person: Person, held: Waiting) -> dict[str, Any]:
    """What changes while it waits."""
    shown = held.shown
    against = unfit_for_all(person.approver, shown)
    return {
        "until": held.until,
        "given": [{"uid": one.approver.uid, "expires_at": one.expires_at} for one in held.consents],
        "missing": [
            {"approvers": list(one.approvers), "count": missing(one, held.consents, shown.asker)}
            for one in shown.approvals
        ],
        "why_not_you": "" if against is None else _why_not(against, person, held),
    }


def _why_not(against: Unfit | None, person: Person, held: Waiting) -> str:
    """Why this person's yes does not count, and what to do. Names of policies are for the owner."""
    uid = person.approver.uid
    policies, names, is_of_owner = ", ".join(held.body["policies"]), _names(held), _is_of_owner(held)
    asks = f" {policies} asks for {names}." if person.owner else ""
    if is_of_owner:
        asks = " What it uses is not bound, and no policy says who may agree to that: its owner is asked."
    match against:
        case Unfit.ASKS:
            local = f" `local` to `@approvers` of {policies}" if person.owner else " `local` to `@approvers`"
            local = ' a policy about `context.unbound` with `@approvers("local")`' if is_of_owner else local
            return (
                f"You are uid {uid}, the user that the agent runs as: your yes could be its own, and does not count."
                f"{asks} Let a person of another uid, listed in `allowed_uids` under [serve], approve it; or add"
                f"{local}, if anybody at this machine's command line may say yes, the agent's user included."
            )
        case Unfit.UNKNOWN_ASKER:
            return (
                "Nobody knows which user the agent runs as, so that nobody can be told from it: only `local` in "
                f"`@approvers` lets such a call be approved.{asks}"
            )
        case _:
            return f"You are uid {uid}, and no policy that holds this call asks for you.{asks}"


def _is_of_owner(held: Waiting) -> bool:
    """Was it held because of what it uses, and by no policy?"""
    return any(OWNER in one.approvers for one in held.shown.approvals)


def _names(held: Waiting) -> str:
    groups = (f"{one.quorum} of {', '.join(one.approvers)}" for one in held.shown.approvals)
    return " and ".join(groups)


async def _record(parts: Parts, flow: Flow[Any], person: Person, held: Waiting) -> Any:
    try:
        return await run_async(flow, handlers(parts, directory=""))
    except CannotDo as error:
        if error.reason is Reason.NOT_APPROVED:
            raise NotDone(_why_not(unfit_for_all(person.approver, held.shown), person, held)) from None
        if error.reason is Reason.APPROVAL_EXPIRED:
            raise NotDone("It ran out before you answered: nothing was approved. The agent can ask again.") from None
        raise NotDone(
            f"It could not be recorded ({error.detail or error.reason.value}); look whether it waits."
        ) from None


def _text(frame: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = frame.get(name, default)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise InvalidInput(f"`{name}` is not a text of at most {MAX_TEXT} characters.")
    return value
