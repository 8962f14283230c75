"""A simulated world: answers for every ask, a memory of what was asked and done, and faults where a test wants them.

It is what a flow is tested against, ours or a third party's enforcement point: real values, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from forestall.core.action import ask_for
from forestall.core.approval import Consent, Shown, binding_of, judge
from forestall.core.ask import (
    Admit,
    Ask,
    AwaitUpstream,
    CannotDo,
    Confirm,
    Evaluate,
    FindApproval,
    FindGrant,
    FindTool,
    Gather,
    Issue,
    Perform,
    Plan,
    Record,
    Release,
    Reserve,
    Revoke,
    Tell,
    Verify,
)
from forestall.core.effects import Confidence, Effect
from forestall.core.entry import Entry
from forestall.core.label import CLEAN, Label
from forestall.core.model import (
    Action,
    Assurance,
    Decision,
    Facts,
    Grant,
    Lease,
    Result,
    Ruling,
    Scope,
    Secret,
    Subject,
    Tool,
)
from forestall.core.reason import Reason

NOW = 1_795_000_000_000
"""The simulated time, in milliseconds."""

AGENT = Subject("local/1000/files", Assurance.LOCAL, "an agent")
TOOL = Tool(
    server="files",
    name="write",
    pin="sha256:" + "00" * 32,
    effects=frozenset({Effect.WRITE}),
    confidence=Confidence.DECLARED,
    output=CLEAN,
    output_confidence=Confidence.DECLARED,
)
GRANT = Grant(
    task="task-1",
    holder=AGENT.id,
    purpose="tidy up",
    mandate="default",
    tools=("*",),
    effects=frozenset(Effect),
    expires_at=NOW + 60_000,
)
LEASE = Lease(
    name="forestall-0badcafe-action-1",
    credential="database",
    backend="simulated",
    task=GRANT.task,
    permit="action-1",
    scope=Scope.ACTION,
    rights={"tables": ["orders"]},
    expires_at=NOW + 30_000,
)
SECRET = Secret({"password": "hunter2"})
PERMITTED = Ruling(Decision.PERMIT, "sha256:bundle", "sha256:slice", policies=("writes",))


def action(arguments: Mapping[str, Any] | None = None, **changes: Any) -> Action:
    """A call of TOOL in GRANT's task by AGENT."""
    asked = ask_for(
        TOOL.id,
        {"path": "notes.md"} if arguments is None else arguments,
        action_id="action-1",
        task=GRANT.task,
        pin=TOOL.pin,
        salt=b"salt" * 4,
        at=NOW,
        proof="proof",
    )
    return replace(asked, **changes)


def facts(tool: Tool = TOOL, labels: Label = CLEAN) -> Facts:
    return Facts(labels=labels, effects=tool.effects, confidence=tool.confidence, reaches_own_files=False)


def shown_of(asked: Action, subject: Subject, ruling: Ruling, known: Facts) -> Shown:
    """What a person is shown of this, were it held now."""
    return Shown(
        hold=asked.id,
        task=asked.task,
        tool=asked.tool,
        pin=asked.pin,
        slice_digest=ruling.slice_digest,
        approvals=ruling.approvals,
        effects=known.effects,
        confidence=known.confidence,
        labels=known.labels,
        reaches_own_files=known.reaches_own_files,
        asker=subject,
        binding=binding_of(asked, known),
    )


class Fault(Enum):
    """How a step goes wrong: it is not done, or it is done and its answer is lost."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class World:
    """What the outside answers. Change a field to change the world."""

    subject: Subject | CannotDo | None = AGENT
    tool: Tool | CannotDo | None = TOOL
    grant: Grant | None = GRANT
    barred: Reason | None = None
    stopped: Reason | None = None
    """Why a permit does not stand any more once it is recorded."""
    facts: Facts | None = None
    ruling: Ruling = PERMITTED
    said: tuple[Consent, ...] | Reason = ()
    """What people have said to what is held: yes to exactly what was asked, or a reason."""
    shown: Shown | None = None
    """What they were shown; None: what was asked."""
    upstream: list[Ruling] = field(default_factory=list)
    """What policy says each time that something above was decided; where none is left, the wait was too long."""
    budget: int = 1
    result: Result | CannotDo = field(default_factory=lambda: Result("written", digest="sha256:out"))
    faults: Mapping[int, Fault] = field(default_factory=dict)
    """By the number of the step, from 0."""

    asked: list[Ask] = field(default_factory=list)
    """Every ask, in order."""
    done: list[Ask] = field(default_factory=list)
    """Those that took effect, in order."""
    entries: list[Entry] = field(default_factory=list)
    given: tuple[str, ...] = ()
    """The approvals that were taken."""
    lease: Lease | CannotDo = LEASE
    """What the permit's credential is planned to be."""
    credentials: set[str] = field(default_factory=set)
    """Names of the credentials alive now."""

    def handlers(self) -> dict[type, Callable[[Any], Any]]:
        return dict.fromkeys(_ANSWERS, self.handle)

    def handle(self, ask: Ask) -> Any:
        number = len(self.asked)
        self.asked.append(ask)
        fault = self.faults.get(number)
        if fault is Fault.BEFORE:
            raise CannotDo(detail=f"fault before step {number}")
        answer = _ANSWERS[type(ask)](self, ask)
        self.done.append(ask)
        if fault is Fault.AFTER:
            raise CannotDo(detail=f"answer to step {number} lost")
        return answer

    def find_approval(self, ask: Any) -> tuple[str, ...] | Reason:
        if isinstance(self.said, Reason):
            return self.said
        shown = shown_of(ask.action, ask.subject, ask.ruling, ask.facts) if self.shown is None else self.shown
        found = judge(shown, self.said, ask.action, ask.subject, ask.ruling, ask.facts)
        if not isinstance(found, Reason):
            self.said, self.given = (), found
        return found

    def wait(self) -> bool:
        if not self.upstream:
            raise CannotDo(Reason.UPSTREAM)
        self.ruling = self.upstream.pop(0)
        return True

    def reserve(self, _ask: Any) -> bool:
        if self.budget <= 0:
            return False
        self.budget -= 1
        return True

    def release(self, _ask: Any) -> None:
        self.budget += 1

    def issue(self, ask: Any) -> Secret:
        self.credentials.add(ask.lease.name)
        return SECRET


def _answer(value: Any) -> Any:
    if isinstance(value, CannotDo):
        raise value
    return value


_ANSWERS: dict[type, Callable[[World, Any], Any]] = {
    Verify: lambda world, _: _answer(world.subject),
    FindTool: lambda world, _: _answer(world.tool),
    FindGrant: lambda world, _: world.grant,
    Admit: lambda world, _: world.barred,
    Gather: lambda world, ask: world.facts or facts(ask.tool),
    Evaluate: lambda world, _: world.ruling,
    FindApproval: World.find_approval,
    AwaitUpstream: lambda world, _: world.wait(),
    Reserve: World.reserve,
    Release: World.release,
    Record: lambda world, ask: world.entries.append(ask.entry),
    Confirm: lambda world, _: world.stopped,
    Plan: lambda world, _: _answer(world.lease),
    Issue: World.issue,
    Perform: lambda world, _: _answer(world.result),
    Revoke: lambda world, ask: world.credentials.discard(ask.lease.name),
    Tell: lambda _world, _ask: NOW + 5,
}
