"""Random trees of tasks, races and faults on a whole decision point: promises 3, 4, 6 and 8 of design.md.

Everything that decides is the real thing: policy in Cedar, the ledger on a file, the state, the flows, and the driver.
Flows go on one at a time, in any order; the disk is slow, full or broken; the clock is set back; the process is
restarted. What was done is held against `model.py`, which knows what callers were told and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forestall import wire
from forestall.core.action import ask_for
from forestall.core.ask import CannotDo, NotStarted, Perform, Record
from forestall.core.control import Command, Order, Reach
from forestall.core.control import Target as RealTarget
from forestall.core.delegate import delegate
from forestall.core.errors import SetupError
from forestall.core.fate import Fate
from forestall.core.flow import govern
from forestall.core.label import CLEAN
from forestall.core.mandate import Wish
from forestall.core.model import Action, Deny, Done, Grant, Hold, Permit, Result, Undone
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.core.task import EXTEND, close_task, extend, open_task
from forestall.core.wanted import DELEGATE
from tests.controls.room import EFFECTS, pin
from tests.property.whole.model import EVERYTHING, Model, Target, allows
from tests.property.whole.point import AGENTS, POLICIES, SLOW, START, Point, Running

LONGEST_MS = 10_000
"""How long after it was asked for a call may still start: what threat-model.md says."""

STEPS = st.sampled_from([0, 1, 1, 2, 9])
"""How far a flow goes before others do."""

PATHS = ("out/a", "out/a", "out/a", "out/b", "other", "out/../x")
TOOLS = ("write", "look", "read")
USERS = ("", "alice", "bob")
SLOWLY = st.frozensets(st.sampled_from(SLOW), max_size=2)
ORDERS = st.sampled_from(["kill", "suspend", "suspend", "close"])
REACHES = st.sampled_from(["task", "task", "agent", "agent", "user", "trust_domain", "everything"])
INDEXES = st.sampled_from(["kept", "kept", "gone", "old"])
WANTED = st.fixed_dictionaries(
    {},
    optional={
        "tools": st.lists(st.sampled_from(["files/*", "files/write", "files/look", "*", "f*"]), min_size=1, max_size=2),
        "effects": st.lists(st.sampled_from(["read", "write", "external", "execute"]), min_size=1, max_size=3),
        "budget": st.dictionaries(
            st.sampled_from(["write", "write", "rows", "fan_out"]), st.integers(1, 6), min_size=1
        ),
        "per_call": st.dictionaries(st.just("rows"), st.integers(0, 9), min_size=1),
        "max_depth": st.integers(0, 5),
        "expires_at": st.integers(START, START + 90_000),
        "resources": st.sampled_from(
            [
                [{"tool": "*", "argument": "path", "value": ["out/a"]}],
                [{"tool": "files/write", "argument": "path", "value": ["", ""]}],
            ]
        ),
    },
)


class Whole(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.running: list[Running] = []
        self.ordering: list[tuple[str, Target, list[Running], asyncio.Future[Any]]] = []
        """Orders that were given and not acknowledged: what, about whom, and which tasks were being opened before."""
        self.permits: dict[str, Permit] = {}
        self.asked: dict[str, dict[str, Any]] = {}
        """What is known of each call that was asked for."""
        self.count = 0
        self.frozen_at = -1
        """From which call on nothing may be written, by policy; -1: it may."""
        self.doubtful = False
        """Did something fail of which nobody knows whether it is in force? Then refusals need not be explained."""
        self.told_time = 0
        self.broken: list[AssertionError] = []
        """What was seen where a flow would take it for a failure of its own."""
        self.point = Point(self._acts, self._confirms)

    # -- what agents ask for

    @initialize(
        user=st.sampled_from(USERS), hops=st.sampled_from(["bc", "bc", "b", "bcd", ""]), writes=st.integers(1, 3)
    )
    def start(self, user: str, hops: str, writes: int) -> None:
        """A chain, the first of whom may write three times."""
        self.open("a", user, 30_000, finish=True)
        for to in hops:
            self._hand_on(max(self.model.tasks), to, {"budget": {"write": writes}} if to == "b" else {}, finish=True)

    @precondition(lambda self: len(self.model.tasks) < 9)
    @rule(
        agent=st.sampled_from("aabe"),
        user=st.sampled_from(USERS),
        ms=st.sampled_from([None, None, 20_000]),
        finish=st.booleans(),
    )
    def open(self, agent: str, user: str, ms: int | None, finish: bool) -> None:
        name = self._name()
        mandate = self.point.parts.rules.mandates["default"]
        flow = open_task(mandate, name, AGENTS[agent], self.now, CLEAN, Wish(user=user, lifetime_ms=ms), salt=b"s" * 16)
        about = {"does": "open", "task": name, "holder": AGENTS[agent].actor, "user": user, "parent": ""}
        self._steps(self._begin(flow, about), 9 * finish)

    @precondition(lambda self: self._live() and len(self.model.tasks) < 9)
    @rule(data=st.data(), to=st.sampled_from("abbccdde"), wanted=st.just({}) | WANTED, finish=st.booleans())
    def delegate(self, data: st.DataObject, to: str, wanted: dict[str, Any], finish: bool) -> None:
        self._hand_on(self._task(data), to, wanted, finish=finish)

    def _hand_on(self, parent: str, to: str, wanted: dict[str, Any], *, finish: bool) -> None:
        name = self._name()
        action = self._ask(DELEGATE.id, {"to": to, **wanted}, parent)
        user = self.model.tasks[parent]["grant"].user
        about = {"does": "open", "task": name, "holder": AGENTS[to].actor, "user": user, "parent": parent}
        self._steps(self._begin(delegate(action, to, name), about), 9 * finish)

    @precondition(lambda self: self._live())
    @rule(
        data=st.data(),
        calls=st.lists(
            st.tuples(st.sampled_from(TOOLS), st.sampled_from(PATHS), SLOWLY, STEPS), min_size=1, max_size=4
        ),
    )
    def call(self, data: st.DataObject, calls: list[Any]) -> None:
        task = self._task(data)
        for tool, path, slow, steps in calls:
            self._steps(self._call(task, tool, path, slow=slow), steps)

    @rule(
        data=st.data(),
        tool=st.sampled_from(sorted(EFFECTS)),
        path=st.sampled_from(("out/a", "other", "out/../x")),
        wrong=st.sampled_from(["task", "other", "nobody", "pin", ""]),
    )
    def call_wrongly(self, data: st.DataObject, tool: str, path: str, wrong: str) -> None:
        """In a task that has ended, by another agent or nobody, of a tool that changed; or not at all wrongly."""
        task = data.draw(st.sampled_from(sorted(self.model.tasks))) if wrong == "task" or not self._live() else ""
        self._steps(self._call(task or self._task(data), tool, path, wrong=wrong), 9)

    def _call(
        self, task: str, tool: str, path: str, *, wrong: str = "", slow: frozenset[type] = frozenset()
    ) -> Running:
        by = wrong if wrong in ("other", "nobody") else "holder"
        action = self._ask(f"files/{tool}", {"path": path}, task, by=by, pin=pin("list" if wrong == "pin" else tool))
        about = {"does": "call", "task": task, "tool": tool, "path": path, "number": self.count, "id": action.id}
        self.asked[action.id] = {**about, "honest": wrong in ("", "task"), "action": action}
        return self._begin(govern(action), about, slow)

    # -- how that goes on

    @precondition(lambda self: self._ready())
    @rule(data=st.data(), steps=STEPS)
    def go_on(self, data: st.DataObject, steps: int) -> None:
        self._steps(data.draw(st.sampled_from(self._ready())), max(1, steps))

    @precondition(lambda self: self._performing())
    @rule(data=st.data(), how=st.sampled_from(["done", "done", "failed", "not started", "lost", "cancelled"]))
    def report(self, data: st.DataObject, how: str) -> None:
        """The enforcement point says how it went, or its answer is lost."""
        one = data.draw(st.sampled_from(self._performing()))
        act = self.model.acts[one.what["id"]]
        answer = one.waiting
        assert answer is not None
        match how:
            case "lost":
                answer.set_exception(CannotDo(Reason.UNAVAILABLE))
            case "not started":
                answer.set_exception(NotStarted(Reason.CANCELLED))
                act["rows"] = 0
            case "cancelled":
                one.drive.stop(asyncio.CancelledError())
                answer.cancel()
            case _:
                act["rows"] = self.count % (act["rows"] + 1)
                answer.set_result(Result("", failed=how == "failed", used={Quantity.ROWS: act["rows"]}))
        self._step(one)

    # -- what is ordered

    @precondition(lambda self: self._live())
    @rule(data=st.data(), order=ORDERS, reach=REACHES)
    def stop(self, data: st.DataObject, order: str, reach: str) -> None:
        self._stop(data, self._task(data), order, reach)

    @precondition(lambda self: self._live())
    @rule(
        data=st.data(),
        calls=st.lists(st.tuples(st.sampled_from(TOOLS), SLOWLY), min_size=1, max_size=3),
        order=ORDERS,
        reach=REACHES,
        slow_disk=st.booleans(),
        then=st.sampled_from(["", "restart", "restart", "resume"]),
    )
    def race(self, data: st.DataObject, calls: list[Any], order: str, reach: str, slow_disk: bool, then: str) -> None:
        """Calls, and an order that is given while they are decided; then they go on, whichever comes first."""
        task = self._task(data)
        self.point.disk.held |= slow_disk
        for tool, slow in calls:
            self._steps(self._call(task, tool, "out/a", slow=slow), data.draw(st.integers(0, 1)))
        self._stop(data, task, order, reach)
        if slow_disk:
            self.the_disk_goes_on()
        if then == "restart":
            self._restart(data.draw(INDEXES))
        if then == "resume" and self.model.orders:
            self.resume(data)
        for one in data.draw(st.permutations(self._ready())):
            self._steps(one, 9)
        if not self.point.disk.held:
            self._steps(self._call(task, "look", "out/a"), 9)

    def _stop(self, data: st.DataObject, name: str, order: str, reach: str) -> None:
        if order == "close":
            self._begin(close_task(name, "completed", self.now), {"does": "close", "task": name})
            return
        above = self.model.tasks[data.draw(st.sampled_from(list(self.model.chain(name))))]
        targets = self.model.meant(above["holder"], above["grant"].user, above["grant"].task)
        self._order(order, next((one for one in sorted(targets) if one[0] == reach), EVERYTHING))

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self._order("resume", data.draw(st.sampled_from(sorted(self.model.orders))))

    # -- what goes wrong

    @precondition(lambda self: not self.point.disk.held)
    @rule(what=st.sampled_from(["slow", "slow", "full", "breaks"]))
    def the_disk_is(self, what: str) -> None:
        match what:
            case "slow":
                self.point.disk.held = True
            case "full":
                self.point.disk.full = True
            case "breaks":
                self.point.disk.breaks = True

    @precondition(lambda self: self.point.disk.held)
    @rule()
    def the_disk_goes_on(self) -> None:
        self.point.the_disk_goes_on(self._on_the_disk())
        self._hear()

    @rule(
        data=st.data(),
        what=st.sampled_from(["time", "time", "restart", "policy", "house", "extend", "extend", "alone", "alone"]),
    )
    def now_and_then(self, data: st.DataObject, what: str) -> None:
        match what:
            case "time":
                self._time_passes(
                    data.draw(st.sampled_from([1, 4_000, 11_000])), data.draw(st.sampled_from([0, 60_000]))
                )
            case "restart":
                self._restart(data.draw(INDEXES))
            case "policy":
                self._reload(data.draw(st.sampled_from(sorted(POLICIES))))
            case "house":
                self.point.keep_house()
            case "extend" if self._live():
                self._extend(
                    self._task(data), data.draw(st.sampled_from([START + 30_000, self.now + 25_000, 2 * START]))
                )
            case "alone" if self.running:  # whoever asked waits no more
                data.draw(st.sampled_from(self.running)).drive.stop(asyncio.CancelledError())

    def _extend(self, task: str, until: int) -> None:
        action = self._ask(EXTEND.id, {"expires_at": until}, task)
        self.model.perhaps[action.id] = (task, until)
        self._begin(extend(action), {"does": "extend", "task": task, "id": action.id})

    def _time_passes(self, ms: int, back: int) -> None:
        """`back`: the machine's clock is set back as well."""
        self.point.steady += ms
        self.point.wall += ms - back

    def _restart(self, index: str) -> None:
        self.doubtful |= any(one.what["does"] != "call" for one in self.running)
        self.point.the_disk_goes_on(self._on_the_disk())
        self._hear()
        for one in self.running:
            if one.what.get("id") in self.model.acts:
                self.model.acts[one.what["id"]]["over"] = True
            if one.waiting is not None and one.waiting.done():
                one.waiting.exception()  # nobody will ask for it any more
        self.running = []
        self.point.restart(index)
        self.told_time = 0

    def _reload(self, policy: str) -> None:
        self.point.write_policy(policy)
        if policy == "broken":
            with pytest.raises(SetupError):
                self.point.parts.reload()
            self.point.write_policy("all" if self.frozen_at < 0 else "reads")
            return
        self.point.parts.reload()
        if policy == "all":
            self.frozen_at = -1
        elif self.frozen_at < 0:
            self.frozen_at = self.count

    @precondition(lambda self: not self.running and not self.point.disk.held and not self.ordering)
    @rule(data=st.data(), tool=st.sampled_from(["look", "read", "write"]))
    def nothing_more_is_refused_than_has_to_be(self, data: st.DataObject, tool: str) -> None:
        disk = self.point.disk
        if self.doubtful or disk.full or disk.breaks or disk.broken:
            return
        one = self._call(data.draw(st.sampled_from(sorted(self.model.tasks))), tool, "out/a")
        asked = self.asked[one.what["id"]]
        expected = self.model.may(asked["task"], self.now) and self._in_scope(asked)
        self._finish(one)
        assert isinstance(one.outcome, Done) is expected or _reason(one.outcome) is Reason.BUDGET, one.outcome

    # -- what always holds

    @invariant()
    def time_never_steps_back(self) -> None:
        assert self.now >= self.told_time
        self.told_time = self.now

    @invariant()
    def promise_8_no_permit_stands_that_should_not(self) -> None:
        for permit in self.permits.values():
            if wire.confirm(self.point.parts, permit) is None:
                self._confirmed(permit)

    @invariant()
    def promise_4_authority_only_shrinks(self) -> None:
        for name, task in self.model.tasks.items():
            grant = task["grant"]
            if grant.parent:
                above = self.model.tasks[grant.parent]["grant"]
                for tool, path in ((tool, path) for tool in EFFECTS for path in set(PATHS)):
                    call = (f"files/{tool}", set(EFFECTS[tool]), path)
                    assert not allows(grant, *call) or allows(above, *call), (name, call)
                assert task["until"] <= self.model.until(grant.parent)
                assert above.depth < grant.depth <= grant.max_depth <= above.max_depth
                assert len(set(grant.chain)) == grant.depth + 1
            for each, limit in grant.budget.items():
                assert self.model.spent(name, each.value) <= limit, (name, each)

    def teardown(self) -> None:
        self.point.close()

    # -- what is held against the model when something is said or done

    def _confirmed(self, permit: Permit) -> None:
        asked, act = self.asked[permit.id], self.model.acts.get(permit.id)
        assert self.model.may(asked["task"], self.now), (asked, self.model.orders)
        assert self.now < asked["action"].at + LONGEST_MS, asked
        assert act is None or not act["over"], asked

    def _confirms(self, permit: Permit) -> None:
        with self._seen():
            self._confirmed(permit)

    def _acts(self, permit: Permit, action: Action) -> None:
        with self._seen():
            asked = self.asked[permit.id]
            assert permit.id not in self.model.acts, "it acts twice"
            assert action is asked["action"]
            assert (permit.tool, permit.pin, permit.digest) == (action.tool, action.pin, action.digest)
            assert asked["honest"], asked
            assert self._in_scope(asked), asked
            self._confirmed(permit)
            assert self.point.has_recorded(permit.id)
            self.permits[permit.id] = permit
            chain = [self.model.tasks[one]["grant"] for one in self.model.chain(asked["task"])]
            rows = min(grant.per_call[Quantity.ROWS] for grant in chain)
            effects = EFFECTS[asked["tool"]]
            self.model.acts[permit.id] = {"task": asked["task"], "effects": effects, "rows": rows, "over": False}

    @contextmanager
    def _seen(self) -> Iterator[None]:
        """A handler's failure is a refusal, whatever failed: what is wrong here must not get lost in that."""
        try:
            yield
        except AssertionError as error:
            self.broken.append(error)
            raise

    def _in_scope(self, asked: dict[str, Any]) -> bool:
        """By the grants of its whole chain, and by the policy that stood when it was asked for."""
        tool, path = asked["tool"], asked["path"]
        frozen = 0 <= self.frozen_at < asked["number"]
        permitted = tool in ("look", "read") or (tool == "write" and not frozen and ".." not in path)
        return permitted and self.model.covers(asked["task"], f"files/{tool}", set(EFFECTS[tool]), path)

    def _came_to(self, what: dict[str, Any], outcome: Any) -> None:
        """Promise 6: it was done, or it was refused for a reason, and then nothing was done."""
        reason = _reason(outcome)
        unknown = reason in {Reason.UNAVAILABLE, Reason.CANCELLED}
        match what["does"], outcome:
            case "call", Done():
                self.model.acts[what["id"]]["over"] = True
            case "call", Undone():
                if what["id"] in self.model.acts:
                    self.model.acts[what["id"]]["over"] = "not recorded" not in outcome.detail
                else:
                    assert outcome.fate is Fate.NOT_STARTED
            case "call", Deny() | Hold():
                assert what["id"] not in self.model.acts
            case "call", asyncio.CancelledError():
                pass
            case "open", Grant():
                self._opened(what, outcome)
            case "extend", Grant():
                task = self.model.tasks[what["task"]]
                task["until"] = max(task["until"], outcome.expires_at)
                del self.model.perhaps[what["id"]]
            case "close", None:
                self.model.tasks[what["task"]]["over"] = True
            case "extend", _ if not unknown:
                del self.model.perhaps[what["id"]]
            case _:
                self.doubtful |= unknown
        assert reason is None or isinstance(reason, Reason)
        assert reason is not None or isinstance(outcome, Done | Grant) or (what["does"], outcome) == ("close", None)

    def _opened(self, what: dict[str, Any], grant: Grant) -> None:
        assert not what["doomed"], "it was opened before a kill that was acknowledged meanwhile"
        assert not self.model.barred(what["holder"], what["user"])
        assert not grant.parent or not self.model.stopped(grant.parent)
        assert (grant.trust_domain, grant.holder) == what["holder"]
        assert (grant.task, grant.parent, grant.user) == (what["task"], what["parent"], what["user"])
        self.model.told(grant)

    # -- how flows and orders go on

    def _begin(self, flow: Any, what: dict[str, Any], slow: frozenset[type] = frozenset()) -> Running:
        one = self.point.begin(flow, {**what, "doomed": False}, slow)
        self.running.append(one)
        self._look(one)
        return one

    def _step(self, one: Running) -> None:
        self.point.on(one)
        self._look(one)

    def _look(self, one: Running) -> None:
        if self.broken:
            raise self.broken[0]
        if one.waiting is None:
            self.running.remove(one)
            self._came_to(one.what, one.outcome)

    def _steps(self, one: Running, steps: int) -> None:
        for _ in range(steps):
            if one in self._ready():
                self._step(one)

    def _finish(self, one: Running) -> None:
        while one.waiting is not None and (one.waiting.done() or isinstance(one.drive.ask, Perform)):
            if not one.waiting.done():
                one.waiting.set_result(Result("", used={Quantity.ROWS: 1}))
                self.model.acts[one.what["id"]]["rows"] = 1
            self._step(one)

    def _ready(self) -> list[Running]:
        return [one for one in self.running if one.waiting is not None and one.waiting.done()]

    def _performing(self) -> list[Running]:
        return [one for one in self.running if one not in self._ready() and isinstance(one.drive.ask, Perform)]

    def _on_the_disk(self) -> list[asyncio.Future[Any]]:
        records = [one.waiting for one in self.running if isinstance(one.drive.ask, Record)]
        answers = [answer for *_, answer in self.ordering]
        return [one for one in (*records, *answers) if one is not None and not one.done()]

    def _order(self, order: str, target: Target) -> None:
        reach, domain, name = target
        command = Command(Order(order), RealTarget(Reach(reach), name, domain), "because", "uid/0")
        before = [one for one in self.running if one.what["does"] == "open"]
        if order == "resume":  # from now on it may have been taken in
            self.model.ordered(order, target)
        self.ordering.append((order, target, before, self.point.order(command)))
        self._hear()

    def _hear(self) -> None:
        """Of the orders that were acknowledged by now."""
        for order, target, before, answer in [one for one in self.ordering if one[-1].done()]:
            if order == "resume" or answer.exception() is None:
                self.model.ordered(order, target)
            self.doubtful |= answer.exception() is not None
            for one in before:
                meant = target in self.model.meant(one.what["holder"], one.what["user"])
                one.what["doomed"] |= order == "kill" and meant and answer.exception() is None
        self.ordering = [one for one in self.ordering if not one[-1].done()]

    # -- what to choose from

    @property
    def now(self) -> int:
        return self.point.now

    def _name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def _live(self) -> list[str]:
        return [name for name in self.model.tasks if self.model.may(name, self.now)]

    def _task(self, data: st.DataObject) -> str:
        """One that lives, the deepest first."""
        return data.draw(st.sampled_from(sorted(self._live(), key=lambda name: -self.model.tasks[name]["grant"].depth)))

    def _ask(self, tool: str, arguments: dict[str, Any], task: str, *, by: str = "holder", pin: str = "") -> Action:
        holder = self.model.tasks[task]["holder"][1]
        other = next(name for name in AGENTS if name != holder)
        proof = {"holder": holder, "other": other, "nobody": "mallory"}[by]
        name, salt = self._name(), b"salt" * 4
        return ask_for(tool, arguments, action_id=name, task=task, pin=pin, salt=salt, at=self.now, proof=proof)


def _reason(outcome: Any) -> Any:
    if isinstance(outcome, asyncio.CancelledError):
        return Reason.CANCELLED
    return getattr(outcome, "reason", None)
