"""What the system talks about. Frozen values only: no I/O, no clock, no policy.

Times are whole milliseconds since the Unix epoch, UTC, and are named `at` or end in `_at`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from forestall.core.effects import UNKNOWN, Confidence, Effect
from forestall.core.fate import Fate
from forestall.core.label import WORST, Confidentiality, Integrity, Label
from forestall.core.place import Place
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason

Json = Any
"""A JSON value as `forestall.core.canonical.parse` returns it."""

Actor = tuple[str, str]
"""Who acts: the issuer that vouches for it, which is its trust domain, and its id there. Neither alone is anybody."""

NOTHING: Mapping[Any, Any] = MappingProxyType({})


def _nothing() -> Mapping[Any, Any]:
    return NOTHING


class Assurance(StrEnum):
    """How the subject was verified."""

    LOCAL = "local"  # peer credentials of a local socket: the same machine and uid, nothing more
    ATTESTED = "attested"  # as the kernel shows it, of another uid than the decision point's, which it cannot reach
    EMBEDDED = "embedded"  # the program that holds the guard vouches for itself
    SVID = "svid"  # a SPIFFE identity document, X.509 or JWT
    OIDC = "oidc"  # a workload token of an issuer that `identity.toml` names
    KEY = "key"  # a registered client signed with its own key (RFC 7523)


class Risk(StrEnum):
    """How far an agent, a user or a task is to be trusted just now (CAEP risk-level-change)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Executable:
    """What a workload runs, as the kernel shows it. What cannot be read is empty, and never guessed."""

    path: str = ""
    """Empty also where the file at that path is another by now."""
    digest: str = ""
    """`sha256:` over the very file that runs. Empty for an interpreter, whose digest identifies nobody."""
    interpreter: bool = True
    """It runs what it is given. Also where that is not known."""
    same_uid: bool = True
    """Its user is the decision point's own, and could run anything in its place."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A workload whose identity was verified, to the degree that `assurance` says."""

    id: str
    assurance: Assurance
    asserted_name: str = ""
    """What the client calls itself. Recorded, never believed."""
    instance: str = ""
    """The one running workload that this is, as it was attested. Empty where nobody told instances apart: what it has
    seen is then known of each of its tasks alone, and a new task starts clean.
    """
    tenant: str = ""
    trust_domain: str = ""
    key: str = ""
    """What it proved to have, as in `Grant.key`; empty where nothing was asked for."""
    executable: Executable | None = None
    """None where nobody looked, or could tell which of several processes it is."""
    uid: int | None = None
    """The user of this machine that it runs as, where the kernel said so."""
    process: str = ""
    """The instance that was attested at the socket, where `instance` is another: it learns what this one does."""

    @property
    def actor(self) -> Actor:
        return self.trust_domain, self.id

    @property
    def local_user(self) -> str:
        """Whom it serves on this machine, as orders name them: `uid/1000`, whom it runs as. Empty for an agent that has
        a user of its own, which is no person, and for one of elsewhere.
        """
        serves = self.uid is not None and self.assurance in {Assurance.LOCAL, Assurance.EMBEDDED}
        return f"uid/{self.uid}" if serves else ""


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
    hidden: frozenset[str] = frozenset()
    """Arguments that a credential fills in once the call is permitted. Who calls neither sees nor gives them, policy
    and schema do not know of them, and the digest of the arguments is without them.
    """
    references: frozenset[str] = frozenset()
    """Control arguments that name files whose content the call uses (`core.refer`)."""
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


Counted = Effect | Quantity
"""Of an effect, calls are counted. No name is both."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """How the value of a mandate's parameter must look: one of `values`, or all of it like `pattern`."""

    pattern: str = ""
    """A regular expression of the kind that `core.mandate.require_pattern` takes."""
    values: tuple[str, ...] = ()
    max_length: int = 128
    """Characters."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One bound that a task's calls keep: this argument, of these tools, has a value like this."""

    tool: str
    """A pattern over `server/tool`."""
    argument: str
    """A bound argument has to be there."""
    value: tuple[str, ...]
    """Parts with any run of characters between them; one part is the whole value. Split, so that a parameter's value is
    never read as a pattern.
    """


@dataclass(frozen=True, slots=True)
class Mandate:
    """A reviewed template for tasks: what may be done, with what, how often, for how long."""

    name: str
    purpose: str
    tools: tuple[str, ...]
    """Patterns over `server/tool`, `*` matching any run of characters."""
    effects: frozenset[Effect]
    lifetime_ms: int
    budget: Mapping[Counted, int] = field(default_factory=_nothing)
    """For the whole tree of tasks; what is not named is not limited, delegation apart."""
    per_call: Mapping[Quantity, int] = field(default_factory=_nothing)
    """The most that one call may use: what is reserved for it."""
    parameters: Mapping[str, Parameter] = field(default_factory=_nothing)
    resources: tuple[Resource, ...] = ()
    """Their values are templates: `{name}` stands for a parameter's value."""
    ceiling: Confidentiality | None = None
    """The highest confidentiality of what the task may read; None where it is not limited."""
    depth: int = 0
    """How many times the task may be handed on, one agent to the next."""


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
    budget: Mapping[Counted, int] = field(default_factory=_nothing)
    """What the task and all below it may use; for each task above it, that one's own budget counts too."""
    depth: int = 0
    """Hops from the task that was opened first."""
    max_depth: int = 0
    """The depth that no task of the tree goes beyond."""
    per_call: Mapping[Quantity, int] = field(default_factory=_nothing)
    parent: str = ""
    """The task that handed this one on; empty for one that was opened."""
    root: str = ""
    """The task that was opened first; empty where that is this one."""
    actors: tuple[Actor, ...] = ()
    """The chain, its holder first (RFC 8693, 4.1). Empty: the holder alone."""
    tenant: str = ""
    trust_domain: str = ""
    instance: str = ""
    """The one instance of its holder that may use it; empty: any."""
    user: str = ""
    """Whom the task serves, as verified; empty where nobody was."""
    request: str = ""
    """`sha256:` over what the user asked for; empty where no request came."""
    parameters: Mapping[str, str] = field(default_factory=_nothing)
    """The mandate's, with the values of this task. They stand in the ledger: nothing secret belongs into them."""
    resources: tuple[Resource, ...] = ()
    """All of those that speak of a tool bind it."""
    ceiling: Confidentiality | None = None
    longest_at: int = 0
    """No extension goes beyond this; 0: it is never extended."""
    key: str = ""
    """What its holder proves to have: `jkt:` and a JWK thumbprint (RFC 9449, 6.1), or `x5t#S256:` and that of a
    certificate (RFC 8705, 3.1). Empty: it is used on the connection that it was opened on alone.
    """

    @property
    def tree(self) -> str:
        """The task that was opened first."""
        return self.root or self.task

    @property
    def chain(self) -> tuple[Actor, ...]:
        """Who acts for whom, its holder first; never empty."""
        return self.actors or ((self.trust_domain, self.holder),)


@dataclass(frozen=True, slots=True)
class Reference:
    """Content that an argument names, as the enforcement point has copied it."""

    digest: str
    """`sha256:` over what will be used."""
    real: str
    """Where it was read: absolute, without links and `..`."""


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
    refs: Mapping[str, Reference] = field(default_factory=_nothing, repr=False)
    """By JSON pointer into the arguments: content that the enforcement point holds a copy of."""


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
    risk: Risk | None = None
    """None where no source tells, or one that should does not: missing, and never harmless."""
    posture: Mapping[str, str] = field(default_factory=_nothing)
    """As `risk`, part by part."""
    references: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing, repr=False)
    """By name of an argument: digests of the content that it refers to, in order. Only where all of it is bound."""
    unbound: tuple[str, ...] = ()
    """Arguments that refer to content which may be another when it is used."""


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
class Narrowing:
    """What policy leaves of the authority that a task would have. None: all of it."""

    effects: frozenset[Effect] | None = None
    lifetime_ms: int | None = None
    max_depth: int | None = None
    """As in `Grant`."""


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
    narrowing: Narrowing | None = None
    """Of a task that is opened or delegated."""
    after_upstream: bool = False
    """It counts once nothing above the action's task is undecided or held; asked before, it is asked again."""
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
    approvals: tuple[str, ...] = ()
    """Ids of those that it uses up."""
    limits: Mapping[Quantity, int] = field(default_factory=_nothing)
    """The most that the call may use, as its grant has it: what was reserved for it."""
    refs: Mapping[str, str] = field(default_factory=_nothing)
    """By JSON pointer into the arguments: the digest of the content that is used for what stands there."""


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
    slice_digest: str = ""


class Scope(StrEnum):
    """What a credential comes into being for, and ends with."""

    ACTION = "action"
    TASK = "task"


Prove = Callable[[str, str, str | None], str]
"""Of a request's method and URL, and of the nonce that its server demands, the proof that goes with it (RFC 9449, 4).

Raises:
    InvalidInput: they cannot be a request's.
    CannotDo: the credential is over.
"""


@dataclass(frozen=True, slots=True)
class Secret:
    """What a backend gave out. It is held in memory, placed where the tool runs, and nowhere else."""

    fields: Mapping[str, str] = field(repr=False)
    """By the backend's own names, such as `user`, `password`, `token`."""
    handle: str = field(default="", repr=False)
    """What the backend needs to end it, besides its name; empty where the name is enough."""
    expires_at: int = 0
    """When the backend says that it ends; 0 where it says nothing. It may be before the lease's own end."""
    prove: Prove | None = field(default=None, repr=False, compare=False)
    """Where it is bound to a key, and every request that it goes with needs a proof: makes one, and keeps the key."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A credential's life: all of it is written down before there is a credential, the secret never."""

    name: str
    """What the backend knows it by. It derives from the permit, so that a lost answer can be revoked by name."""
    credential: str
    """Its class, as policy and `credentials.toml` name it."""
    backend: str
    """What kind of backend makes it."""
    task: str
    permit: str
    """Which brings it into being."""
    scope: Scope
    rights: Mapping[str, Json]
    """What may be done with it, in the backend's own words. They stand in the ledger: nothing secret belongs there."""
    expires_at: int
    """By then it has ended, whatever else happens; never after the task."""
    place: Place | None = None
    """Where it is put; None where a program of its own asks for it."""
    exposed: bool = False
    """Where it is placed, the agent's own user could read it."""
    standing: bool = False
    """The secret was there before and will be there after: it is lent, not made, and its end ends nothing."""
    words: str = ""
    """`sha256:` over what its class said when it was made; empty where nobody wrote that down."""
    secret: Secret | None = field(default=None, repr=False)
    """None until it was issued."""

    @property
    def over_by(self) -> int | None:
        """When a task's has ended whatever is told; None of one that ends with its call."""
        if self.scope is Scope.ACTION:
            return None
        return max(self.expires_at, self.secret.expires_at if self.secret is not None else 0)


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
    used: Mapping[Quantity, int] = field(default_factory=_nothing)
    """What the call used, as far as the enforcement point could tell; of the rest, what was reserved counts as used."""
    leaked: bool = False
    """A credential came back in it. It is withheld."""


@dataclass(frozen=True, slots=True)
class Done:
    """The action ran, its output is recorded, and may be released."""

    permit: Permit
    result: Result


@dataclass(frozen=True, slots=True)
class Undone:
    """A permitted action whose output is not released: it did not start, nobody knows, it could not be recorded, it is
    more than one call may have, or a credential came back in it.
    """

    permit: Permit
    fate: Fate
    reason: Reason
    detail: str = field(default="", repr=False)


Outcome = Deny | Hold | Done | Undone
