"""The closed table: what is done with every method of every revision of MCP, in either direction.

What is not here is unknown, and unknown is asked about (`method`) and denied unless policy permits it. A method of
another revision than the session speaks is unknown too. Streams of log lines, progress and sampling are relayed: they
are side channels of calls that were decided, and the rest of the table says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from forestall.core.errors import InvalidInput

HANDSHAKE = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
"""Revisions that begin with `initialize`."""

MODERN = frozenset({"2026-07-28"})
"""Revisions whose every request names its revision in `_meta`."""

ANY = HANDSHAKE | MODERN
OTHER = "other"
BATCHES = "2025-03-26"
"""The one revision with batches."""

_ELICITATION = frozenset({"2025-06-18", "2025-11-25"})
_TASKS = frozenset({"2025-11-25"})

META = "io.modelcontextprotocol/"
"""What the protocol's own members of `_meta` begin with."""

PROTOCOL_VERSION = META + "protocolVersion"
CLIENT_INFO = META + "clientInfo"


class Treatment(StrEnum):
    DECIDED = "decided"  # asked about, forwarded only under a permit, its answer released only once recorded
    LISTED = "listed"  # forwarded as it came; its answer is filtered
    RELAYED = "relayed"  # forwarded as it came
    UNKNOWN = "unknown"  # asked about as a method; relayed if policy permits it


@dataclass(frozen=True, slots=True)
class Row:
    treatment: Treatment
    eras: frozenset[str]
    always: bool = False
    """In whatever revision it comes: what a session begins with, and what must never pass as unknown."""


def _relayed(eras: frozenset[str], *methods: str) -> dict[str, Row]:
    return {method: Row(Treatment.RELAYED, eras) for method in methods}


CLIENT: dict[str, Row] = {
    "tools/call": Row(Treatment.DECIDED, ANY, always=True),
    "tools/list": Row(Treatment.LISTED, ANY, always=True),
    "initialize": Row(Treatment.RELAYED, HANDSHAKE, always=True),
    "server/discover": Row(Treatment.RELAYED, MODERN, always=True),
    "notifications/cancelled": Row(Treatment.RELAYED, ANY, always=True),
    **_relayed(
        HANDSHAKE,
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
    ),
    **_relayed(
        ANY,
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
        "prompts/get",
        "completion/complete",
    ),
    **_relayed(MODERN, "subscriptions/listen", "tasks/update"),
    **_relayed(_TASKS | MODERN, "tasks/get", "tasks/cancel"),
    **_relayed(_TASKS, "tasks/list", "tasks/result", "notifications/tasks/status"),
}

SERVER: dict[str, Row] = {
    **_relayed(HANDSHAKE, "ping", "roots/list", "sampling/createMessage"),
    **_relayed(_ELICITATION, "elicitation/create"),
    **_relayed(_TASKS, "tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "notifications/tasks/status"),
    **_relayed(frozenset({"2025-11-25"}), "notifications/elicitation/complete"),
    **_relayed(MODERN, "notifications/subscriptions/acknowledged", "notifications/tasks"),
    **_relayed(
        ANY,
        "notifications/cancelled",
        "notifications/message",
        "notifications/progress",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/tools/list_changed",
    ),
}

_CALL = frozenset({"name", "arguments", "_meta"})

CALL_MEMBERS: dict[str, frozenset[str]] = {
    **dict.fromkeys(HANDSHAKE, _CALL),
    **dict.fromkeys(_TASKS, _CALL | {"task"}),
    **dict.fromkeys(MODERN, _CALL | {"inputResponses", "requestState"}),
}
"""Members of a `tools/call`'s params. One that is not known could change what the call does, so it is refused."""


def known(revision: str) -> str:
    """The revision, or one name for all that are not: whoever names them could name any number."""
    return revision if revision in ANY else OTHER


def treatment(table: dict[str, Row], method: str, eras: frozenset[str]) -> Treatment:
    """What is done with this method in a session that speaks `eras`; none known yet means any."""
    row = table.get(method)
    if row is None or not (row.always or row.eras & (eras or ANY)):
        return Treatment.UNKNOWN
    return row.treatment


def require_spelled(method: str) -> None:
    """Refuse a method that a lenient server could take for a known one, and that no policy may therefore let through.

    Raises:
        InvalidInput: it differs from a method of the table only in case, spaces or other signs.
    """
    if method not in CLIENT and _plain(method) in _PLAIN_CLIENT:
        raise InvalidInput("The method is spelled in another way than the protocol's.")


def _plain(method: str) -> str:
    return "".join(letter for letter in method.casefold() if letter.isalnum())


_PLAIN_CLIENT = frozenset(map(_plain, CLIENT))


@cache
def call_members(eras: frozenset[str]) -> frozenset[str]:
    return frozenset().union(*(CALL_MEMBERS.get(era, _CALL) for era in eras or ANY))
