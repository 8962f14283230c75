"""What would have changed a refusal that was not policy's: an operator's words, beside what an agent is told."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from forestall.core.reason import Reason

POLICY = frozenset(
    {
        Reason.FORBIDDEN,
        Reason.NO_POLICY,
        Reason.POLICY_ERROR,
        Reason.MISSING_CONTEXT,
        Reason.NEEDS_APPROVAL,
    }
)
"""Policy alone says these, and so it says what would have changed them."""

SHARED = frozenset({Reason.INVALID_ARGUMENTS, Reason.UNCLEAR_INTENT})
"""Policy says these too, and then the entry has the facts that it was asked about."""

PEOPLE = frozenset({Reason.NOT_APPROVED, Reason.APPROVAL_EXPIRED})
"""Policy was asked and held the call; what then refused it was an answer, or that there was none in time."""

REMEDIES: Mapping[Reason, str] = {
    Reason.UNKNOWN_TOOL: "A review of the tool: `forestall init` proposes one, in catalogue/{server}.toml.",
    Reason.TOOL_CHANGED: (
        "A review of the definition that the server sends now: `forestall init` shows what is different, "
        "`forestall init --accept-change {tool}` takes it."
    ),
    Reason.DUPLICATE_TOOL: (
        "A choice between the servers that offer it: `accept_duplicate = true` beside the one that is meant, in "
        "catalogue/{server}.toml."
    ),
    Reason.UNKNOWN_METHOD: "A policy that permits this method.",
    Reason.INVALID_MESSAGE: "Another message; only its form was looked at.",
    Reason.INVALID_ARGUMENTS: "Arguments that fit the tool's input schema, each member once and in one case.",
    Reason.INVALID_PROOF: "A caller that can be verified.",
    Reason.NO_GRANT: "An open task that covers the call.",
    Reason.NOT_HOLDER: "A call by whom the task belongs to.",
    Reason.TASK_ENDED: "A new task; or a longer life, `lifetime_minutes` in policy/mandates/{mandate}.toml.",
    Reason.REVOKED: "Nothing: the task was ended, and stays so. `forestall resume` lets new ones be opened.",
    Reason.SUSPENDED: "`forestall resume`, for whatever suspended the task.",
    Reason.UNCLEAR_INTENT: "A mandate and a purpose, and no more tools or effects than the mandate's.",
    Reason.OUT_OF_SCOPE: "A wider scope: `tools`, `effects` or `resources` in policy/mandates/{mandate}.toml.",
    Reason.BUDGET: "A larger budget, under [budget] in policy/mandates/{mandate}.toml, or a new task.",
    Reason.DEPTH: "A shorter chain of agents, or `depth` in policy/mandates/{mandate}.toml.",
    Reason.INVALID_PARAMETERS: "Parameters that fit those in policy/mandates/{mandate}.toml.",
    Reason.BEYOND_MANDATE: "A longer `lifetime_minutes` in policy/mandates/{mandate}.toml.",
    Reason.PARENT_ENDED: "A task above that is still open.",
    Reason.WIDER: "Asking for no more than the task above it has.",
    Reason.CYCLE: "Handing the work to an agent that is not in the chain.",
    Reason.OTHER_DOMAIN: "An agent of the same tenant and trust domain; or a task that the other opens itself.",
    Reason.UPSTREAM: "An answer to what waits above the task: `forestall approvals`.",
    Reason.NOT_APPROVED: "Another answer: exactly this call was declined, or nobody may approve it.",
    Reason.APPROVAL_EXPIRED: "A use of the approval before it ran out, or a longer `@expires` in the policy that asks.",
    Reason.DEADLINE: "A faster answer; `decision_timeout_ms` under [serve] in forestall.toml is the limit.",
    Reason.CANCELLED: "Nothing: the caller took it back.",
    Reason.UNAVAILABLE: "Whatever could not be used, usable again.",
    Reason.LEAKED: "A tool that does not say what it was lent.",
}


def remedy(body: Mapping[str, Any], task: Mapping[str, Any]) -> str | None:
    """Of a denial's entry; None where policy said it. `task`: the entry that opened its task, or nothing."""
    given = body.get("reason")
    if given is None:
        return None
    reason = Reason(given)
    if reason in POLICY or (reason in SHARED and "effects" in body):
        return None
    tool = str(body.get("tool", ""))
    return REMEDIES[reason].format(
        tool=shlex.quote(tool), server=tool.partition("/")[0], mandate=task.get("mandate") or "NAME"
    )
