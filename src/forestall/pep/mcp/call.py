"""One tool call at the gateway, from asked to answered.

The rules, in the order of the code:

- A call is decided on the definition that the server offers now, not on the one it offered once.
- Nothing reaches the server without a permit for exactly this tool, pin and arguments, unexpired and unused.
- What reaches the server is written anew from the value that was decided, and from what the permit's credential adds.
- What the call refers to is copied before it is decided, and the server gets the copy that the permit is for.
- A permit that is not used is reported `not_started`; one that may have been used, `ambiguous`.
- What the server answers reaches the client only after the decision point has recorded the outcome; where the permit
  says that it need not wait, and nothing that the decision point said is unread, once the outcome is on its way there.
- An answer in which a credential comes back reaches nobody.
- When the task is ended, what runs is cancelled, and nothing that it answers reaches the client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.canonical import digest
from forestall.core.errors import InvalidInput
from forestall.core.fate import Fate
from forestall.core.hide import given_though_hidden
from forestall.core.measure import rows
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.pep.mcp import denial
from forestall.pep.mcp.content import NO_COPIES, Copies, chosen, named, told, with_copies
from forestall.pep.mcp.lent import NOTHING_LENT, Lent, is_free, read_lent
from forestall.pep.mcp.message import Id, Message, encode, require_one_case
from forestall.pep.mcp.presented import Sign, present, without
from forestall.pep.mcp.tools import NO_PIN, Definitions
from forestall.pep.mcp.want import (
    Bind,
    Ended,
    Forward,
    Interrupted,
    Late,
    Leaked,
    Lost,
    Ready,
    Report,
    ServerGone,
    Talk,
    Tell,
    Want,
)

ATTEMPTS = 3
"""Decisions on one call, when its tool's definition changes while it is decided."""

MAX_NAME = 256
"""Characters of a tool's name; MCP recommends at most 128."""

AT_ONCE = "at_once"
"""What a permit says of `release` whose output need not wait for an answer to its report."""

NO_META: Mapping[str, Any] = {}

_REQUEST = frozenset({"jsonrpc", "id", "method", "params"})


@dataclass(slots=True)
class Call:
    """A `tools/call` whose form is right."""

    id: Id
    server: str
    name: str
    arguments: Mapping[str, Any]
    message: Mapping[str, Any]
    """What the server gets if the call is permitted, but for what a credential fills in."""
    meta: Mapping[str, Any]
    modern: bool
    cancelled: bool = False
    described: bool = False
    """The tool describes its output, as far as is known."""
    _digest: str = field(default="", init=False)
    _line: bytes = field(default=b"", init=False)

    def prepare(self) -> None:
        """Make what a permit is compared with, and what the server gets under one that adds nothing."""
        self._digest = digest(self.arguments)
        self._line = encode(self.message)

    @property
    def digest(self) -> str:
        """Of the arguments."""
        return self._digest or digest(self.arguments)

    @property
    def form(self) -> dict[str, bool]:
        """Of a denial."""
        return {"modern": self.modern, "described": self.described}

    def wanted(self) -> bool:
        """Does the client still wait?"""
        return not self.cancelled

    @property
    def tool(self) -> str:
        return f"{self.server}/{self.name}"

    def line(self, filled: Mapping[str, str], shown: Mapping[str, str] = NO_META, copies: Copies = NO_COPIES) -> bytes:
        """For the server, with these arguments that the model neither gave nor sees, the permit that is shown, and
        these copies in place of what they are of.
        """
        if not filled and not shown and not copies:
            return self._line or encode(self.message)
        params = dict(self.message["params"])
        if filled or copies:
            params["arguments"] = {**with_copies(self.arguments, copies), **filled}
        if shown:
            params["_meta"] = {**self.meta, **shown}
        return encode({**self.message, "params": params})


def read_call(message: Message, server: str, members: frozenset[str], *, modern: bool) -> Call:
    """The call that a message asks for; `members` are those that its params may have.

    Raises:
        InvalidInput: it is not well formed.
    """
    require_one_case(message.value)
    if unknown := message.value.keys() - _REQUEST | message.params.keys() - members:
        raise InvalidInput(f"The call has a member that is not known here: {min(unknown)!r:.80}.")
    name, params = message.params.get("name"), without(message.params)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise InvalidInput(f"The call names no tool in 1 to {MAX_NAME} characters.")
    if params.get("arguments", ...) is None:
        params["arguments"] = {}  # absent to some servers and an error to others; what is decided is what is sent
    _require_types(params)
    assert message.id is not None
    meta = params.get("_meta", NO_META)
    return Call(
        message.id, server, name, params.get("arguments", {}), {**message.value, "params": params}, meta, modern
    )


def govern(
    call: Call,
    definitions: Definitions,
    burn: Callable[[str, int], bool],
    wall: Callable[[], int],
    *,
    remote: bool = False,
    sign: Sign | None = None,
    references: Collection[str] = (),
) -> Talk:
    """Decide the call, have it carried out, and release its output.

    Args:
        call: what is asked for.
        definitions: what the server's tools are.
        burn: takes a permit's id and expiry; False if it was taken before.
        wall: milliseconds since the epoch.
        remote: the server takes headers.
        sign: proves that a permit for the server is ours; None where the server demands none.
        references: arguments that name files whose content the call uses.
    """
    names = named(references, call.arguments) if references else NO_META
    call.described = definitions.describes_output(call.name)
    for _ in range(ATTEMPTS):
        decided = yield from _decide(call, definitions, names)
        if not isinstance(decided, _Decided):
            return decided
        permit, lent = _permit(decided.answer), _lent(decided.answer, call, remote=remote)
        used = chosen(decided.copies, permit.get("refs", {}))
        if not permit:
            return _denied(call, Reason.UNAVAILABLE)
        stale = decided.generation != definitions.generation or decided.pin != definitions.pin(call.name)
        if (
            call.wanted()
            and not stale
            and lent is not None
            and used is not None
            and _is_for(permit, call, decided.pin, wall())
            and (sign is not None or "token" not in permit)
            and burn(permit["id"], permit["expires_at"])
        ):
            forward = Forward(call.line(lent.arguments, _shown(permit, sign), used), lent.headers, lent.bound)
            return (yield from _carry_out(call, permit, forward))
        yield _performed(permit["id"], Fate.NOT_STARTED)
        if not call.wanted():
            return None
        if not stale:
            return _denied(call, Reason.UNAVAILABLE)
    return _denied(call, Reason.TOOL_CHANGED)


@dataclass(frozen=True, slots=True)
class _Decided:
    """The decision point permits it, of the tool as it was when it was asked."""

    answer: Mapping[str, Any] = field(repr=False)
    pin: str
    generation: int
    copies: Copies


def _decide(
    call: Call, definitions: Definitions, names: Mapping[str, str]
) -> Generator[Want, Any, _Decided | bytes | None]:
    """Have it decided; or what the client is told instead, if anything."""
    try:
        yield Ready(listed=True, meta=call.meta)
        if not call.wanted():
            return None
        copies: Copies = (yield Bind(names)) if names else NO_COPIES
        if not call.wanted():
            return None
        pin, generation = definitions.pin(call.name), definitions.generation
        call.described = definitions.describes_output(call.name)
        ask = {"type": "ask", "tool": call.tool, "pin": pin, "arguments": call.arguments, **told(copies)}
        answer = yield Tell(ask, meanwhile=call.prepare)
    except Lost:
        return _denied(call, Reason.UNAVAILABLE)
    except Ended as ended:
        return _denied(call, ended.reason)
    except Late:
        return _denied(
            call, Reason.DEADLINE, "The server's list of tools, or the decision, took too long. Nothing was done."
        )
    except ServerGone as gone:
        return _denied(call, Reason.DEADLINE, f"{gone}. Nothing was done.")
    if answer["type"] == "permit":
        return _Decided(answer, pin, generation, copies)
    return denial.refusal(call.id, denial.decision_in(answer), **call.form) if call.wanted() else None


def _shown(permit: Mapping[str, Any], sign: Sign | None) -> Mapping[str, str]:
    """The permit and its proof, where the server demands them."""
    return NO_META if sign is None or "token" not in permit else present(permit["token"], sign)


def _carry_out(call: Call, leave: Mapping[str, Any], forward: Forward) -> Talk:
    """The server does it; from here on it may have happened."""
    permit: str = leave["id"]
    leaked = False
    try:
        answer: Message = yield forward
    except Leaked as leak:
        answer, leaked = leak.message, True
    except Lost:
        return _unknown(call, permit, "the decision point was lost while the tool ran, so its output is withheld.")
    except Ended as ended:
        yield _performed(permit, Fate.AMBIGUOUS, detail="the task was ended while the tool ran")
        return _ended(call, permit, ended.reason)
    except Late:
        yield _performed(permit, Fate.AMBIGUOUS, detail="cancelled, and never answered")
        return None
    except ServerGone as gone:
        yield _performed(permit, Fate.AMBIGUOUS, detail=str(gone))
        return _unknown(call, permit, f"{gone}.")
    try:
        if leave.get("release") == AT_ONCE and not leaked:
            sent = yield _performed(permit, _fate(answer), answer.line, released=True)
            if sent:
                return answer.line
        used = _measured(answer, leave.get("measure") or ())
        recorded = yield Tell(_performed(permit, _fate(answer), answer.line, used=used, leaked=leaked).frame)
    except Ended as ended:
        return _ended(call, permit, ended.reason)
    except Interrupted:
        return _unknown(call, permit, "the tool answered, but that could not be recorded, so its output is withheld.")
    if leaked:
        return None if call.cancelled else denial.leaked(call.id, permit, **call.form)
    if recorded["type"] == "release":
        return answer.line
    if recorded.get("reason") == Reason.BUDGET:
        return None if call.cancelled else denial.too_much(call.id, permit, **call.form)
    return _unknown(call, permit, str(recorded.get("sentence") or "The output is withheld."))


def _measured(answer: Message, asked: Collection[str]) -> dict[str, int]:
    """How much of it there is, of what the decision point asks for."""
    result = answer.value.get("result", answer.value.get("error"))
    used = {}
    if Quantity.BYTES in asked:
        used[Quantity.BYTES.value] = len(answer.line)
    if Quantity.ROWS in asked:
        used[Quantity.ROWS.value] = rows(result)
    return used


def _performed(
    permit: str,
    fate: Fate,
    output: bytes | None = None,
    detail: str = "",
    used: Mapping[str, int] = NO_META,
    *,
    leaked: bool = False,
    released: bool = False,
) -> Report:
    """The report on a permit; its digest is of the server's line, byte for byte, as it is released."""
    frame: dict[str, Any] = {"type": "performed", "permit": permit, "fate": fate.value}
    if output is not None:
        frame["digest"] = "sha256:" + hashlib.sha256(output).hexdigest()
    if detail:
        frame["detail"] = detail
    if used:
        frame["used"] = dict(used)
    if leaked:
        frame["leaked"] = True
    if released:
        frame["released"] = True
    return Report(frame)


def _fate(answer: Message) -> Fate:
    """An answer that asks for input, or that names a task, is an answer: the call was carried out as far as it goes."""
    failed = "error" in answer.value or answer.value["result"].get("isError") is True
    return Fate.FAILED if failed else Fate.DONE


def _permit(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    permit = answer.get("permit")
    return permit if isinstance(permit, dict) and isinstance(permit.get("id"), str) else {}


def _lent(answer: Mapping[str, Any], call: Call, *, remote: bool) -> Lent | None:
    """What comes with the permit; None where it cannot be put where it belongs, and so nothing is begun."""
    if "credential" not in answer:
        return NOTHING_LENT
    try:
        lent = read_lent(answer)
    except InvalidInput:
        return None
    if lent.at_start or (lent.headers and not remote) or given_though_hidden(lent.arguments, call.arguments):
        return None
    if not all(is_free(name) for name, _ in lent.headers):
        return None
    return lent


def _is_for(permit: Mapping[str, Any], call: Call, pin: str, now: int) -> bool:
    """Is this leave to do exactly this, now?"""
    expires_at = permit.get("expires_at")
    return (
        pin != NO_PIN
        and permit.get("pin") == pin
        and permit.get("tool") == call.tool
        and type(expires_at) is int
        and now < expires_at
        and permit.get("digest") == call.digest
        and isinstance(permit.get("token", ""), str)
    )


def _denied(call: Call, reason: Reason, sentence: str = "") -> bytes | None:
    return None if call.cancelled else denial.denial(call.id, reason, **call.form, sentence=sentence)


def _ended(call: Call, permit: str, reason: Reason) -> bytes | None:
    return None if call.cancelled else denial.ended(call.id, reason, permit, **call.form)


def _unknown(call: Call, permit: str, sentence: str) -> bytes | None:
    return None if call.cancelled else denial.unknown_outcome(call.id, permit, sentence, **call.form)


def _require_types(params: Mapping[str, Any]) -> None:
    for name in ("arguments", "_meta", "task", "inputResponses"):
        if not isinstance(params.get(name, {}), dict):
            raise InvalidInput(f"The call's {name} is not an object.")
    if not isinstance(params.get("requestState", ""), str):
        raise InvalidInput("The call's requestState is not a string.")
