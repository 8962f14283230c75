"""What an enforcement point may send, read from frames (docs/adr/0003-socket-protocol.md). Pure.

Every reader raises InvalidInput for a frame that is not what its type says; that ends the connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.errors import InvalidInput
from forestall.core.fate import Fate
from forestall.core.measure import MEASURED
from forestall.core.model import NOTHING, Deny, Hold, Permit, Reference, Risk
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.frame import PROTOCOL
from forestall.policy.schema import METHOD_SERVER

LEASE_MS = 1_000
"""Milliseconds from the answer within which an enforcement point starts what was permitted, or does not. An order is
acknowledged after this time at the latest.
"""

MAX_TEXT = 512
"""Characters of a name, a pin or a detail."""

MAX_PATH = 4096
"""Bytes that the kernel takes as a path (limits.h)."""

MAX_REFS = 64
"""Files that one call refers to; as many claims as a verifier takes in one list."""

MAX_COMMAND = 64 * 1024
"""Characters of a server's command line."""

MAX_TOOLS = 4096
"""Definitions in one list. The largest server seen has a few hundred."""

MESSAGE = f"{METHOD_SERVER}/message"
"""Stands in the ledger for a message that was refused before anybody knew what it asks for."""

TOLD_REASONS = frozenset({Reason.INVALID_MESSAGE, Reason.INVALID_ARGUMENTS})

MAX_TOKEN = 32 * 1024
"""Characters of a grant's token, or of a proof. They are checked for their real sizes where they are verified."""

MAX_URL = 2048
"""Characters of an address."""

OUTPUT = frozenset({Fate.DONE, Fate.FAILED})
"""Ends of a call that have an output."""

_METHOD = re.compile(r"[A-Z]{1,16}")
_NONCE = re.compile(r"[!#-\[\]-~]{1,512}")
"""RFC 9449, 8.1."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Peering(StrEnum):
    """What a connection is for."""

    GATEWAY = "gateway"  # it works for whoever started it
    AGENT = "agent"  # it works for itself
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Hello:
    kind: Peering
    nonce: str
    """Of the challenge that this answers."""
    server: str = ""
    directory: str = ""
    """Where the server's relative paths start: absolute, or empty where it is not said."""
    client: Mapping[str, Any] = field(default_factory=dict)
    mandate: str = ""
    again: bool = False
    """Its client was served before, under a task that is lost, and has seen nobody knows what."""
    grant: str = field(default="", repr=False)
    """A task's token: the connection acts in that task, and opens none."""
    proof: str = field(default="", repr=False)
    """That whoever sends it has the key that the token is bound to."""


@dataclass(frozen=True, slots=True)
class AskFrame:
    id: int
    tool: str
    pin: str
    arguments: dict[str, Any] = field(repr=False)
    refs: Mapping[str, Reference] = field(default_factory=lambda: NOTHING, repr=False)
    """By JSON pointer into the arguments: content that the enforcement point holds a copy of."""


@dataclass(frozen=True, slots=True)
class Performed:
    id: int
    permit: str
    fate: Fate
    digest: str
    detail: str
    used: Mapping[Quantity, int] = field(default_factory=lambda: NOTHING)
    leaked: bool = False
    """A credential came back in what the tool answered."""
    released: bool = False
    """Its output was released before this was sent."""


@dataclass(frozen=True, slots=True)
class Proving:
    """A request that is to carry a credential which is bound to a key."""

    id: int
    credential: str
    """Its name, as the frame that lent it has it."""
    method: str
    url: str
    nonce: str | None
    """The one that its server demands."""


@dataclass(frozen=True, slots=True)
class Told:
    """A message that the enforcement point refused for its form."""

    id: int
    reason: Reason
    detail: str
    """What is wrong with it, without any of its values."""


def read_hello(frame: Mapping[str, Any]) -> Hello:
    if frame["type"] != "hello":
        raise InvalidInput("The first frame is not a hello.")
    if frame.get("protocol") != PROTOCOL or isinstance(frame.get("protocol"), bool):
        raise InvalidInput(f"This decision point speaks protocol {PROTOCOL}; restart it, or the client, to be alike.")
    try:
        kind = Peering(_text(frame, "kind"))
    except ValueError:
        raise InvalidInput("A hello is of kind gateway, agent or cli.") from None
    client = {} if frame.get("client") is None else frame["client"]
    if not isinstance(client, dict):
        raise InvalidInput("`client` is not an object.")
    _command(frame.get("command"))
    directory = _text(frame, "directory", "", MAX_PATH)
    if directory and (not directory.startswith("/") or "\0" in directory):
        raise InvalidInput("`directory` is not an absolute path.")
    again = frame.get("again", False)
    if not isinstance(again, bool):
        raise InvalidInput("`again` is true or false.")
    hello = Hello(
        kind,
        _text(frame, "nonce"),
        _text(frame, "server", ""),
        directory,
        client,
        _text(frame, "mandate", ""),
        again,
        _text(frame, "grant", "", MAX_TOKEN),
        _text(frame, "proof", "", MAX_TOKEN),
    )
    if kind is not Peering.CLI and (not hello.server or "/" in hello.server or not hello.server.isprintable()):
        raise InvalidInput(f"A hello of kind {kind} names its server, without a slash.")
    _require_grant_whole(hello)
    return hello


def _require_grant_whole(hello: Hello) -> None:
    if bool(hello.grant) != bool(hello.proof):
        raise InvalidInput("A hello has `grant` and `proof`, or neither.")
    if hello.grant and (hello.mandate or hello.kind is Peering.CLI):
        raise InvalidInput("A grant is a task already: it has its mandate, and no command line uses one.")


def read_ask(frame: Mapping[str, Any]) -> AskFrame:
    arguments = frame.get("arguments")
    if not isinstance(arguments, dict):
        raise InvalidInput("`arguments` is not an object.")
    refs = _refs(frame["refs"]) if "refs" in frame else NOTHING
    return AskFrame(frame_id(frame), _text(frame, "tool"), _text(frame, "pin"), arguments, refs)


def _refs(value: object) -> dict[str, Reference]:
    if not isinstance(value, dict) or len(value) > MAX_REFS or not all(map(_is_reference, value.values())):
        raise InvalidInput(f"`refs` is not an object of at most {MAX_REFS} digests and paths.")
    return {pointer: Reference(one["digest"], one["path"]) for pointer, one in value.items()}


def _is_reference(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"digest", "path"}:
        return False
    digest, path = value["digest"], value["path"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return False
    return isinstance(path, str) and path.startswith("/") and len(path) <= MAX_PATH and "\0" not in path


def read_method(frame: Mapping[str, Any]) -> tuple[int, str, str]:
    """Id, method and direction."""
    direction = _text(frame, "direction")
    if direction not in {"client", "server"}:
        raise InvalidInput("`direction` is client or server.")
    return frame_id(frame), _text(frame, "method"), direction


def read_tools(frame: Mapping[str, Any]) -> tuple[int, list[Any]]:
    tools = frame.get("tools")
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise InvalidInput(f"`tools` is not a list of at most {MAX_TOOLS}.")
    return frame_id(frame), tools


def read_performed(frame: Mapping[str, Any]) -> Performed:
    try:
        fate = Fate(_text(frame, "fate"))
    except ValueError:
        raise InvalidInput("`fate` is not one of done, failed, not_started and ambiguous.") from None
    digest = _text(frame, "digest", "")
    if digest and not _DIGEST.fullmatch(digest):
        raise InvalidInput("`digest` is not `sha256:` and 64 hex digits.")
    detail = frame.get("detail", "")
    if not isinstance(detail, str):
        raise InvalidInput("`detail` is not a text.")
    used = _used(frame["used"]) if "used" in frame else NOTHING
    leaked = frame.get("leaked", False)
    if not isinstance(leaked, bool):
        raise InvalidInput("`leaked` is true or false.")
    released = frame.get("released", False)
    if not isinstance(released, bool) or (released and (leaked or fate not in OUTPUT)):
        raise InvalidInput("`released` is true or false, and true only of an output that let out no credential.")
    return Performed(frame_id(frame), _text(frame, "permit"), fate, digest, detail[:MAX_TEXT], used, leaked, released)


def _used(value: object) -> dict[Quantity, int]:
    if not isinstance(value, dict) or not value.keys() <= set(MEASURED):
        raise InvalidInput(f"`used` is an object that says how many {' and '.join(MEASURED)}.")
    if not all(type(amount) is int and 0 <= amount <= MAX_SAFE_INTEGER for amount in value.values()):
        raise InvalidInput("What was used is a whole number.")
    return {Quantity(name): amount for name, amount in value.items()}


def read_equip(frame: Mapping[str, Any]) -> tuple[int, str, bool]:
    """Id, class of credential, and whether the server will run as another user than the client."""
    separate = frame.get("separate", False)
    if not isinstance(separate, bool):
        raise InvalidInput("`separate` is true or false.")
    return frame_id(frame), _text(frame, "credential"), separate


def read_prove(frame: Mapping[str, Any]) -> Proving:
    method, nonce = _text(frame, "method"), _text(frame, "nonce", "")
    if not _METHOD.fullmatch(method) or (nonce and not _NONCE.fullmatch(nonce)):
        raise InvalidInput("`method` or `nonce` is not one of a request.")
    return Proving(
        frame_id(frame), _text(frame, "credential"), method, _text(frame, "url", None, MAX_URL), nonce or None
    )


def read_leaked(frame: Mapping[str, Any]) -> str:
    """In what a credential came back, where that was no answer to a call: a method of the protocol, or `stderr`."""
    return shown(_text(frame, "where"))


def read_refused(frame: Mapping[str, Any]) -> Told:
    reason, detail = _text(frame, "reason"), frame.get("detail", "")
    if reason not in TOLD_REASONS or not isinstance(detail, str):
        raise InvalidInput("`reason` is not one that an enforcement point refuses for, or `detail` is not a text.")
    return Told(frame_id(frame), Reason(reason), shown(detail[:MAX_TEXT]))


def shown(text: str) -> str:
    """On one line, and with nothing that moves a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def read_bind(frame: Mapping[str, Any]) -> str:
    """The proof of the key that permits are to be bound to."""
    proof = _text(frame, "proof", None, MAX_TOKEN)
    if not proof:
        raise InvalidInput("`proof` is empty.")
    return proof


def read_confirmed(frame: Mapping[str, Any]) -> int:
    """Up to which epoch the enforcement point keeps what was ordered."""
    epoch = frame.get("epoch")
    if type(epoch) is not int:
        raise InvalidInput("`epoch` is not an integer.")
    return epoch


def read_order(frame: Mapping[str, Any], by: str) -> Command:
    """What is ordered, by whom."""
    try:
        order, reach = Order(_text(frame, "order")), Reach(_text(frame, "reach"))
        level = Risk(_text(frame, "level")) if order is Order.RISK else None
    except ValueError:
        raise InvalidInput("`order`, `reach` or `level` is not one that there is.") from None
    if level is None and frame.get("level") is not None:
        raise InvalidInput("Only an order about risk has a `level`.")
    name = _text(frame, "name", "")
    if bool(name) is (reach is Reach.EVERYTHING):
        raise InvalidInput("An order names whom it is about, unless that is everything.")
    target = Target(reach, name, _text(frame, "trust_domain", ""), _text(frame, "tenant", ""))
    return Command(order, target, shown(_text(frame, "why", "")), by, level)


def frame_id(frame: Mapping[str, Any]) -> int:
    found = frame.get("id")
    if type(found) is not int:
        raise InvalidInput("A request has no integer `id`.")
    return found


def challenge_frame(nonce: str) -> dict[str, Any]:
    return {"type": "challenge", "protocol": PROTOCOL, "nonce": nonce}


def permit_frame(
    frame: int,
    permit: Permit,
    at: int,
    credential: Mapping[str, Any] | None = None,
    token: str | None = None,
    *,
    at_once: bool = False,
) -> dict[str, Any]:
    """`at`: when it is answered. `credential`: what is placed with it; the frame is secret then. `token`: the permit
    for a server that demands one. `at_once`: its output need not wait (`core.release`).
    """
    shown = {
        "id": permit.id,
        "tool": permit.tool,
        "pin": permit.pin,
        "digest": permit.digest,
        "expires_at": permit.expires_at,
        "start_by": min(permit.expires_at, at + LEASE_MS),
    }
    if counted := [quantity.value for quantity in MEASURED if quantity in permit.limits]:
        shown["measure"] = counted
    if permit.refs:
        shown["refs"] = dict(permit.refs)
    if token is not None:
        shown["token"] = token
    if at_once:
        shown["release"] = "at_once"
    lent = {} if credential is None else {"credential": credential}
    return {"type": "permit", "id": frame, "permit": shown, **lent}


def refusal_frame(frame: int, decision: Deny | Hold) -> dict[str, Any]:
    kind = "hold" if isinstance(decision, Hold) else "deny"
    return {"type": kind, "id": frame, "decision": shown_refusal(kind, decision.id, decision.reason)}


def shown_refusal(kind: str, decision_id: str, reason: Reason) -> dict[str, Any]:
    """All that an agent may know of it."""
    advice = reason.advice
    return {
        "decision": kind,
        "reason": reason.value,
        "decision_id": decision_id,
        "retry": advice.retry.value,
        "sentence": advice.sentence,
    }


def _text(frame: Mapping[str, Any], name: str, default: str | None = None, most: int = MAX_TEXT) -> str:
    value = frame.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or len(value) > most:
        raise InvalidInput(f"`{name}` is not a text of at most {most} characters.")
    return value


def _command(command: object) -> None:
    """A text, or its words. Not used, but a peer that sends anything else is not understood."""
    words = [command] if isinstance(command, str) else command
    if words is None:
        return
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidInput("`command` is not a list of texts.")
    if sum(map(len, words)) > MAX_COMMAND:
        raise InvalidInput(f"`command` is longer than {MAX_COMMAND} characters.")
