"""The canaries: what counts as denied, and what stops the gateway."""

from __future__ import annotations

import json

import pytest

from forestall import frame
from forestall.core.reason import Reason
from forestall.pep.mcp import canary
from forestall.pep.mcp.canary import CANARIES, DECIDED
from forestall.pep.mcp.denial import denial, error, refusal
from forestall.pep.mcp.thing import ToClient, ToDecisionPoint, ToServer
from tests.mcpkit.decision_point import deny


def denied(what: str) -> bytes:
    return refusal(what, {"decision": "deny", "reason": "unknown_tool", "decision_id": "d"}, modern=False)


def test_all_denied_is_good() -> None:
    answers = [denied(what) if what in DECIDED else error(what, -32600, "no") for what in CANARIES]
    assert canary.passed(answers) == []


def test_no_answer_is_not_a_denial() -> None:
    assert canary.passed([]) == list(CANARIES)


@pytest.mark.parametrize("what", sorted(DECIDED))
def test_what_has_to_be_decided_is_not_denied_by_an_error_of_the_gateways(what: str) -> None:
    others = [denied(other) for other in CANARIES if other != what]
    for answer in (
        error(what, -32603, "no decision point"),
        denial(what, Reason.UNAVAILABLE, modern=False),
        refusal(what, {"decision": "hold", "reason": "needs_approval", "decision_id": "d"}, modern=False),
        json.dumps({"jsonrpc": "2.0", "id": what, "result": {"content": []}}).encode(),
    ):
        assert canary.passed([*others, answer]) == [what]


def test_they_reach_no_server_and_two_are_refused_unasked() -> None:
    relay = canary.canary_relay("s", lambda: 0, lambda: 0)
    things = [thing for line in canary.lines() for thing in relay.from_client(line)]
    assert not [thing for thing in things if isinstance(thing, ToServer)]
    told = [frame.decode(thing.frame[frame.HEAD :]) for thing in things if isinstance(thing, ToDecisionPoint)]
    assert sorted(one["type"] for one in told) == ["ask", "ask", "refused", "refused"]
    noted = [one for one in told if one["type"] == "refused"]
    answers = [thing for one in noted for thing in relay.from_decision_point({"id": one["id"], **deny(one["reason"])})]
    refused = {json.loads(thing.line)["id"] for thing in answers if isinstance(thing, ToClient)}
    assert refused == CANARIES.keys() - DECIDED
