"""What the client is told when a call is not carried out, or its output is not released.

A denial is a successful answer whose result has `isError`: the model reads it and can act on it, and old clients
understand it. It says what would help, and nothing about the policy.

A tool that describes its output (`outputSchema`) may have no structured content that is another (MCP 2025-11-25,
tools, output schema), and clients refuse a result that has: such a call is told in text, and `_meta` holds the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forestall.core.reason import Reason
from forestall.pep.mcp.message import Id, encode

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603

UNKNOWN_OUTCOME = "outcome_unknown"

META = "forestall/decision"
"""Where a decision stands of a call whose tool describes its output."""

_SHOWN = ("decision", "reason", "decision_id", "retry", "sentence")


def refusal(request: Id, decision: Mapping[str, Any], *, modern: bool, described: bool = False) -> bytes:
    """The answer to a call that the decision point denied or held; `decision` is as it came from there."""
    told = shown(decision)
    verb = "Held" if told["decision"] == "hold" else "Denied"
    which = f" Its id is {told['decision_id']}." if told["decision"] == "hold" else ""
    return _result(
        request, f"{verb} ({told['reason']}): {told['sentence']}{which}", told, modern=modern, described=described
    )


def denial(request: Id, reason: Reason, *, modern: bool, described: bool = False, sentence: str = "") -> bytes:
    """The answer to a call that was denied here, before or without the decision point. Nothing was done."""
    decision = own_decision(reason)
    return refusal(
        request, {**decision, "sentence": sentence or decision["sentence"]}, modern=modern, described=described
    )


def own_decision(reason: Reason) -> dict[str, Any]:
    """A denial that the decision point did not record, and so without an id."""
    advice = reason.advice
    return {"decision": "deny", "reason": reason.value, "retry": advice.retry.value, "sentence": advice.sentence}


def decision_in(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an answer of the decision point that is no permit says; a denial, where it says nothing."""
    decision = answer.get("decision")
    return decision if isinstance(decision, dict) else own_decision(Reason.UNAVAILABLE)


def shown(decision: Mapping[str, Any]) -> dict[str, Any]:
    return {name: decision.get(name) for name in _SHOWN}


def unknown_outcome(request: Id, permit: str, sentence: str, *, modern: bool, described: bool = False) -> bytes:
    """The answer to a call that was permitted and started, and of which no output can be given."""
    told = {
        "decision": "permit",
        "reason": UNKNOWN_OUTCOME,
        "decision_id": permit,
        "retry": "final",
        "sentence": f"Outcome unknown: {sentence} The call may have happened; check before you repeat it.",
    }
    return _result(request, told["sentence"], told, modern=modern, described=described)


def ended(request: Id, reason: Reason, permit: str, *, modern: bool, described: bool = False) -> bytes:
    """The answer to a call that was permitted and started, and whose task was ended while it ran."""
    sentence = f"{reason.advice.sentence} The call had been started, and may have happened; its output is withheld."
    return refusal(
        request,
        {**own_decision(reason), "decision_id": permit, "sentence": sentence},
        modern=modern,
        described=described,
    )


def too_much(request: Id, permit: str, *, modern: bool, described: bool = False) -> bytes:
    """The answer to a call that was carried out, and answered more than one call may have."""
    sentence = "The call was carried out; its output is withheld, because it is more than one call may have."
    decision = {**own_decision(Reason.BUDGET), "decision_id": permit, "sentence": sentence}
    return refusal(request, decision, modern=modern, described=described)


def leaked(request: Id, permit: str, *, modern: bool, described: bool = False) -> bytes:
    """The answer to a call that was carried out, and in whose output a credential came back."""
    return refusal(request, {**own_decision(Reason.LEAKED), "decision_id": permit}, modern=modern, described=described)


def error(request: Id | None, code: int, sentence: str, decision: Mapping[str, Any] | None = None) -> bytes:
    """A protocol error; with `decision`, a denial of what is no call."""
    said: dict[str, Any] = {"code": code, "message": sentence}
    if decision is not None:
        said["data"] = shown(decision)
    return encode({"jsonrpc": "2.0", "id": request, "error": said})


def _result(request: Id, text: str, told: Mapping[str, Any], *, modern: bool, described: bool) -> bytes:
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
    if described:
        result["content"].append({"type": "text", "text": encode(told).decode()})
        result["_meta"] = {META: told}
    else:
        result["structuredContent"] = told
    result["isError"] = True
    if modern:
        result["resultType"] = "complete"
    return encode({"jsonrpc": "2.0", "id": request, "result": result})
