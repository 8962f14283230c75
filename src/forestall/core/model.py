"""What the system talks about. Frozen values only: no I/O, no clock, no policy.

Times are whole milliseconds since the Unix epoch, UTC, and are named `at` or end in `_at`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from forestall.core.effects import UNKNOWN, Confidence, Effect
from forestall.core.label import WORST, Confidentiality, Integrity, Label
from forestall.core.reason import Reason

Json = Any
"""A JSON value as `forestall.core.canonical.parse` returns it."""

NOTHING: Mapping[Any, Any] = MappingProxyType({})


def _nothing() -> Mapping[Any, Any]:
    return NOTHING


class Assurance(StrEnum):
    """How the subject was verified."""

    LOCAL = "local"  # peer credentials of a local socket: the same machine and uid, nothing more
    EMBEDDED = "embedded"  # the program that holds the guard vouches for itself


@dataclass(frozen=True, slots=True)
class Subject:
    """A workload whose identity was verified, to the degree that `assurance` says."""

    id: str
    assurance: Assurance
    asserted_name: str = ""
    """What the client calls itself. Recorded, never believed."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What the catalogue knows about one tool. `confidence` is that of its effects."""

    server: str
    name: str
    pin: str
    """`sha256:` and 64 hex digits: the digest of the canonical definition that was reviewed."""
    effects: frozenset[Effect] = UNKNOWN
    confidence: Confidence = Confidence.ASSUMED
    control: frozenset[str] = frozenset()
    """Arguments that select the target or the effect."""
    content: frozenset[str] = frozenset()
    """Arguments that are only carried."""
    output: Label = WORST
    output_confidence: Confidence = Confidence.ASSUMED
    record_of: tuple[str, ...] = ()
    """JSON pointers into the output for which the server is the system of record."""
    reversible: bool = False
    opaque: frozenset[str] = frozenset()
    """Arguments that policy sees only as a digest, by an owner's decision."""
    accept_undeclared: bool = False
    """Let arguments through that the input schema does not declare; policy cannot see them."""
    accept_duplicate: bool = False
    """A person chose this tool although another server has one of the same name."""
    input_schema: Mapping[str, Json] = field(default_factory=_nothing, repr=False)

    @property
    def id(self) -> str:
        return f"{self.server}/{self.name}"

    @property
    def durable(self) -> bool:
        """Must the permit be on disk before it is released? Only declared reads of public, trusted data may wait."""
        return not (
            self.effects == {Effect.READ}
            and self.confidence is Confidence.DECLARED
            and self.output_confidence is Confidence.DECLARED
            and self.output == Label(Integrity.TRUSTED, Confidentiality.PUBLIC)
        )


@dataclass(frozen=True, slots=True)
class Mandate:
    """A reviewed template for tasks: what may be done, how often, for how long."""

    name: str
    purpose: str
    tools: tuple[str, ...]
    """Patterns over `server/tool`, `*` matching any run of characters."""
    effects: frozenset[Effect]
    lifetime_ms: int
    budget: Mapping[Effect, int] = field(default_factory=_nothing)
    """Calls permitted by effect; an effect that is not named is not limited."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A task's authority."""

    task: str
    holder: str
    """The id of the one subject that may use it."""
    purpose: str
    mandate: str
    tools: tuple[str, ...]
    effects: frozenset[Effect]
    expires_at: int
    budget: Mapping[Effect, int] = field(default_factory=_nothing)
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """One tool call, asked for and not yet decided."""

    id: str
    """Unguessable; names the decision, the permit and the ledger entries."""
    task: str
    tool: str
    """`server/tool`."""
    pin: str
    """Digest of the definition that the enforcement point sees now."""
    arguments: Mapping[str, Json] = field(repr=False)
    canonical: bytes = field(repr=False)
    """The arguments in RFC 8785 form."""
    digest: str
    """`sha256:` over `canonical`."""
    salt: bytes = field(repr=False)
    """Random: what the ledger commits the arguments with, so that short values cannot be guessed from it."""
    at: int
    proof: object = field(repr=False)
    """Evidence of who is asking, as the identity port takes it."""


@dataclass(frozen=True, slots=True)
class RealPath:
    """Where a path that an argument names really leads: absolute, symbolic links and `..` resolved."""

    real: str
    inside: str | None = None
    """The same, relative to the tool's working directory, `/` between the parts; None where it leads out of it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the action beyond its arguments."""

    labels: Label
    """What the task has seen so far."""
    effects: frozenset[Effect]
    confidence: Confidence
    reaches_own_files: bool
    """An argument names Forestall's own files, keys, socket, or a client's configuration."""
    depth: int = 0
    paths: Mapping[str, tuple[RealPath, ...]] = field(default_factory=_nothing, repr=False)
    """By name of a control argument: what each of its values names, in order. Only where all of them resolve."""


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that policy may look at."""

    subject: Subject
    grant: Grant
    tool: Tool
    arguments: Mapping[str, Json] = field(repr=False)
    facts: Facts


class Decision(StrEnum):
    PERMIT = "permit"
    DENY = "deny"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Approval:
    """Whose approval a hold waits for: every group must be met."""

    approvers: tuple[str, ...]
    quorum: int = 1
    lifetime_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Ruling:
    """What policy says to a question."""

    decision: Decision
    policy_digest: str
    """Digest of the whole active bundle."""
    slice_digest: str
    """Digest of the policies that apply to this action."""
    reason: Reason | None = None
    policies: tuple[str, ...] = ()
    """Ids of the policies that decided."""
    approvals: tuple[Approval, ...] = ()
    credential: str | None = None
    """The class of credential that the permit brings into being, if any."""
    detail: str = ""
    """For the operator and the ledger, never for the agent."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to do exactly one thing, once, soon."""

    id: str
    task: str
    tool: str
    pin: str
    digest: str
    effects: frozenset[Effect]
    output: Label
    policies: tuple[str, ...]
    policy_digest: str
    expires_at: int
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    id: str
    reason: Reason
    policies: tuple[str, ...] = ()
    policy_digest: str = ""
    detail: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Hold:
    """Permitted by policy once what it waits for has come. Nothing was done."""

    id: str
    reason: Reason
    approvals: tuple[Approval, ...]
    policies: tuple[str, ...] = ()
    policy_digest: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A credential's life. Its id derives from the action's, so that a lost answer can be revoked by name."""

    id: str
    secret: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What the tool answered, a failure of its own included."""

    value: object = field(repr=False)
    failed: bool = False
    digest: str = ""
    """`sha256:` over the action's salt and the output, where the enforcement point could make one; empty elsewhere.

    The ledger shows it to whoever can read it, so it is never the digest of the output alone: a short one could be
    guessed from that. The decision point digests the salt and the digest that the gateway reported, as its text; the
    guard the salt and the canonical output, item by item.
    """


@dataclass(frozen=True, slots=True)
class Done:
    """The action ran, its output is recorded, and may be released."""

    permit: Permit
    result: Result


class Fate(StrEnum):
    """How a permit ended."""

    DONE = "done"
    FAILED = "failed"  # the tool ran, and said that it failed
    NOT_STARTED = "not_started"  # certainly nothing happened
    AMBIGUOUS = "ambiguous"  # it may have happened


@dataclass(frozen=True, slots=True)
class Undone:
    """A permitted action whose output is not released: it did not start, nobody knows, or it could not be recorded."""

    permit: Permit
    fate: Fate
    reason: Reason
    detail: str = field(default="", repr=False)


Outcome = Deny | Hold | Done | Undone
