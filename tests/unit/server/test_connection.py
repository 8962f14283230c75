"""One connection, whatever comes in whatever order: each call gets one answer, and each permit one end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.core.control import Command, Order, Reach, Target
from forestall.core.entry import Kind, Stream, opened
from forestall.core.flow import PERMIT_LIFETIME_MS
from forestall.core.reason import Reason
from forestall.core.runaway import Pace
from forestall.frame import encode
from forestall.home import Home
from forestall.server.connection import Connection
from forestall.wire import order, record_blocking
from tests.points import SERVER, entries, make_home, pin
from tests.unit.server.hand import Hand, fire, play, write_file

ANSWERS = {"permit", "deny", "hold"}
SCENARIOS: dict[str, Callable[[Hand], Awaitable[None]]] = {}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def scenario(test: Callable[[Hand], Awaitable[None]]) -> Callable[[Hand], Awaitable[None]]:
    SCENARIOS[test.__name__] = test
    return test


def fates(hand: Hand) -> list[str]:
    return [entry["fate"] for entry in entries(hand.home) if entry["kind"] == "settled"]


def refusals(hand: Hand) -> list[str]:
    return [entry["reason"] for entry in entries(hand.home, Stream.DENIALS)]


async def permitted(hand: Hand, connection: Connection, number: int = 1) -> tuple[Any, str]:
    """A call whose permit is out."""
    pending = await hand.ask(connection, number)
    answer = hand.sent(connection)[-1]
    assert answer["type"] == "permit"
    assert hand.point.undecided == hand.undecided() == 0
    return pending, answer["permit"]["id"]


async def being_written(hand: Hand, connection: Connection, number: int = 1) -> Any:
    """A call whose permit is on its way to the disk."""
    hand.disk.holds = True
    pending = await hand.ask(connection, number)
    assert [entry.kind for entry, *_ in hand.disk.waiting] == ["permitted"]
    assert hand.point.undecided == 1
    return pending


@scenario
async def a_permit_is_sent_when_it_is_written_and_not_before(hand: Hand) -> None:
    connection = await hand.connect()
    await being_written(hand, connection)
    assert [frame["type"] for frame in hand.sent(connection)] == ["welcome"]
    hand.disk.answer(0)
    await hand.rest()
    assert hand.sent(connection)[-1]["type"] == "permit"
    assert hand.point.undecided == 0


@scenario
async def a_permit_that_cannot_be_written_is_a_denial(hand: Hand) -> None:
    connection = await hand.connect()
    await being_written(hand, connection)
    hand.disk.answer(0, fails=True)
    await hand.rest()
    assert hand.sent(connection)[-1]["decision"]["reason"] == "unavailable"
    assert hand.point.undecided == 0
    assert connection.running == []
    assert refusals(hand) == ["unavailable"]


@scenario
async def a_second_report_is_withheld_and_settles_nothing(hand: Hand) -> None:
    connection = await hand.connect()
    _, permit = await permitted(hand, connection)
    assert (await hand.report(connection, 10, permit))["type"] == "release"
    assert (await hand.report(connection, 11, permit))["type"] == "withhold"
    assert fates(hand) == ["done"]


@scenario
async def a_report_after_it_was_given_up_is_withheld_and_changes_nothing(hand: Hand) -> None:
    connection = await hand.connect()
    pending, permit = await permitted(hand, connection)
    fire(pending)
    await hand.rest()
    assert fates(hand) == ["ambiguous"]
    assert connection.running == []
    assert hand.sent(connection)[-1]["type"] == "permit", "nobody asked, so nobody is answered"
    assert (await hand.report(connection, 10, permit))["type"] == "withhold"
    assert fates(hand) == ["ambiguous"]


@scenario
async def a_timer_after_the_report_changes_nothing(hand: Hand) -> None:
    connection = await hand.connect()
    pending, permit = await permitted(hand, connection)
    await hand.report(connection, 10, permit)
    fire(pending)
    await hand.lose(connection)
    assert fates(hand) == ["done"]


@scenario
async def a_cancel_while_the_permit_is_written_denies_and_settles_it_as_not_started(hand: Hand) -> None:
    connection = await hand.connect()
    await being_written(hand, connection)
    connection.handle({"type": "cancel", "id": 1})
    hand.disk.answer(0)
    await hand.rest()
    assert [frame["type"] for frame in hand.sent(connection)] == ["welcome", "deny"]
    assert hand.sent(connection)[-1]["decision"]["reason"] == "cancelled"
    assert fates(hand) == ["not_started"]
    assert (hand.point.undecided, connection.running) == (0, [])


@scenario
async def a_cancel_while_a_permit_cannot_be_written_denies_once(hand: Hand) -> None:
    connection = await hand.connect()
    await being_written(hand, connection)
    connection.handle({"type": "cancel", "id": 1})
    hand.disk.answer(0, fails=True)
    await hand.rest()
    assert [frame["type"] for frame in hand.sent(connection)] == ["welcome", "deny"]
    assert hand.point.undecided == 0


@scenario
async def a_cancel_after_the_permit_is_harmless(hand: Hand) -> None:
    connection = await hand.connect()
    _, permit = await permitted(hand, connection)
    connection.handle({"type": "cancel", "id": 1})
    await hand.rest()
    assert connection.running == [permit]
    assert (await hand.report(connection, 10, permit))["type"] == "release"
    assert fates(hand) == ["done"]


@scenario
async def what_is_not_decided_in_time_is_denied_at_once_and_never_permitted(hand: Hand) -> None:
    connection = await hand.connect()
    pending = await being_written(hand, connection)
    fire(pending)
    assert hand.sent(connection)[-1]["decision"]["reason"] == "deadline"
    hand.disk.answer(0)
    await hand.rest()
    assert [frame["type"] for frame in hand.sent(connection)] == ["welcome", "deny"], "answered once"
    assert fates(hand) == ["not_started"]
    assert hand.point.undecided == 0


@scenario
async def a_connection_that_is_lost_while_the_permit_is_written_starts_nothing(hand: Hand) -> None:
    connection = await hand.connect()
    await being_written(hand, connection)
    await hand.lose(connection)
    assert not connection.finished.is_set(), "the entry is still under way"
    hand.disk.answer(0)
    await hand.rest()
    assert connection.finished.is_set()
    assert fates(hand) == ["not_started"]
    assert hand.point.undecided == 0
    assert hand.recorded(Kind.CLOSED)


@scenario
async def a_connection_that_is_lost_while_its_permit_is_out_leaves_it_ambiguous(hand: Hand) -> None:
    connection = await hand.connect()
    await permitted(hand, connection)
    await hand.lose(connection)
    assert connection.finished.is_set()
    assert fates(hand) == ["ambiguous"]
    assert hand.point.undecided == 0


@scenario
async def a_connection_that_is_lost_after_everything_is_closed(hand: Hand) -> None:
    connection = await hand.connect()
    _, permit = await permitted(hand, connection)
    await hand.report(connection, 10, permit, "failed")
    await hand.lose(connection)
    assert connection.finished.is_set()
    assert fates(hand) == ["failed"]


@scenario
async def a_connection_that_is_lost_in_the_middle_of_its_hello_leaves_nothing(hand: Hand) -> None:
    hand.disk.holds = True
    connection = await hand.greet()
    assert hand.sent(connection) == []
    await hand.lose(connection)
    hand.disk.answer(0)
    await hand.rest()
    assert connection.finished.is_set()
    assert hand.recorded(Kind.OPENED) == hand.recorded(Kind.CLOSED)


@scenario
async def only_who_is_alone_stands_still_for_the_disk(hand: Hand) -> None:
    one, other = await hand.connect(), await hand.connect()
    hand.disk.holds = True
    await hand.ask(one, 1)
    seen: list[bool] = []
    at_once = hand.disk.append_at_once
    hand.disk.append_at_once = lambda entry: (seen.append(True), at_once(entry))[1]  # type: ignore[method-assign]
    await hand.ask(other, 1)
    assert seen == [], "another call waits"
    hand.disk.answer(0)
    hand.disk.answer(0)
    await hand.rest()
    hand.disk.holds = False
    await hand.ask(one, 2)
    assert seen == [True], "what is out waits for nobody"
    one._buffer += b"x"
    await hand.ask(one, 3)
    assert seen == [True], "more has come"
    one._buffer.clear()


@scenario
async def only_the_first_of_many_that_come_at_once_stands_still_for_the_disk(hand: Hand) -> None:
    connections = [await hand.connect() for _ in range(4)]
    at_once = hand.disk.append_at_once
    seen: list[bool] = []
    hand.disk.append_at_once = lambda entry: (seen.append(True), at_once(entry))[1]  # type: ignore[method-assign]
    for turn in (1, 2):
        for connection in connections:
            connection.handle(write_file(turn))
        await hand.rest()
        assert len(seen) == turn
        assert all(hand.sent(connection)[-1]["type"] == "permit" for connection in connections)


@scenario
async def a_reported_fate_is_the_one_that_is_settled(hand: Hand) -> None:
    connection = await hand.connect()
    kinds = []
    for number, fate in enumerate(("done", "failed", "not_started", "ambiguous")):
        _, permit = await permitted(hand, connection, number)
        kinds.append((await hand.report(connection, 10 + number, permit, fate))["type"])
    assert kinds == ["release", "release", "withhold", "withhold"]
    assert fates(hand) == ["done", "failed", "not_started", "ambiguous"]


def teaches(hand: Hand, tool: str) -> None:
    """From now on its output raises the labels of whoever reads it."""
    path = hand.home.catalogue / f"{SERVER}.toml"
    before, name, after = path.read_text().partition(f"[tools.{tool}]")
    path.write_text(before + name + after.replace('confidentiality = "public"', 'confidentiality = "internal"', 1))
    hand.parts.reload()


RELEASED = {"type": "performed", "fate": "done", "released": True}


async def released(hand: Hand, connection: Connection, number: int, permit: str) -> None:
    """It was released at once, and is only reported."""
    connection.handle({**RELEASED, "id": number, "permit": permit})
    await hand.rest()


@scenario
async def an_output_that_adds_nothing_is_released_at_once_and_settled_without_an_answer(hand: Hand) -> None:
    connection = await hand.connect()
    _, permit = await permitted(hand, connection)
    assert hand.sent(connection)[-1]["permit"]["release"] == "at_once"
    await released(hand, connection, 10, permit)
    assert hand.sent(connection)[-1]["type"] == "permit", "nobody waits for an answer"
    assert (fates(hand), connection.running) == (["done"], [])


@scenario
async def who_does_not_release_at_once_is_answered_as_ever(hand: Hand) -> None:
    connection = await hand.connect()
    _, permit = await permitted(hand, connection)
    assert hand.sent(connection)[-1]["permit"]["release"] == "at_once"
    assert (await hand.report(connection, 10, permit))["type"] == "release"


@scenario
async def an_output_waits_until_its_label_is_recorded_and_those_after_it_do_not(hand: Hand) -> None:
    teaches(hand, "write_file")
    connection = await hand.connect()
    _, first = await permitted(hand, connection, 1)
    assert "release" not in hand.sent(connection)[-1]["permit"]
    _, beside = await permitted(hand, connection, 2)
    assert "release" not in hand.sent(connection)[-1]["permit"], "it may be read before the first is reported"
    assert (await hand.report(connection, 10, first))["type"] == "release"
    assert (await hand.report(connection, 11, beside))["type"] == "release"
    _, later = await permitted(hand, connection, 3)
    assert hand.sent(connection)[-1]["permit"]["release"] == "at_once"
    await released(hand, connection, 12, later)
    assert fates(hand) == ["done"] * 3


@scenario
async def who_releases_an_output_that_had_to_wait_is_not_served_any_more(hand: Hand) -> None:
    teaches(hand, "write_file")
    connection = await hand.connect()
    _, permit = await permitted(hand, connection)
    connection._buffer += encode({**RELEASED, "id": 10, "permit": permit})
    connection._read()
    await hand.rest()
    assert "had to wait" in hand.sent(connection)[-1]["sentence"]
    assert connection.closed
    assert fates(hand) == ["ambiguous"]


@scenario
async def what_was_released_at_once_after_it_was_given_up_is_answered_to_nobody(hand: Hand) -> None:
    connection = await hand.connect()
    pending, permit = await permitted(hand, connection)
    fire(pending)
    await hand.rest()
    await released(hand, connection, 10, permit)
    assert hand.sent(connection)[-1]["type"] == "permit"
    assert fates(hand) == ["ambiguous"]


@scenario
async def a_permit_that_was_written_too_late_is_not_sent(hand: Hand) -> None:
    connection = await hand.connect()
    await being_written(hand, connection)
    now = hand.parts.now
    hand.parts.now = lambda: now() + PERMIT_LIFETIME_MS
    hand.disk.answer(0)
    await hand.rest()
    assert [frame["type"] for frame in hand.sent(connection)] == ["welcome", "deny"]
    assert hand.sent(connection)[-1]["decision"]["reason"] == "deadline"
    assert fates(hand) == ["not_started"]


@scenario
async def a_permit_that_runs_out_once_it_was_confirmed_is_not_sent(hand: Hand) -> None:
    connection = await hand.connect()
    await being_written(hand, connection)
    now = hand.parts.now
    confirmed = [now()]
    hand.parts.now = lambda: confirmed.pop() if confirmed else now() + PERMIT_LIFETIME_MS
    hand.disk.answer(0)
    await hand.rest()
    assert [frame["type"] for frame in hand.sent(connection)] == ["welcome", "deny"]
    assert hand.sent(connection)[-1]["decision"]["reason"] == "deadline"
    assert fates(hand) == ["not_started"]


@scenario
async def what_is_undecided_is_known_to_those_below_until_it_is_decided(hand: Hand) -> None:
    connection = await hand.connect()
    assert connection.grant is not None
    state, task = hand.parts.state, connection.grant.task
    below = replace(connection.grant, task="below", parent=task, root=task, depth=1)
    assert connection.subject is not None
    record_blocking(hand.parts, opened(below, connection.subject, hand.parts.now()))
    await being_written(hand, connection)
    assert state.undecided_above("below") == (task,)
    hand.disk.answer(0)
    await hand.rest()
    assert hand.sent(connection)[-1]["type"] == "permit"
    assert state.undecided_above("below") == (), "it runs, and that is decided"
    hand.disk.holds = False
    await hand.ask(connection, 2, surprise="x")
    assert hand.sent(connection)[-1]["type"] == "deny"
    assert state.undecided_above("below") == ()
    await hand.ask(connection, 3, "send")
    assert hand.sent(connection)[-1]["type"] == "hold"
    assert state.undecided_above("below") == (task,), "it waits for somebody"


@scenario
async def a_task_that_gets_out_of_hand_is_suspended_until_a_person_resumes_it(hand: Hand) -> None:
    connection = await hand.connect()
    assert connection.grant is not None
    connection.calls.watch.pace = Pace(calls=10, denials=3, same_call=10, too_deep=10)
    for number in range(1, 5):
        await hand.ask(connection, number, surprise="x")
    denied = [frame["decision"]["reason"] for frame in hand.sent(connection) if frame["type"] == "deny"]
    assert denied == ["invalid_arguments"] * 4
    assert hand.parts.state.stopped(connection.grant.task) is Reason.SUSPENDED
    (said,) = [entry for entry in entries(hand.home) if entry["kind"] == "ordered"]
    assert (said["order"], said["by"], said["name"]) == ("suspend", "forestall", connection.grant.task)
    assert "storm" in said["why"]
    await hand.ask(connection, 5)
    assert hand.sent(connection)[-1]["decision"]["reason"] == "suspended"
    target = Target(Reach.TASK, connection.grant.task, tenant=connection.grant.tenant)
    await order(hand.parts, Command(Order.RESUME, target, "looked at it", "uid/0"))
    await permitted(hand, connection, 6)


@scenario
async def a_task_whose_suspension_cannot_be_written_is_stopped_all_the_same(hand: Hand) -> None:
    connection = await hand.connect()
    connection.calls.watch.pace = Pace(calls=10, denials=0, same_call=10, too_deep=10)
    hand.disk.holds = True
    await hand.ask(connection, 1, surprise="x")
    hand.disk.answer(0, fails=True)
    await hand.rest()
    hand.disk.holds = False
    assert await answered_at_once(hand, connection, 2, "write_file", path="a", content="") == "suspended"


async def answered_at_once(hand: Hand, connection: Connection, number: int, tool: str, **arguments: str) -> Any:
    """Why it is refused, without anybody being asked."""
    frame = {"type": "ask", "id": number, "tool": f"{SERVER}/{tool}", "pin": pin(tool), "arguments": arguments}
    connection.handle(frame)
    await hand.rest()
    answer = hand.sent(connection)[-1]
    assert answer["id"] == number
    return answer["decision"]["reason"]


class Unasked:
    """A policy that nobody may ask."""

    def __init__(self, engine: Any) -> None:
        self.digest = engine.digest

    def evaluate(self, question: object) -> None:
        raise AssertionError(question)


@scenario
async def what_was_refused_is_refused_again_from_memory(hand: Hand) -> None:
    connection = await hand.connect()
    rules = hand.parts.rules
    await hand.ask(connection, 1, "delete_file", path="a")
    assert hand.sent(connection)[-1]["decision"]["reason"] == "no_policy"
    hand.parts.rules = replace(rules, engine=Unasked(rules.engine))  # type: ignore[arg-type]
    for number in (2, 3):
        assert await answered_at_once(hand, connection, number, "delete_file", path="a") == "no_policy"
    hand.parts.rules = rules
    await permitted(hand, connection, 4)


@scenario
async def it_is_settled_when_no_permit_is_out(hand: Hand) -> None:
    connection = await hand.connect()
    _, permit = await permitted(hand, connection)
    settling = asyncio.ensure_future(connection.settled())
    await hand.rest()
    assert not settling.done()
    await hand.report(connection, 10, permit)
    assert settling.done()


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_this_order(home: Home, name: str) -> None:
    play(home, SCENARIOS[name])


# -- in any order

steps = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 1), st.sampled_from(["write_file", "read_file", "delete_file", "send"])),
    st.tuples(st.just("method"), st.integers(0, 1), st.just("")),
    st.tuples(st.just("disk"), st.integers(0, 3), st.sampled_from(["", "", "fails"])),
    st.tuples(st.just("hold"), st.just(0), st.sampled_from(["holds", ""])),
    st.tuples(st.just("cancel"), st.integers(0, 1), st.just("")),
    st.tuples(st.just("timer"), st.integers(0, 3), st.just("")),
    st.tuples(st.just("report"), st.integers(0, 3), st.sampled_from(["done", "failed", "not_started", "ambiguous"])),
    st.tuples(st.just("report"), st.integers(0, 3), st.just("released")),
    st.tuples(st.just("again"), st.integers(0, 3), st.just("done")),
    st.tuples(st.just("lose"), st.integers(0, 1), st.just("")),
)


class AnyOrder:
    """Plays steps, and holds every connection to its word after each."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self.next = 0
        self.seen: list[tuple[Connection, Any]] = []

    async def step(self, kind: str, which: int, more: str) -> None:
        hand = self.hand
        connection = hand.connections[which % len(hand.connections)]
        if kind == "ask" and not connection.closed:
            self.next += 1
            self.seen.append((connection, await hand.ask(connection, self.next, more)))
        elif kind == "method" and not connection.closed:
            self.next += 1
            connection.handle({"type": "method", "id": self.next, "method": "x/new", "direction": "client"})
        elif kind == "disk" and hand.disk.waiting:
            hand.disk.answer(which % len(hand.disk.waiting), fails=more == "fails")
        elif kind == "hold":
            hand.disk.holds = more == "holds"
        elif kind == "cancel" and not connection.closed:
            connection.handle({"type": "cancel", "id": self.next})
        elif kind == "timer" and self.seen:
            _, pending = self.seen[which % len(self.seen)]
            if pending.timer is not None:  # what was refused without waiting has none
                fire(pending)
        elif kind in ("report", "again"):
            await self._report(which, more, again=kind == "again")
        elif kind == "lose":
            await hand.lose(connection)
            hand.connections[which % len(hand.connections)] = await self._another(connection)
        await hand.rest()
        self.check()

    async def _report(self, which: int, fate: str, *, again: bool) -> None:
        out = [(one, pending) for one, pending in self.seen if pending.outcome is not None and not one.closed]
        if again:
            out = [(one, pending) for one, pending in out if pending.reported is not None]
        if out:
            connection, pending = out[which % len(out)]
            self.next += 1
            if fate == "released":
                before = len(self.hand.sent(connection))
                await released(self.hand, connection, self.next, pending.action.id)
                assert len(self.hand.sent(connection)) == before
                return
            answer = await self.hand.report(connection, self.next, pending.action.id, fate)
            assert (answer["type"], answer["id"]) in {("release", self.next), ("withhold", self.next)}

    async def _another(self, lost: Connection) -> Connection:
        """In place of one that is lost; the lost one is still held to its word."""
        if self.hand.disk.holds:
            return lost
        connection = await self.hand.connect()
        self.hand.connections.remove(connection)
        self.hand.connections.append(lost)
        return connection

    def check(self) -> None:
        hand = self.hand
        assert hand.point.undecided == hand.undecided()
        settled, written = hand.recorded(Kind.SETTLED), hand.recorded(Kind.PERMITTED)
        assert len(settled) == len(set(settled)), "settled once"
        assert set(settled) <= set(written)
        for connection in hand.connections:
            frames = hand.sent(connection)
            answered = [frame["id"] for frame in frames if frame["type"] in ANSWERS]
            assert len(answered) == len(set(answered)), "answered once"
            out = {frame["permit"]["id"] for frame in frames if frame["type"] == "permit"}
            assert out <= set(written), "written before it is sent"


@settings(suppress_health_check=list(HealthCheck), max_examples=25)
@given(st.lists(steps, max_size=14))
def test_in_any_order(tmp_path_factory: pytest.TempPathFactory, chosen: list[tuple[str, int, str]]) -> None:
    home = make_home(tmp_path_factory.mktemp("c"))
    in_any_order(home, chosen)


def in_any_order(home: Home, chosen: list[tuple[str, int, str]], kind: type[Connection] = Connection) -> None:
    hands: list[Hand] = []

    async def whole(hand: Hand) -> None:
        hands.append(hand)
        order = AnyOrder(hand)
        for _ in range(2):
            await hand.connect()
        for step in chosen:
            await order.step(*step)

    play(home, whole, kind)
    (hand,) = hands
    assert (hand.point.undecided, hand.undecided()) == (0, 0), "everything has ended"
    assert all(connection.running == [] for connection in hand.connections)
    assert sorted(hand.recorded(Kind.SETTLED)) == sorted(hand.recorded(Kind.PERMITTED)), "each is settled, and once"
    assert sorted(hand.recorded(Kind.OPENED)) == sorted(hand.recorded(Kind.CLOSED))
