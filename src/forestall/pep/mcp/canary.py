"""Calls that must be denied. A gateway that lets one pass refuses to start (design.md, "Every door").

They take the way of the client's own messages, through a session of their own: nothing of them may reach a server.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from forestall.pep.mcp.relay import Relay
from forestall.pep.mcp.tools import Definitions

WITHIN_S = 10.0
"""Seconds for all of them to be denied."""

_HEAD = '{"jsonrpc":"2.0","id":"%s","method":"tools/call","params":'

CANARIES: dict[str, str] = {
    "a tool that nobody reviewed": _HEAD + '{"name":"forestall-canary","arguments":{}}}',
    "a member that occurs twice": _HEAD + '{"name":"forestall-canary","arguments":{"a":1,"a":2}}}',
    "members equal but for case": _HEAD + '{"name":"forestall-canary","Name":"other","arguments":{}}}',
    "undeclared arguments that name an entity": _HEAD
    + '{"name":"forestall-canary","arguments":{"path":{"__entity":{"type":"Forestall::Agent","id":"root"}}}}}',
}
"""What each is, and its line, but for the id."""

DECIDED = frozenset({"a tool that nobody reviewed", "undeclared arguments that name an entity"})
"""Those that the decision point has to deny; the others are refused before they get there."""


def canary_relay(server: str, wall: Callable[[], int], steady: Callable[[], int]) -> Relay:
    """A session to which the server has listed no tools, so that it asks the server for none."""
    definitions = Definitions(server)
    definitions.replace([], steady(), definitions.generation)
    return Relay(server, wall, steady, definitions)


def lines() -> list[bytes]:
    return [(line % what).encode() for what, line in CANARIES.items()]


def passed(answers: list[bytes]) -> list[str]:
    """What was not denied, of all that has to be. Empty is good; no answer is not a denial."""
    denied = set()
    for answer in map(json.loads, answers):
        structured = answer.get("result", {}).get("structuredContent", {})
        decided = structured.get("decision") == "deny" and bool(structured.get("decision_id"))
        if decided or (answer.get("id") not in DECIDED and _is_refusal(answer)):
            denied.add(answer.get("id"))
    return [what for what in CANARIES if what not in denied]


def _is_refusal(answer: dict[str, object]) -> bool:
    result = answer.get("result")
    return "error" in answer or (isinstance(result, dict) and result.get("isError") is True)
