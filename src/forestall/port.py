"""Everything the outside must satisfy, on one page. Each port has one contract suite that every adapter runs.

Unless a method says otherwise, failure is `Unavailable` or `CannotDo`, and its caller denies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from forestall.core.approval import Consent, Shown
from forestall.core.control import Command
from forestall.core.entry import Entry, Stream
from forestall.core.label import Label
from forestall.core.model import (
    Action,
    Counted,
    Facts,
    Grant,
    Lease,
    Mandate,
    Permit,
    Question,
    Risk,
    Ruling,
    Secret,
    Subject,
    Tool,
)
from forestall.core.reason import Reason
from forestall.core.repute import UNKNOWN, Repute


@dataclass(frozen=True, slots=True)
class Position:
    """Where an entry stands: its index in its stream's tree."""

    stream: Stream
    index: int


@dataclass(frozen=True, slots=True)
class Written:
    """An entry read back from the ledger."""

    position: Position
    body: Mapping[str, Any]
    """The leaf, parsed: `format`, `stream`, `kind`, `id`, `at` and what the kind holds."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A held action that waits for people."""

    shown: Shown
    body: Mapping[str, Any]
    """Of its `held` entry, as far as `core.entry.HELD` names it."""
    sealed: Position
    """Beside which entry its arguments stand; its commitments may be those of another."""
    until: int
    consents: tuple[Consent, ...]


class Ledger(Protocol):
    """An append-only record. Returns from an append only when the entry is as durable as `entry.durable` asks."""

    def append(self, entry: Entry) -> Position: ...

    def append_async(self, entry: Entry, then: Callable[[Position], None] | None = None) -> Awaitable[Position]:
        """`then` is called on the loop, before whoever awaits goes on; what it raises is raised there."""
        ...

    def read(self, stream: Stream, start: int = 0) -> Iterator[Written]:
        """Entries from `start` on, in order, as far as they are written now."""
        ...

    def unseal(self, position: Position) -> bytes | None:
        """What was sealed beside the entry; None where nothing was, or where it was erased."""
        ...

    def close(self) -> None:
        """Make everything durable and sign a last checkpoint."""
        ...


class Engine(Protocol):
    """Policy. Pure: the same question gets the same ruling; whatever goes wrong is a ruling that denies."""

    @property
    def digest(self) -> str: ...

    def evaluate(self, question: Question) -> Ruling: ...

    def could_permit(self, tool: Tool) -> bool:
        """False only when no arguments and no approval could make policy permit this tool."""
        ...


class Catalogue(Protocol):
    """What is known about tools."""

    def find(self, tool: str) -> Tool | None:
        """`server/tool`, or None where nobody has reviewed it."""
        ...

    def all(self) -> Sequence[Tool]: ...

    def duplicates(self) -> frozenset[str]:
        """Ids of tools whose bare name another server offers too, and that nobody chose (`accept_duplicate`)."""
        ...


class Standing(StrEnum):
    """Where a task stands. One that is over is shown for as long as something in its tree is not."""

    OPEN = "open"
    SUSPENDED = "suspended"
    KILLED = "killed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as an operator sees it."""

    task: str
    parent: str
    root: str
    depth: int
    holder: str
    tenant: str
    trust_domain: str
    user: str
    mandate: str
    purpose: str
    state: Standing
    labels: Label
    budget: Mapping[Counted, int]
    spent: Mapping[Counted, int]
    """By it and all below it."""
    running: int
    """Its own permits without an outcome."""
    opened_at: int
    expires_at: int
    why: str = ""
    """What the order said that suspends it, or a task above it."""
    since: int = 0
    """When that was ordered, in milliseconds since the epoch."""


class State(Protocol):
    """What follows from the ledger: open tasks, spent budgets, labels, unsettled permits. `apply` rebuilds it."""

    def find_grant(self, task: str) -> Grant | None: ...

    def labels(self, task: str) -> Label: ...

    def seen(self, instance: str) -> Label:
        """What this workload instance has seen so far; clean where nobody tells instances apart."""
        ...

    def reserve(self, grant: Grant, counted: Collection[Counted]) -> bool:
        """Atomically take what `core.budget.uses` says from the budgets of the task and of all above it, or nothing and
        False. Nothing is taken of a task that is over.
        """
        ...

    def release(self, grant: Grant, counted: Collection[Counted]) -> None: ...

    def stands(self, permit: str, at: int) -> bool:
        """May this permit still start: recorded, without an outcome, in time, its task and all above it open, none of
        them suspended? Asked after the permit was recorded, since a task may have ended in between.
        """
        ...

    def adds_nothing(self, permit: str) -> bool:
        """Would the output of this permit, which has no outcome yet, raise no label of anybody: of its task, of those
        above, of an instance that acts in them or asked for it? False where that is not known.
        """
        ...

    def stopped(self, task: str) -> Reason | None:
        """Why no permit may be given under this task now: `revoked` once it was killed, alone or with what is above
        it, `suspended` while it or something above it is. None otherwise, also for a task that is not known.
        """
        ...

    def barred(self, subject: Subject, user: str) -> Reason | None:
        """Why this subject may not hold a new task that serves this user: `revoked` or `suspended`, or None. What is
        opened in the log after such an order never lives, until a resume for the same target.
        """
        ...

    def risk(self, grant: Grant) -> Risk:
        """The highest that orders say of the task, of those above it, and of whom they are for and act through."""
        ...

    @property
    def epoch(self) -> int:
        """How many orders were taken in, ever."""
        ...

    def tasks(self) -> Sequence[TaskView]:
        """Every task of each tree that is remembered, those above before those below."""
        ...

    def orders(self) -> Sequence[tuple[int, Command]]:
        """Those that stand: the last word on each target, with when it was given. What says that all is well does not
        stand, nor does the kill of one task, which is over.
        """
        ...

    def asked(self, action: str, task: str) -> None:
        """From now on the task has this action undecided, or held; until `answered`, or until the task is over."""
        ...

    def answered(self, action: str) -> None: ...

    def undecided_above(self, task: str) -> Sequence[str]:
        """The tasks above this one, nearest first, that have an action undecided or held."""
        ...

    def watch_above(self, task: str, wake: Callable[[], None]) -> bool:
        """Call `wake` once, as soon as no task above this one has anything undecided or held, or is over: in whatever
        thread that happens, with nothing of the state to be asked there. False, and no call, where it is so already.
        """
        ...

    def unwatch(self, wake: Callable[[], None]) -> None: ...

    def take_approval(self, asked: Action, asker: Subject, ruling: Ruling, facts: Facts) -> tuple[str, ...] | Reason:
        """The approvals that let a held action pass (`core.approval.judge`), by id. They are found by nobody else from
        now on, also where the permit that was to use them never comes about. Else why not.
        """
        ...

    def waiting(self) -> Sequence[Waiting]:
        """Held actions, the oldest first; those among them that ran out wait for nobody."""
        ...

    def held(self, hold: str) -> Waiting | None:
        """By its id, or by that of a repetition. None where it does not wait: see `fate_of`."""
        ...

    def fate_of(self, hold: str) -> Literal["waits", "used", "declined", "gone"]: ...

    def apply(self, written: Written) -> None:
        """Take in an entry that the ledger holds. Idempotent; entries of one stream come in order.

        Of the stream of denials, holds alone: from memory, their body has `binding` as well.
        """
        ...

    def applied(self, stream: Stream) -> int:
        """How many entries of the stream were taken in: where a rebuild goes on."""
        ...

    def unsettled(self) -> Sequence[Permit]:
        """Permits without an outcome."""
        ...

    def leases(self) -> Sequence[tuple[int, Lease]]:
        """Credentials that may be alive, with when each was written down, in that order; without their secrets."""
        ...

    def close(self) -> None: ...


class Identity(Protocol):
    def verify(self, proof: object) -> Subject:
        """Raises CannotDo(invalid_proof)."""
        ...


class FactSource(Protocol):
    def gather(
        self,
        tool: Tool,
        arguments: Mapping[str, Any],
        labels: Label,
        depth: int,
        directory: str,
        repute: Repute = UNKNOWN,
    ) -> Facts:
        """`directory`: where the tool's relative paths start."""
        ...


class RiskSource(Protocol):
    """Who tells how far a task is to be trusted just now. Asked on every call: it answers from memory."""

    @property
    def name(self) -> str: ...

    @property
    def bound_ms(self) -> int:
        """How old what it tells may be; what is older is missing."""
        ...

    @property
    def problem(self) -> str:
        """What keeps it from telling more, a sentence for the operator; empty where nothing does."""
        ...

    def read(self, grant: Grant, at: int) -> Repute:
        """Of this task, at this time. What it does not know, or not freshly, is not there. Raises nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Traits:
    """What a backend can do, which decides what its credentials are good for."""

    revocable: bool
    """`revoke` ends a credential at once. Otherwise it ends when it expires, and effects are refused it unless that is
    within the action's own deadline.
    """
    by_name: bool
    """`revoke` also ends one whose answer was lost, and `list_orphans` finds those that nobody remembers."""
    renewable: bool = False
    standing: bool = False
    """The secret was there before, and is lent."""
    shortest_ms: int = 0
    """None ends by itself sooner than so long after it was issued; 0 where the backend makes any. One that has to end
    before is revoked then, and lives on for the rest of this where nobody is there to revoke it.
    """
    fields: frozenset[str] | None = None
    """What each `Secret` consists of, so that a template which names something else is refused when it is read. None
    where that is known only of one that was made.
    """


class Broker(Protocol):
    """Makes credentials of one class, at one backend. Blocking, from several threads at once; every call ends within
    the time that its maker was given, whatever the backend does.

    Whatever the backend says, errors hold no secret. Unless said otherwise, failure is `CannotDo(unavailable)`.
    """

    @property
    def traits(self) -> Traits: ...

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Any]:
        """The least rights that this action needs, for a credential of its own; of a task's credential, those that the
        grant has. JSON, and nothing secret: it stands in the ledger, and is all that `issue` goes by. No I/O.

        Raises:
            CannotDo: out_of_scope, where the action needs more than the grant and the class allow; invalid_arguments,
                where what it needs cannot be told.
        """
        ...

    def issue(self, lease: Lease) -> Secret:
        """A credential of this name with these rights, that ends by itself at `lease.expires_at`, or before; of a
        backend that makes none so short, when `traits.shortest_ms` have passed.

        Where it raises, there may be one all the same, and it is revoked. A name is issued once.
        """
        ...

    def renew(self, lease: Lease, expires_at: int) -> int:
        """Let it live until then, or for as long as the backend lets it: when it ends now, in milliseconds since the
        epoch. Asked only where `traits.renewable`.
        """
        ...

    def revoke(self, lease: Lease) -> None:
        """Returns once the credential, and every session that it opened, is of no use any more. Idempotent, and
        succeeds where none exists. `lease.secret` is None where its answer was lost, or this is another process: then,
        unless `traits.by_name`, it fails until the credential has ended by itself, or certainly never was.
        """
        ...

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:
        """Names of credentials that this Forestall made there, are alive, and are not among `known`."""
        ...

    def close(self) -> None: ...


class Mandates(Protocol):
    def find(self, name: str) -> Mandate | None: ...
