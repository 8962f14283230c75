"""The worlds that a flow is played against, a reference decider to compare with, and the rules it must keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

from forestall.core.approval import Approver, Consent, binding_of
from forestall.core.ask import (
    CannotDo,
    Confirm,
    FindGrant,
    Issue,
    NotStarted,
    Perform,
    Record,
    Release,
    Reserve,
    Revoke,
    Tell,
)
from forestall.core.effects import Confidence, Effect
from forestall.core.entry import Kind, Stream
from forestall.core.fate import Fate
from forestall.core.label import CLEAN, WORST, Confidentiality, Integrity, Label
from forestall.core.model import Action, Approval, Decision, Deny, Done, Hold, Result, Ruling, Scope, Undone
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.run import run
from forestall.testing.world import (
    AGENT,
    GRANT,
    LEASE,
    NOW,
    PERMITTED,
    SECRET,
    TOOL,
    Fault,
    World,
    action,
    facts,
    shown_of,
)

ACTION = action()
CREDENTIALED = replace(PERMITTED, credential="database")
OF_TASK = replace(LEASE, scope=Scope.TASK)
THERE = replace(OF_TASK, secret=SECRET)
BEYOND = CannotDo(Reason.OUT_OF_SCOPE)
HELD = Ruling(Decision.HOLD, "b", "s", Reason.NEEDS_APPROVAL, ("ask",), (Approval(("owner",)),))
TWO = replace(HELD, approvals=(Approval(("owner", "deputy"), quorum=2),))
BOTH = replace(HELD, approvals=(Approval(("owner",)), Approval(("security",))))
OWNERS = replace(PERMITTED, decision=Decision.HOLD, approvals=(Approval(("owner",)),))
NOBODY = replace(HELD, approvals=(Approval(("owner",)), Approval(())))
ANYBODY = replace(HELD, approvals=(Approval(("local",)),))
ASKER = replace(AGENT, uid=1000)


def consent(uid: int = 2000, *names: str, expires_at: int = NOW + 1) -> Consent:
    return Consent(f"yes-{uid}-{expires_at}", Approver(uid, frozenset(names or ("owner",))), expires_at)


def approved(ruling: Ruling, *consents: Consent, **more: Any) -> dict[str, Any]:
    """A world in which `ruling` is a hold that people said yes to; `shown`: what they were shown otherwise."""
    shown = {**more.pop("shown", {})}
    known = more.get("facts", facts())
    was = shown_of(ACTION, ASKER, ruling, known)
    return {"ruling": ruling, "subject": ASKER, "said": consents, "shown": replace(was, **shown), **more}


SMALL = replace(GRANT, budget={Quantity.BYTES: 100}, per_call={Quantity.BYTES: 2})
FILLED = replace(TOOL, hidden=frozenset(ACTION.arguments))
LOOSE = replace(facts(), unbound=("path",))
FIRM = replace(facts(), references={"path": ("sha256:" + "c" * 64,)})
OTHER = replace(FIRM, references={"path": ("sha256:" + "d" * 64,)})
FORBIDDEN = Ruling(Decision.DENY, "b", "s", Reason.FORBIDDEN, ("no",))
WAITS = replace(PERMITTED, after_upstream=True)
EMPTY_PERMIT = Ruling(Decision.PERMIT, "b", "s")
EMPTY_HOLD = Ruling(Decision.HOLD, "b", "s", Reason.NEEDS_APPROVAL, ("ask",))


@dataclass(frozen=True)
class Scenario:
    """One world, as changes to the one in which everything is permitted."""

    name: str
    changes: dict[str, Any]
    refusal: Reason | None = None
    """Why the reference says no; None where it says yes."""

    def world(self, faults: dict[int, Fault] | None = None) -> World:
        fresh = {name: list(value) if isinstance(value, list) else value for name, value in self.changes.items()}
        return World(**fresh, faults=faults or {})


SCENARIOS = [
    Scenario("permit", {}),
    Scenario("permit with a credential", {"ruling": CREDENTIALED}),
    Scenario("permit with the task's credential", {"ruling": CREDENTIALED, "lease": OF_TASK}),
    Scenario("permit with a credential that is there", {"ruling": CREDENTIALED, "lease": THERE}),
    Scenario("a credential beyond the grant", {"ruling": CREDENTIALED, "lease": BEYOND}, Reason.OUT_OF_SCOPE),
    Scenario("the tool fails", {"result": Result("no", failed=True)}),
    Scenario("the output is as much as may be", {"grant": SMALL, "result": Result("ab", used={Quantity.BYTES: 2})}),
    Scenario("the output is too much", {"grant": SMALL, "result": Result("abc", used={Quantity.BYTES: 3})}),
    Scenario("too much failed", {"grant": SMALL, "result": Result("abc", failed=True, used={Quantity.BYTES: 3})}),
    Scenario("nobody knows how much", {"grant": SMALL, "result": Result("abc", used={Quantity.ROWS: 3})}),
    Scenario("a credential came back", {"ruling": CREDENTIALED, "result": Result("key", leaked=True)}),
    Scenario("one came back in a failure", {"ruling": CREDENTIALED, "result": Result("k", failed=True, leaked=True)}),
    Scenario("gives what a credential fills in", {"tool": FILLED}, Reason.INVALID_ARGUMENTS),
    Scenario("the door does not start it", {"result": NotStarted(Reason.CANCELLED), "ruling": CREDENTIALED}),
    Scenario("the door is lost", {"result": CannotDo(), "ruling": CREDENTIALED}),
    Scenario("forbidden", {"ruling": FORBIDDEN}, Reason.FORBIDDEN),
    Scenario("held", {"ruling": HELD}, Reason.NEEDS_APPROVAL),
    Scenario("a permit that no policy gave", {"ruling": EMPTY_PERMIT}, Reason.NO_POLICY),
    Scenario("a hold for nobody", {"ruling": EMPTY_HOLD}, Reason.NOT_APPROVED),
    Scenario("approved", approved(HELD, consent())),
    Scenario("approved, with a credential", approved(replace(HELD, credential="database"), consent())),
    Scenario("approved by two of two", approved(TWO, consent(), consent(2001, "deputy"))),
    Scenario("approved by both groups", approved(BOTH, consent(), consent(2001, "security"))),
    Scenario("approved by one who is in both groups", approved(BOTH, consent(2000, "owner", "security"))),
    Scenario("approved by the asker, where that is enough", approved(ANYBODY, consent(1000))),
    Scenario("approved, and better by now", approved(HELD, consent(), shown={"labels": WORST})),
    Scenario("approved by one of two", approved(TWO, consent()), Reason.NEEDS_APPROVAL),
    Scenario("approved twice by one", approved(TWO, consent(), consent(expires_at=NOW + 2)), Reason.NEEDS_APPROVAL),
    Scenario("approved by one group of two", approved(BOTH, consent()), Reason.NEEDS_APPROVAL),
    Scenario("approved by the asker", approved(HELD, consent(1000)), Reason.NEEDS_APPROVAL),
    Scenario("approved by nobody knows whom", approved(HELD, consent(), subject=AGENT), Reason.NEEDS_APPROVAL),
    Scenario("approved by somebody else", approved(HELD, consent(2000, "guest")), Reason.NEEDS_APPROVAL),
    Scenario("approved for nobody", approved(NOBODY, consent()), Reason.NOT_APPROVED),
    Scenario("approved too long ago", approved(HELD, consent(expires_at=NOW)), Reason.APPROVAL_EXPIRED),
    Scenario("declined", approved(HELD) | {"said": Reason.NOT_APPROVED}, Reason.NOT_APPROVED),
    Scenario("approved and forbidden", approved(HELD, consent()) | {"ruling": FORBIDDEN}, Reason.FORBIDDEN),
    Scenario("its content is bound", {"facts": FIRM}),
    Scenario("its content may change", {"facts": LOOSE}, Reason.NEEDS_APPROVAL),
    Scenario(
        "its content may change, and no policy permits", {"facts": LOOSE, "ruling": EMPTY_PERMIT}, Reason.NO_POLICY
    ),
    Scenario("its content may change, and it is forbidden", {"facts": LOOSE, "ruling": FORBIDDEN}, Reason.FORBIDDEN),
    Scenario(
        "its content may change, and its owner agreed", approved(OWNERS, consent(), facts=LOOSE) | {"ruling": PERMITTED}
    ),
    Scenario(
        "its content may change, and its owner agreed, with a credential",
        approved(OWNERS, consent(), facts=LOOSE) | {"ruling": CREDENTIALED},
    ),
    Scenario(
        "its content may change, and its owner asks",
        approved(OWNERS, consent(ASKER.uid or 0), facts=LOOSE) | {"ruling": PERMITTED},
        Reason.NEEDS_APPROVAL,
    ),
    Scenario(
        "its content may change, and somebody else agreed",
        approved(OWNERS, consent(2001, "deputy"), facts=LOOSE) | {"ruling": PERMITTED},
        Reason.NEEDS_APPROVAL,
    ),
    Scenario("its content may change, and people are asked", {"facts": LOOSE, "ruling": HELD}, Reason.NEEDS_APPROVAL),
    Scenario("its content may change, and people agreed", approved(HELD, consent(), facts=LOOSE)),
    Scenario("approved with its content", approved(HELD, consent(), facts=FIRM)),
    Scenario(
        "approved with other content",
        approved(HELD, consent(), facts=FIRM, shown={"binding": binding_of(ACTION, OTHER)}),
        Reason.NEEDS_APPROVAL,
    ),
    Scenario(
        "approved with content, and it may change by now",
        approved(HELD, consent(), facts=LOOSE, shown={"binding": binding_of(ACTION, FIRM)}),
        Reason.NEEDS_APPROVAL,
    ),
    Scenario("approved and out of budget", approved(HELD, consent(), budget=0), Reason.BUDGET),
    *(
        Scenario(f"approved with another {name}", approved(HELD, consent(), shown={name: other}), Reason.NEEDS_APPROVAL)
        for name, other in {
            "task": "task-2",
            "tool": "files/read",
            "pin": "sha256:ff",
            "binding": "sha256:ff",
            "slice_digest": "other",
        }.items()
    ),
    *(
        Scenario(
            f"approved before {name} got worse",
            approved(HELD, consent(), facts=replace(facts(), **{name: now}), shown={name: shown}),
            Reason.NEEDS_APPROVAL,
        )
        for name, shown, now in (
            ("labels", CLEAN, Label(Integrity.UNTRUSTED, Confidentiality.PUBLIC)),
            ("labels", CLEAN, Label(Integrity.TRUSTED, Confidentiality.INTERNAL)),
            ("effects", frozenset({Effect.WRITE}), frozenset({Effect.WRITE, Effect.EXTERNAL})),
            ("confidence", Confidence.DECLARED, Confidence.DERIVED),
            ("reaches_own_files", False, True),
        )
    ),
    Scenario("no proof", {"subject": CannotDo(Reason.INVALID_PROOF)}, Reason.INVALID_PROOF),
    Scenario("nobody was verified", {"subject": None}, Reason.INVALID_PROOF),
    Scenario("unknown tool", {"tool": None}, Reason.UNKNOWN_TOOL),
    Scenario("quarantined tool", {"tool": CannotDo(Reason.TOOL_CHANGED)}, Reason.TOOL_CHANGED),
    Scenario("another pin", {"tool": replace(TOOL, pin="sha256:ff")}, Reason.TOOL_CHANGED),
    Scenario("another tool", {"tool": replace(TOOL, name="read")}, Reason.TOOL_CHANGED),
    Scenario("no grant", {"grant": None}, Reason.NO_GRANT),
    Scenario("another holder", {"grant": replace(GRANT, holder="local/0/thief")}, Reason.NOT_HOLDER),
    Scenario("expired", {"grant": replace(GRANT, expires_at=NOW)}, Reason.TASK_ENDED),
    Scenario("out of scope", {"grant": replace(GRANT, tools=("git/*",))}, Reason.OUT_OF_SCOPE),
    Scenario("effect out of scope", {"grant": replace(GRANT, effects=frozenset({Effect.READ}))}, Reason.OUT_OF_SCOPE),
    Scenario(
        "derived effect out of scope",
        {
            "grant": replace(GRANT, effects=frozenset({Effect.WRITE})),
            "facts": replace(facts(), effects=frozenset({Effect.DESTRUCTIVE})),
        },
        Reason.OUT_OF_SCOPE,
    ),
    Scenario("too deep", {"grant": replace(GRANT, depth=9)}, Reason.DEPTH),
    Scenario("upstream settles", {"ruling": WAITS, "upstream": [PERMITTED]}),
    Scenario("upstream settles, and asks again", {"ruling": WAITS, "upstream": [WAITS, CREDENTIALED]}),
    Scenario("upstream settles badly", {"ruling": WAITS, "upstream": [FORBIDDEN]}, Reason.FORBIDDEN),
    Scenario("upstream never settles", {"ruling": WAITS}, Reason.UPSTREAM),
    Scenario("no budget", {"budget": 0}, Reason.BUDGET),
    Scenario("stopped before it is released", {"stopped": Reason.REVOKED}, Reason.REVOKED),
    Scenario("stopped with a credential", {"stopped": Reason.SUSPENDED, "ruling": CREDENTIALED}, Reason.SUSPENDED),
]


def reference(world: World, asked: Action) -> Reason | None:
    """The whole decision in twenty lines, written from the design and not from the flow: why not, or None."""
    if isinstance(world.subject, CannotDo):
        return world.subject.reason
    if world.subject is None:
        return Reason.INVALID_PROOF
    tool, grant, refused = world.tool, world.grant, None
    if tool is None or isinstance(tool, CannotDo):
        return tool.reason if tool else Reason.UNKNOWN_TOOL
    if (tool.id, tool.pin) != (asked.tool, asked.pin):
        return Reason.TOOL_CHANGED
    if tool.hidden & set(asked.arguments):
        return Reason.INVALID_ARGUMENTS
    known = world.facts or facts(tool)
    ruling = next((said for said in [world.ruling, *world.upstream] if not said.after_upstream), None)
    if ruling and ruling.policies and ruling.decision is Decision.PERMIT and known.unbound:
        ruling = replace(ruling, decision=Decision.HOLD, approvals=(Approval(("owner",)),))
    for wrong, reason in (
        (grant is None, Reason.NO_GRANT),
        (grant and grant.holder != AGENT.id, Reason.NOT_HOLDER),
        (grant and asked.at >= grant.expires_at, Reason.TASK_ENDED),
        (grant and grant.depth > 8, Reason.DEPTH),
        (grant and grant.tools != ("*",), Reason.OUT_OF_SCOPE),
        (grant and not known.effects | tool.effects <= grant.effects, Reason.OUT_OF_SCOPE),
        (ruling is None, Reason.UPSTREAM),
        (
            ruling and ruling.decision is Decision.HOLD and (refused := _unapproved(world, ruling, asked, known)),
            refused,
        ),
        (ruling and ruling.decision is Decision.DENY, ruling and ruling.reason),
        (ruling and not ruling.policies, Reason.NO_POLICY),
        (world.budget < 1, Reason.BUDGET),
        (world.stopped is not None, world.stopped),
        (ruling and ruling.credential and world.lease is BEYOND, Reason.OUT_OF_SCOPE),
    ):
        if wrong:
            return reason
    return None


def _unapproved(world: World, ruling: Ruling, asked: Action, known: Any) -> Reason | None:
    """Why what people said does not let this hold pass."""
    groups, shown = ruling.approvals, world.shown
    if not groups or any(not group.approvers for group in groups):
        return Reason.NOT_APPROVED
    if isinstance(world.said, Reason):
        return world.said
    if not world.said or shown is None:
        return Reason.NEEDS_APPROVAL
    now = shown_of(asked, world.subject, ruling, known)
    fixed = ("task", "tool", "pin", "binding", "slice_digest")
    if any(getattr(shown, name) != getattr(now, name) for name in fixed):
        return Reason.NEEDS_APPROVAL
    if shown.labels.join(known.labels) != shown.labels or known.effects - shown.effects:
        return Reason.NEEDS_APPROVAL
    if (shown.confidence, shown.reaches_own_files) != (known.confidence, known.reaches_own_files):
        return Reason.NEEDS_APPROVAL
    persons = {"local": {one.approver.uid for one in world.said}}
    for one in world.said:
        for name in one.approver.names if world.subject.uid not in (None, one.approver.uid) else ():
            persons.setdefault(name, set()).add(one.approver.uid)
    if any(len(set().union(*(persons.get(n, set()) for n in g.approvers))) < g.quorum for g in groups):
        return Reason.NEEDS_APPROVAL
    return Reason.APPROVAL_EXPIRED if any(asked.at >= one.expires_at for one in world.said) else None


Govern = Callable[[Action], Any]


def play(govern: Govern, scenario: Scenario, faults: dict[int, Fault]) -> tuple[World, Any]:
    world = scenario.world(faults)
    return world, run(govern(ACTION), world.handlers())


def faults(steps: int, most: int = 3) -> Iterator[dict[int, Fault]]:
    """No fault, then each alone, each pair, each triple, with the step not done or its answer lost."""
    for count in range(most + 1):
        for places in combinations(range(steps), count):
            for modes in product(Fault, repeat=count):
                yield dict(zip(places, modes, strict=True))


def broken_rules(scenario: Scenario, world: World, outcome: Any) -> list[str]:
    """Which rules of core/flow.py (and which promise of design.md) this play broke."""
    expected = reference(scenario.world(), ACTION)
    checks = {
        "1 effect without a recorded permit (promises 1, 2)": _acts_before_its_permit(world),
        "2 performed something else (promise 1)": _performs_something_else(world),
        "3 performed twice (promise 3)": _count(world.asked, Perform) > 1,
        "4 performed against the reference (promise 6)": expected is not None and _count(world.asked, Perform) > 0,
        "4 issued against the reference (promise 6)": expected is not None and _count(world.asked, Issue) > 0,
        "4 wrong reason": not world.faults and expected is not None and getattr(outcome, "reason", None) != expected,
        "4 not performed though permitted": not world.faults and expected is None and not _count(world.asked, Perform),
        "4 not an outcome": not isinstance(outcome, Deny | Hold | Done | Undone),
        "5 released without a record (promise 2)": isinstance(outcome, Done) and not _recorded(world, Kind.SETTLED),
        "5 released what was not performed": isinstance(outcome, Done) and outcome.result is not world.result,
        "6 credential left alive (promise 5)": bool(world.credentials) and not _may_live(world),
        "6 credential ended that is the task's (promise 5)": not world.faults
        and _count(world.asked, Revoke) > 0
        and world.lease is not LEASE,
        "6 said to be over, and alive (promise 5)": _recorded(world, Kind.REVOKED) and bool(world.credentials),
        "1 credential without a record of it (promise 5)": _issues_unrecorded(world),
        "2 performed with another credential": any(_other_lease(world, ask) for ask in _all(world.asked, Perform)),
        "7 a hold acted (promise 7)": isinstance(outcome, Hold) and _count(world.asked, Perform, Issue) > 0,
        "7 a hold is not a hold (promise 7)": not world.faults and isinstance(outcome, Hold) != _holds(world, expected),
        "7 held though it performs": isinstance(outcome, Deny) and _count(world.done, Perform) > 0,
        "8 streams mixed": any(_misfiled(entry) for entry in world.entries),
        "8 permit not settled": _unsettled(world),
        "8 refusal not recorded": isinstance(outcome, Deny | Hold) and not _refusal_tried(world),
        "8 wrong fate": _wrong_fate(world, outcome),
        "9 budget kept": isinstance(outcome, Deny) and _kept(scenario, world),
        "9 budget not reserved (promise 4)": _count(world.asked, Perform) > 0 and _count(world.done, Reserve) != 1,
        "11 a permit does not name what approved it": any(_nameless(world, ask) for ask in _all(world.asked, Record)),
        "12 released more than one call may have": isinstance(outcome, Done) and _is_too_much(world),
        "12 withheld what one call may have": not world.faults and _is_withheld(outcome) and not _is_too_much(world),
        "13 released what holds a credential": isinstance(outcome, Done) and _is_leaked(world),
        "13 withheld what holds none": _reason(outcome) is Reason.LEAKED and not _is_leaked(world),
        "14 the permit is for other content": any(_other_content(world, ask) for ask in _all(world.asked, Perform)),
        "2 permit not durable (promise 2)": any(e.kind == Kind.PERMITTED and not e.durable for e in world.entries),
        "2 permit does not expire (promise 3)": any(_immortal(ask.permit) for ask in _all(world.asked, Perform)),
        "10 released without having been confirmed (promise 8)": _acts_unconfirmed(world),
        "10 stopped and not settled as not started": not world.faults and not _settled_as_stopped(world),
        "1 authority not looked up (promise 4)": _count(world.asked, Perform) > 0 and not _count(world.done, FindGrant),
    }
    return [rule for rule, broken in checks.items() if broken]


def _is_too_much(world: World) -> bool:
    result = world.result
    return world.grant == SMALL and isinstance(result, Result) and result.used.get(Quantity.BYTES, 3) > 2


def _other_content(world: World, ask: Any) -> bool:
    bound = (world.facts or facts()).references
    return ask.permit.refs != {f"/{name}": digest for name, (digest,) in bound.items()}


def _is_leaked(world: World) -> bool:
    return isinstance(world.result, Result) and world.result.leaked


def _reason(outcome: Any) -> Reason | None:
    return getattr(outcome, "reason", None)


def _is_withheld(outcome: Any) -> bool:
    return isinstance(outcome, Undone) and outcome.reason is Reason.BUDGET


def _all(asks: list[Any], *kinds: type) -> list[Any]:
    return [ask for ask in asks if isinstance(ask, kinds)]


def _count(asks: list[Any], *kinds: type) -> int:
    return len(_all(asks, *kinds))


def _recorded(world: World, kind: Kind) -> bool:
    return any(entry.kind == kind for entry in world.entries)


def _acts_before_its_permit(world: World) -> bool:
    """Before each Issue and Perform there must be a Record of the permit that was answered, not only asked."""
    answered = False
    for number, ask in enumerate(world.asked):
        if isinstance(ask, Record) and ask.entry.kind == Kind.PERMITTED:
            answered = number not in world.faults
        if isinstance(ask, Issue | Perform) and not answered:
            return True
    return False


def _issues_unrecorded(world: World) -> bool:
    """Before each Issue there must be the record of just this credential, answered and durable."""
    recorded: list[str] = []
    for number, ask in enumerate(world.asked):
        if isinstance(ask, Record) and ask.entry.kind == Kind.LEASED and ask.entry.durable:
            recorded += [ask.entry.id] if number not in world.faults else []
        if isinstance(ask, Issue) and ask.lease.name not in recorded:
            return True
    return False


def _may_live(world: World) -> bool:
    """A credential whose end failed is the sweep's; the task's own, once it was handed out, outlives the action."""
    handed_out = _count(world.done, Issue) > 0 and not _faulty(world, Issue)
    return _faulty(world, Revoke) or (world.lease is OF_TASK and handed_out)


def _other_lease(world: World, perform: Any) -> bool:
    if world.ruling.credential is None and not any(ruling.credential for ruling in world.upstream):
        return perform.lease is not None
    lease = world.lease
    return isinstance(lease, CannotDo) or perform.lease != replace(lease, secret=SECRET)


def _acts_unconfirmed(world: World) -> bool:
    """Before each Issue and Perform, after the permit was recorded, there must be a Confirm that was answered."""
    recorded = confirmed = False
    for number, ask in enumerate(world.asked):
        if isinstance(ask, Record) and ask.entry.kind == Kind.PERMITTED:
            recorded = True
        if isinstance(ask, Confirm):
            confirmed = recorded and number not in world.faults and world.stopped is None
        if isinstance(ask, Issue | Perform) and not confirmed:
            return True
    return False


def _settled_as_stopped(world: World) -> bool:
    """Where a permit was recorded and then stopped."""
    if world.stopped is None or not _recorded(world, Kind.PERMITTED):
        return True
    return [entry.body["fate"] for entry in world.entries if entry.kind == Kind.SETTLED] == [Fate.NOT_STARTED]


def _performs_something_else(world: World) -> bool:
    for ask in _all(world.asked, Perform):
        permit = ask.permit
        exact = (permit.tool, permit.pin, permit.digest) == (ACTION.tool, ACTION.pin, ACTION.digest)
        if ask.action is not ACTION or permit.id != ACTION.id or permit.task != ACTION.task or not exact:
            return True
    return False


def _nameless(world: World, ask: Any) -> bool:
    return ask.entry.kind == Kind.PERMITTED and ask.entry.body.get("approved_by", []) != list(world.given)


def _immortal(permit: Any) -> bool:
    return not NOW < permit.expires_at <= NOW + 60_000


def _holds(world: World, expected: Reason | None) -> bool:
    unbound = world.facts is not None and bool(world.facts.unbound)
    holds = world.ruling.decision is Decision.HOLD or (world.ruling.decision is Decision.PERMIT and unbound)
    return holds and expected is Reason.NEEDS_APPROVAL


def _faulty(world: World, *kinds: type) -> bool:
    """Did a step of these kinds go wrong?"""
    return any(isinstance(world.asked[n], kinds) for n in world.faults if n < len(world.asked))


def _misfiled(entry: Any) -> bool:
    refusal = entry.kind in (Kind.DENIED, Kind.HELD)
    return (entry.stream == Stream.DENIALS) != refusal


def _unsettled(world: World) -> bool:
    """A permit whose settlement was not even tried. (Where Tell or Record failed, it is left to the sweep.)"""
    permitted = [
        n
        for n, ask in enumerate(world.asked)
        if isinstance(ask, Record) and ask.entry.kind == Kind.PERMITTED and n not in world.faults
    ]
    tried = [ask for ask in _all(world.asked, Record) if ask.entry.kind == Kind.SETTLED]
    return bool(permitted) and not tried and not _faulty(world, Tell)


def _refusal_tried(world: World) -> bool:
    return any(isinstance(ask, Record) and ask.entry.kind in (Kind.DENIED, Kind.HELD) for ask in world.asked)


def _wrong_fate(world: World, outcome: Any) -> bool:
    """Nothing is called `not started` that may have started, nor `done` that was not."""
    fates = [entry.body["fate"] for entry in world.entries if entry.kind == Kind.SETTLED]
    started = _count(world.asked, Perform) > 0 and not isinstance(world.result, NotStarted)
    lied = started and (Fate.NOT_STARTED in fates or getattr(outcome, "fate", None) is Fate.NOT_STARTED)
    result = world.result if isinstance(world.result, Result) else None
    good = Fate.DONE in fates and (result is None or result.failed or not _count(world.done, Perform))
    bad = Fate.FAILED in fates and (result is None or not result.failed)
    idle = not world.faults and not started and any(f != Fate.NOT_STARTED for f in fates)
    return lied or good or bad or idle


def _kept(scenario: Scenario, world: World) -> bool:
    """After a denial the budget must be whole, unless the answer to Reserve or the Release itself was lost."""
    return not _faulty(world, Reserve, Release) and world.budget != scenario.world().budget
