"""Why an action was not permitted: a closed set of codes, each with a page in docs/reasons/.

The agent is told the code and what would help, never what the policy is; the operator finds the rest in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Retry(StrEnum):
    """Can the same call succeed later?"""

    FINAL = "final"  # not in this task
    RETRYABLE = "retryable"  # once the cause has gone
    NEEDS_APPROVAL = "needs_approval"  # once a person has agreed


@dataclass(frozen=True, slots=True)
class Advice:
    retry: Retry
    sentence: str
    """What an agent is told: what would change the answer, and nothing about the policy."""


class Reason(StrEnum):
    UNKNOWN_TOOL = "unknown_tool"
    TOOL_CHANGED = "tool_changed"
    DUPLICATE_TOOL = "duplicate_tool"
    UNKNOWN_METHOD = "unknown_method"
    INVALID_MESSAGE = "invalid_message"
    INVALID_ARGUMENTS = "invalid_arguments"
    INVALID_PROOF = "invalid_proof"
    NO_GRANT = "no_grant"
    NOT_HOLDER = "not_holder"
    TASK_ENDED = "task_ended"
    REVOKED = "revoked"
    SUSPENDED = "suspended"
    UNCLEAR_INTENT = "unclear_intent"
    OUT_OF_SCOPE = "out_of_scope"
    BUDGET = "budget"
    DEPTH = "depth"
    INVALID_PARAMETERS = "invalid_parameters"
    BEYOND_MANDATE = "beyond_mandate"
    PARENT_ENDED = "parent_ended"
    WIDER = "wider"
    CYCLE = "cycle"
    OTHER_DOMAIN = "other_domain"
    FORBIDDEN = "forbidden"
    NO_POLICY = "no_policy"
    POLICY_ERROR = "policy_error"
    MISSING_CONTEXT = "missing_context"
    UPSTREAM = "upstream"
    NEEDS_APPROVAL = "needs_approval"
    NOT_APPROVED = "not_approved"
    APPROVAL_EXPIRED = "approval_expired"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    UNAVAILABLE = "unavailable"
    LEAKED = "leaked"

    @property
    def advice(self) -> Advice:
        return ADVICE[self]


@dataclass(frozen=True, slots=True)
class Objection:
    """Why something cannot be had, before policy is asked."""

    reason: Reason
    detail: str = ""
    """For the operator and the ledger, never for the agent."""


ADVICE: dict[Reason, Advice] = {
    Reason.UNKNOWN_TOOL: Advice(Retry.FINAL, "This tool has not been reviewed. Use a tool from the list."),
    Reason.TOOL_CHANGED: Advice(
        Retry.FINAL, "This tool changed after it was reviewed; a person has to review it again."
    ),
    Reason.DUPLICATE_TOOL: Advice(Retry.FINAL, "Two servers offer a tool of this name; a person has to choose one."),
    Reason.UNKNOWN_METHOD: Advice(Retry.FINAL, "This protocol method is not permitted here."),
    Reason.INVALID_MESSAGE: Advice(Retry.RETRYABLE, "Send one message that every reader understands alike."),
    Reason.INVALID_ARGUMENTS: Advice(Retry.RETRYABLE, "Send arguments that fit the tool's input schema exactly."),
    Reason.INVALID_PROOF: Advice(Retry.FINAL, "The caller could not be verified."),
    Reason.NO_GRANT: Advice(Retry.FINAL, "No open task covers this call."),
    Reason.NOT_HOLDER: Advice(Retry.FINAL, "This task belongs to another caller."),
    Reason.TASK_ENDED: Advice(Retry.FINAL, "The task has ended. Open a new one."),
    Reason.REVOKED: Advice(Retry.FINAL, "This task was ended by an operator. Do not go on with it."),
    Reason.SUSPENDED: Advice(
        Retry.RETRYABLE, "This task is suspended. An operator can resume it; do not retry in a loop."
    ),
    Reason.UNCLEAR_INTENT: Advice(Retry.FINAL, "The task does not say clearly enough what it is for."),
    Reason.OUT_OF_SCOPE: Advice(Retry.FINAL, "The task does not cover this tool or effect."),
    Reason.BUDGET: Advice(Retry.FINAL, "The task has used up its budget for this kind of effect."),
    Reason.DEPTH: Advice(Retry.FINAL, "The chain of agents is too deep."),
    Reason.INVALID_PARAMETERS: Advice(
        Retry.RETRYABLE, "Open the task with a value for each parameter of its mandate, and no others."
    ),
    Reason.BEYOND_MANDATE: Advice(Retry.FINAL, "The mandate does not let a task live that long."),
    Reason.PARENT_ENDED: Advice(Retry.FINAL, "The task above has ended, so nothing can be handed on from it."),
    Reason.WIDER: Advice(Retry.FINAL, "A delegated task cannot have more than the task above it. Ask for less."),
    Reason.CYCLE: Advice(Retry.FINAL, "This agent already acts in the chain. Hand the work to another."),
    Reason.OTHER_DOMAIN: Advice(Retry.FINAL, "A task is not handed on to another tenant or trust domain."),
    Reason.FORBIDDEN: Advice(Retry.FINAL, "Not permitted with these arguments. Repeating the call will not help."),
    Reason.NO_POLICY: Advice(Retry.FINAL, "Nothing permits this call. Repeating it will not help."),
    Reason.POLICY_ERROR: Advice(Retry.FINAL, "The policy could not be evaluated; an operator has to mend it."),
    Reason.MISSING_CONTEXT: Advice(Retry.RETRYABLE, "A fact that the decision needs is missing."),
    Reason.UPSTREAM: Advice(Retry.RETRYABLE, "The task above waits for a decision that this call depends on."),
    Reason.NEEDS_APPROVAL: Advice(
        Retry.NEEDS_APPROVAL, "A person has to approve exactly this call first; then try it again."
    ),
    Reason.NOT_APPROVED: Advice(Retry.FINAL, "A person declined this call."),
    Reason.APPROVAL_EXPIRED: Advice(Retry.NEEDS_APPROVAL, "The approval ran out; a person has to approve again."),
    Reason.DEADLINE: Advice(Retry.RETRYABLE, "The decision took too long. Nothing was done."),
    Reason.CANCELLED: Advice(Retry.RETRYABLE, "The call was cancelled before it started. Nothing was done."),
    Reason.UNAVAILABLE: Advice(Retry.RETRYABLE, "The decision could not be made or recorded. Nothing was done."),
    Reason.LEAKED: Advice(
        Retry.FINAL, "The call was carried out; its output held a credential, is withheld, and the credential ends."
    ),
}
