"""Trees of tasks under every interleaving: promises 3, 4 and the state's half of 8, on the real flows.

Flows are advanced one ask at a time, in any order; an entry that has to be on disk is written in one step and answered
in a later one; tasks end in between; the process dies and what it knew is rebuilt from the log. What is held against it
is a second opinion that reads nothing but the log.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forestall.adapter.store.state import LogState, open_state
from forestall.core.action import ask_for
from forestall.core.ask import (
    Admit,
    CannotDo,
    Confirm,
    Evaluate,
    FindGrant,
    FindTool,
    Flow,
    Gather,
    NotStarted,
    Perform,
    Record,
    Release,
    Reserve,
    Tell,
    Verify,
)
from forestall.core.attenuate import narrower
from forestall.core.control import EVERYTHING, Command, Order, Reach, Target
from forestall.core.delegate import delegate
from forestall.core.effects import Confidence, Effect
from forestall.core.entry import Entry, Stream, ordered
from forestall.core.fate import Fate
from forestall.core.flow import govern
from forestall.core.grant_json import grant_from_json
from forestall.core.label import CLEAN, Confidentiality, Integrity, Label
from forestall.core.mandate import Wish
from forestall.core.model import Assurance, Facts, Grant, Mandate, Resource, Result, Subject, Tool
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.core.sweep import sweep
from forestall.core.task import EXTEND, close_task, extend, open_task
from forestall.core.wanted import DELEGATE
from forestall.port import Written
from forestall.testing.ledger import MemoryLedger
from forestall.testing.world import NOW, PERMITTED
from forestall.wire import find_grant

SECRET = Label(Integrity.UNTRUSTED, Confidentiality.SECRET)
AGENTS = {
    name: Subject(name, Assurance.LOCAL, instance=f"instance-{name}", tenant="t", trust_domain="example.org")
    for name in "abcd"
}
TOOLS = {
    "files/read": Tool("files", "read", "", frozenset({Effect.READ}), Confidence.DECLARED, output=SECRET),
    "files/write": Tool("files", "write", "", frozenset({Effect.WRITE}), Confidence.DECLARED, output=CLEAN),
}
MANDATE = Mandate(
    "m",
    "a purpose",
    ("files/*",),
    frozenset({Effect.READ, Effect.WRITE, Effect.EXTERNAL}),
    lifetime_ms=10_000,
    budget={Effect.WRITE: 3, Quantity.FAN_OUT: 3, Quantity.ROWS: 30},
    per_call={Quantity.ROWS: 8},
    resources=(Resource("files/write", "path", ("out/", "")),),
    depth=2,
)
TO_THE_END = 20
"""Steps: more than any flow has."""

STEPS = st.sampled_from([TO_THE_END, TO_THE_END, 8, 7, 6, 5, 3, 1])
PATHS = st.sampled_from(["out/a", "out/a", "out/b", "elsewhere"])
WANTS = st.just({}) | st.fixed_dictionaries(
    {},
    optional={
        "tools": st.lists(st.sampled_from(["files/*", "files/write", "*", "f*e"]), min_size=1, max_size=2),
        "effects": st.lists(st.sampled_from(["read", "write", "external", "execute"]), min_size=1, max_size=3),
        "budget": st.dictionaries(st.sampled_from(["write", "rows", "read", "fan_out"]), st.integers(0, 8), min_size=1),
        "per_call": st.dictionaries(st.just("rows"), st.integers(0, 12), min_size=1),
        "max_depth": st.integers(0, 4),
        "expires_at": st.integers(NOW, NOW + 20_000),
        "resources": st.just([{"tool": "*", "argument": "path", "value": ["out/a"]}]),
    },
)


@dataclass
class Known:
    """What the log alone says of one task."""

    grant: Grant
    parent: Known | None
    opened_at: int
    ended_at: int | None = None

    def chain(self) -> Iterator[Known]:
        one: Known | None = self
        while one is not None:
            yield one
            one = one.parent

    def lives(self, now: int) -> bool:
        return all(one.ended_at is None and now < one.grant.expires_at for one in self.chain())

    def meant(self, target: tuple[str, str]) -> bool:
        """Is an order about this meant for the task itself?"""
        reach, name = target
        agents = [agent for _, agent in self.grant.chain]
        among = {"task": [self.grant.task], "agent": agents, "user": [self.grant.user], "trust_domain": ["example.org"]}
        return reach == "everything" or name in among[reach]


@dataclass
class Reading:
    """The second opinion: the log, from its first entry to its last, by the plainest rules."""

    tasks: dict[str, Known] = field(default_factory=dict)
    permits: dict[str, tuple[Known | None, int, bool]] = field(default_factory=dict)
    """By id: its task, what it takes in rows, and whether its task had not ended."""
    settled: set[str] = field(default_factory=set)
    learnt: list[tuple[Known, Label]] = field(default_factory=list)
    orders: dict[tuple[str, str], str] = field(default_factory=dict)
    """What stands about whom."""

    def stands(self, task: Known, now: int) -> bool:
        return task.lives(now) and not any(
            order == "suspend" and one.meant(target) for target, order in self.orders.items() for one in task.chain()
        )

    def ordered(self, body: Any, index: int) -> None:
        target = (body["reach"], body["name"])
        if body["order"] == "resume":
            self.orders.pop(target, None)
        else:
            self.orders[target] = body["order"]
        for task in self.tasks.values():
            if body["order"] == "kill" and task.ended_at is None and task.meant(target):
                task.ended_at = index

    def take(self, written: Written) -> None:
        body = written.body
        getattr(self, body["kind"])(body, written.position.index)

    def opened(self, body: Any, index: int) -> None:
        grant = grant_from_json(body)
        parent = self.tasks.get(grant.parent)
        if grant.parent and (parent is None or any(one.ended_at is not None for one in parent.chain())):
            return
        task = Known(grant, parent, index)
        if not any(target[0] != "task" and task.meant(target) for target in self.orders):
            self.tasks[grant.task] = task

    def extended(self, body: Any, _index: int) -> None:
        task = self.tasks.get(body["task"])
        if task is not None:
            task.grant = replace(task.grant, expires_at=max(task.grant.expires_at, body["expires_at"]))

    def closed(self, body: Any, index: int) -> None:
        task = self.tasks.get(body["task"])
        if task is not None and task.ended_at is None:
            task.ended_at = index

    def permitted(self, body: Any, _index: int) -> None:
        task = self.tasks.get(body["task"])
        in_time = task is not None and all(one.ended_at is None for one in task.chain())
        rows = min(one.grant.per_call[Quantity.ROWS] for one in task.chain()) if task is not None else 0
        self.permits[body["id"]] = (task, rows, in_time)

    def settled_(self, body: Any) -> None:
        task, rows, in_time = self.permits[body["id"]]
        fate, used = Fate(body["fate"]), body.get("used", {})
        rows = 0 if fate is Fate.NOT_STARTED else used.get("rows", rows)
        self.permits[body["id"]] = (task, rows, in_time)
        self.settled.add(body["id"])
        if fate is not Fate.NOT_STARTED and in_time and task is not None:
            label = Label(Integrity(body["labels"]["integrity"]), Confidentiality(body["labels"]["confidentiality"]))
            self.learnt += [(one, label) for one in task.chain()]


@dataclass
class Running:
    """A flow, and what it asks for now."""

    flow: Any
    ask: Any = None
    written: Written | None = None
    outcome: Any = None

    def go(self, advance: Callable[[], Any]) -> None:
        try:
            self.ask = advance()
        except StopIteration as stop:
            self.ask, self.outcome = None, stop.value
        except CannotDo as error:
            self.ask, self.outcome = None, error


class Trees(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = MemoryLedger()
        self.state = LogState()
        self.running: list[Running] = []
        self.now = NOW
        self.count = 0

    # -- what begins

    @initialize()
    def start(self) -> None:
        self.open("a", None, TO_THE_END)
        self._delegate(self.state.open_tasks()[0], "b", {"budget": {"write": 2}}, TO_THE_END)

    @precondition(lambda self: len(self.state.open_tasks()) < 3)
    @rule(agent=st.sampled_from("abc"), lifetime=st.sampled_from([None, 2_000]), steps=STEPS)
    def open(self, agent: str, lifetime: int | None, steps: int) -> None:
        wish = Wish(lifetime_ms=lifetime, user="alice" if agent == "b" else "")
        self._begin(open_task(MANDATE, self._name(), AGENTS[agent], self.now, CLEAN, wish, salt=b"s" * 16), steps)

    @precondition(lambda self: self.state.open_tasks())
    @rule(
        data=st.data(), calls=st.lists(st.tuples(st.sampled_from(sorted(TOOLS)), PATHS, STEPS), min_size=1, max_size=4)
    )
    def act(self, data: st.DataObject, calls: list[tuple[str, str, int]]) -> None:
        grant = self._any_task(data)
        for tool, path, steps in calls:
            self._begin(govern(self._ask(tool, {"path": path}, grant)), steps)

    @precondition(lambda self: self.state.open_tasks())
    @rule(data=st.data(), wants=WANTS, steps=STEPS)
    def delegate(self, data: st.DataObject, wants: dict[str, Any], steps: int) -> None:
        parent = self._any_task(data)
        others = [name for name, agent in AGENTS.items() if agent.actor not in parent.chain]
        self._delegate(parent, data.draw(st.sampled_from([*others, *others, parent.holder])), wants, steps)

    @precondition(lambda self: self.state.open_tasks())
    @rule(data=st.data(), what=st.sampled_from(["end", "extend", "crash", "crash", "disk"]))
    def now_and_then(self, data: st.DataObject, what: str) -> None:
        match what:
            case "end":
                self._finish(Running(close_task(self._any_task(data).task, "revoked", self.now)))
            case "extend":
                until, steps = data.draw(st.integers(NOW + 2_001, NOW + 10_001)), data.draw(STEPS)
                action = self._ask(EXTEND.id, {"expires_at": until}, self._any_task(data))
                self._begin(extend(action), steps)
            case "crash":
                self._crash(by_index=data.draw(st.booleans()))
            case "disk":
                self._the_disk_refuses(data)

    @rule(data=st.data(), kind=st.sampled_from(["kill", "suspend", "resume", "resume"]), at_once=st.booleans())
    def order(self, data: st.DataObject, kind: str, at_once: bool) -> None:
        targets = [Target(Reach.TASK, grant.task) for grant in self.state.open_tasks()]
        targets += [Target(Reach.AGENT, name, "example.org", "t") for name in "abcd"]
        targets += [Target(Reach.USER, "alice", tenant="t"), Target(Reach.TRUST_DOMAIN, "example.org", tenant="t")]
        if kind == "resume":
            standing = self._reading().orders
            targets = [target for target in targets if (target.reach.value, target.name) in standing] or [EVERYTHING]
        command = Command(Order(kind), data.draw(st.sampled_from([*targets, EVERYTHING])), "because", "uid/0")
        self._begin(_record(ordered(command, self._name(), self.now)), TO_THE_END if at_once else 1)

    # -- how it goes on

    @precondition(lambda self: self.running)
    @rule(data=st.data(), steps=STEPS)
    def step(self, data: st.DataObject, steps: int) -> None:
        one = data.draw(st.sampled_from(self.running))
        self._steps(one, steps)

    @rule(ms=st.sampled_from([1, 900, 2_000]))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    def teardown(self) -> None:
        self._crash(by_index=True)

    # -- what always holds

    @invariant()
    def a_permit_stands_only_while_its_task_and_all_above_it_live(self) -> None:
        reading = self._reading()
        extending = self._unheard("extended")
        ordering = self._unheard("ordered")
        for permit in self.state.unsettled():
            task, _, _ = reading.permits[permit.id]
            lives = task is not None and reading.stands(task, self.now) and self.now < permit.expires_at
            stands = self.state.stands(permit.id, self.now)
            assert stands is lives or (extending and not stands) or ordering

    @invariant()
    def once_an_order_is_acknowledged_what_it_is_against_is_stopped(self) -> None:
        if self._unheard("ordered"):
            return
        reading = self._reading()
        for grant in self.state.open_tasks():
            task = reading.tasks.get(grant.task)
            assert task is not None
            stopped = self.state.stopped(grant.task)
            assert (stopped is None) is (reading.stands(task, NOW) or not task.lives(NOW))

    @invariant()
    def authority_only_shrinks(self) -> None:
        for task in self._reading().tasks.values():
            if task.parent is not None:
                child, parent = task.grant, task.parent.grant
                assert child.effects <= parent.effects
                assert child.resources[: len(parent.resources)] == parent.resources
                assert parent.depth < child.depth <= child.max_depth <= parent.max_depth
                assert child.expires_at <= parent.expires_at
                assert len({*child.chain}) == len(child.chain) == child.depth + 1
                assert all(child.budget[each] <= limit for each, limit in parent.budget.items())
                assert narrower(child, parent)

    @invariant()
    def no_tree_and_no_part_of_one_spends_more_than_it_has(self) -> None:
        reading = self._reading()
        for top in reading.tasks.values():
            inside = [one for one in reading.permits.items() if one[1][0] is not None and top in one[1][0].chain()]
            writes = sum(self._tool(name) == "files/write" for name, _ in inside)
            below = sum(top in one.chain() for one in reading.tasks.values()) - 1
            assert writes <= top.grant.budget[Effect.WRITE]
            assert sum(rows for _, (_, rows, _) in inside) <= top.grant.budget[Quantity.ROWS]
            assert below <= top.grant.budget[Quantity.FAN_OUT]

    @invariant()
    def what_is_learnt_is_known_above_and_in_every_task_of_the_instance(self) -> None:
        learnt = self._reading().learnt
        for grant in self.state.open_tasks():
            for known, label in learnt:
                if known.grant.task == grant.task or known.grant.instance == grant.instance:
                    assert label.may_flow(self.state.labels(grant.task))

    # -- inside

    def _crash(self, *, by_index: bool) -> None:
        """Everything that was written is known again, as it was; nothing else is."""
        for one in self.running:
            if one.written is not None:
                self.state.apply(one.written)
        self.running = []
        rebuilt = self._by_index() if by_index else self._by_replay()
        assert picture(rebuilt, self.now) == picture(self.state, self.now)
        self.state = rebuilt
        self._finish(Running(sweep(self.state.unsettled(), self.now)))

    def _the_disk_refuses(self, data: st.DataObject) -> None:
        waiting = [one for one in self.running if isinstance(one.ask, Record) and one.written is None]
        if waiting:
            one = data.draw(st.sampled_from(waiting))
            one.go(lambda: one.flow.throw(CannotDo()))
            self._drop_finished()

    def _unheard(self, kind: str) -> bool:
        """Is an entry of this kind in the log, and not in the state?"""
        return any(one.written is not None and one.written.body["kind"] == kind for one in self.running)

    def _name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def _any_task(self, data: st.DataObject) -> Grant:
        """The deepest first."""
        return data.draw(st.sampled_from(sorted(self.state.open_tasks(), key=lambda grant: -grant.depth)))

    def _ask(self, tool: str, arguments: dict[str, Any], grant: Grant) -> Any:
        proof = AGENTS[grant.holder]
        name, salt = f"{self._name()} {tool}", b"salt" * 4
        return ask_for(tool, arguments, action_id=name, task=grant.task, pin="", salt=salt, at=self.now, proof=proof)

    @staticmethod
    def _tool(name: str) -> str:
        return name.split(" ")[1]

    def _delegate(self, parent: Grant, to: str, wants: dict[str, Any], steps: int) -> None:
        action = self._ask(DELEGATE.id, {"to": to, **wants}, parent)
        self._begin(delegate(action, AGENTS[to], self._name()), steps)

    def _begin(self, flow: Any, steps: int) -> None:
        one = Running(flow)
        one.go(lambda: flow.send(None))
        self.running.append(one)
        self._steps(one, steps)
        self._drop_finished()

    def _steps(self, one: Running, steps: int) -> None:
        for _ in range(steps):
            if one.ask is not None:
                self._step(one)

    def _finish(self, one: Running) -> None:
        one.go(lambda: one.flow.send(None))
        while one.ask is not None:
            self._step(one)

    def _drop_finished(self) -> None:
        self.running = [one for one in self.running if one.ask is not None]

    def _step(self, one: Running) -> None:
        if isinstance(one.ask, Record) and one.ask.entry.stream is Stream.PERMITS and one.written is None:
            position = self.ledger.append(one.ask.entry)
            one.written = next(self.ledger.read(position.stream, position.index))
            if one.ask.entry.durable:
                return  # somebody else goes on while the disk is busy
        try:
            answer = self._answer(one)
        except CannotDo as error:
            failure = error
            one.go(lambda: one.flow.throw(failure))
        else:
            one.go(lambda: one.flow.send(answer))
        if isinstance(one.ask, Perform):
            self._step(one)  # nobody comes in between: what is confirmed is released in the same breath
        self._drop_finished()

    def _answer(self, one: Running) -> Any:
        match one.ask:
            case Verify():
                return one.ask.proof
            case FindTool():
                return TOOLS[one.ask.tool]
            case FindGrant():
                return find_grant(self.state, one.ask.task)
            case Admit():
                return self.state.barred(one.ask.subject, one.ask.user)
            case Confirm():
                return self._confirm(one.ask)
            case Gather():
                labels = self.state.labels(one.ask.action.task)
                return Facts(labels, one.ask.tool.effects, Confidence.DECLARED, reaches_own_files=False)
            case Evaluate():
                return PERMITTED
            case Reserve():
                return self.state.reserve(one.ask.grant, one.ask.effects)
            case Release():
                return self.state.release(one.ask.grant, one.ask.effects)
            case Record():
                if one.written is not None:
                    written, one.written = one.written, None
                    if one.ask.entry.durable:
                        self._hear_orders_before(written)
                    self.state.apply(written)
                return None
            case Perform():
                return self._perform(one.ask)
            case Tell():
                return self.now
        raise AssertionError(one.ask)

    def _hear_orders_before(self, written: Written) -> None:
        """What waits for the disk is heard of in the order of the log, as far as orders go."""
        unheard = [one.written for one in self.running if one.written is not None]
        for order in sorted(unheard, key=lambda one: one.position.index):
            if order.body["kind"] == "ordered" and order.position.index < written.position.index:
                self.state.apply(order)

    def _confirm(self, ask: Confirm) -> Reason | None:
        if self.state.stands(ask.permit.id, self.now):
            return None
        return self.state.stopped(ask.permit.task) or Reason.TASK_ENDED

    def _perform(self, ask: Perform) -> Result:
        """As an enforcement point does: no more than one call may use. Promise 8: it only ever sees what stands."""
        if self.now >= ask.permit.expires_at:
            raise NotStarted
        reading = self._reading()
        task, most, in_time = reading.permits[ask.permit.id]
        assert task is not None
        assert (in_time and reading.stands(task, self.now)) or self._unheard("ordered"), "not acknowledged yet"
        assert ask.action.arguments["path"].startswith("out/") or ask.action.tool == "files/read"
        self.count += 1
        return Result("out", used={Quantity.ROWS: min(self.count % 3, most)} if self.count % 2 else {})

    def _reading(self) -> Reading:
        reading = Reading()
        for written in self.ledger.read(Stream.PERMITS):
            if written.body["kind"] == "settled":
                reading.settled_(written.body)
            else:
                reading.take(written)
        return reading

    def _by_replay(self) -> LogState:
        state = LogState()
        for written in self.ledger.read(Stream.PERMITS):
            state.apply(written)
        return state

    def _by_index(self) -> LogState:
        """By way of an index that was written when half of the log was there."""
        entries = list(self.ledger.read(Stream.PERMITS))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.sqlite"
            half = open_state(path, MemoryLedger())
            for written in entries[: len(entries) // 2]:
                half.apply(written)
            half.close()
            state = open_state(path, self.ledger)
            assert state.fault == ""
            state.close()
            return state


def _record(entry: Entry) -> Flow[None]:
    yield Record(entry)


def picture(state: LogState, now: int) -> object:
    """What of a state decides anything from here on."""
    open_ = {grant.task: grant for grant in state.open_tasks()}
    return (
        open_,
        {name: state.labels(name) for name in open_},
        {name: _left(state, name) for name in open_},
        dict(state._trees.instances),
        {permit.id: (permit, state.stands(permit.id, now)) for permit in state.unsettled()},
        state.applied(Stream.PERMITS),
        state.epoch,
        {name: state.stopped(name) for name in open_},
        [state.barred(agent, user) for agent in AGENTS.values() for user in ("", "alice")],
    )


def _left(state: LogState, name: str) -> dict[Any, int]:
    account = state._trees.tasks[name].account
    return {each: limit - account.spent.get(each, 0) for each, limit in account.budget.items()}


TestTrees = Trees.TestCase
TestTrees.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
