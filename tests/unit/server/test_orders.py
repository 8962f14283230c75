"""Orders at the decision point: who is told, when they count as kept, and what is released in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from forestall.core.control import Command, Order, Reach, Target
from forestall.core.entry import Stream
from forestall.core.errors import InvalidInput
from forestall.core.model import Risk
from forestall.core.reason import Reason
from forestall.core.task import close_task
from forestall.home import Home
from forestall.run import run
from forestall.server.connection import Connection
from forestall.server.frames import LEASE_MS, read_confirmed, read_order
from forestall.server.orders import Acknowledged
from forestall.wire import handlers_blocking
from tests.points import entries, make_home
from tests.unit.server.hand import Hand, play

SCENARIOS: dict[str, Callable[[Hand], Awaitable[None]]] = {}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def scenario(test: Callable[[Hand], Awaitable[None]]) -> Callable[[Hand], Awaitable[None]]:
    SCENARIOS[test.__name__] = test
    return test


def command(order: Order = Order.KILL, task: str = "", **more: Any) -> Command:
    target = Target(Reach.TASK, task) if task else Target(Reach.EVERYTHING)
    return Command(order, target, "why", "uid/0", **more)


def told(hand: Hand, connection: Connection) -> list[tuple[str, int]]:
    return [(frame["reason"], frame["epoch"]) for frame in hand.sent(connection) if frame["type"] == "revoked"]


def task_of(connection: Connection) -> str:
    assert connection.grant is not None
    return connection.grant.task


def give(hand: Hand, order: Command) -> asyncio.Task[Acknowledged]:
    return asyncio.create_task(hand.point.orders.give(order))


def confirm(connection: Connection, epoch: int) -> None:
    connection.handle({"type": "confirmed", "epoch": epoch})


def fates(hand: Hand) -> list[str]:
    return [entry["fate"] for entry in entries(hand.home) if entry["kind"] == "settled"]


@scenario
async def every_connection_is_told_in_the_turn_in_which_the_order_is_taken_in(hand: Hand) -> None:
    first, second = await hand.connect(), await hand.connect()
    hand.disk.holds = True
    giving = give(hand, command())
    await hand.rest()
    assert told(hand, first) == []  # it is not in force before it is on disk
    hand.disk.answer(0)  # and no turn of the loop between
    assert told(hand, first) == told(hand, second) == [("revoked", 1)]
    for connection in (first, second):
        confirm(connection, 1)
    assert await giving == Acknowledged(1, 2, 0, 0, confirmed=2, unconfirmed=0)


@scenario
async def an_order_is_acknowledged_when_the_last_has_confirmed_and_not_before(hand: Hand) -> None:
    first, second = await hand.connect(), await hand.connect()
    giving = give(hand, command())
    await hand.rest()
    confirm(first, 1)
    confirm(second, 0)  # of another time
    await hand.rest()
    assert not giving.done()
    confirm(second, 1)
    assert (await giving).confirmed == 2


@scenario
async def who_does_not_confirm_in_time_is_disconnected(hand: Hand) -> None:
    connection = await hand.connect()
    giving = give(hand, command())
    await hand.rest()
    (notice,) = connection.unanswered
    notice._timer.fire()  # type: ignore[attr-defined]  # the hand's own
    acknowledged = await giving
    assert (acknowledged.confirmed, acknowledged.unconfirmed) == (0, 1)
    await hand.rest()
    assert connection.finished.is_set()


@scenario
async def who_leaves_is_not_waited_for(hand: Hand) -> None:
    connection = await hand.connect()
    giving = give(hand, command())
    await hand.rest()
    await hand.lose(connection)
    assert (await giving).unconfirmed == 1
    kinds = [entry["kind"] for entry in entries(hand.home)]
    assert kinds == ["opened", "ordered"]  # what was killed is not closed once more


@scenario
async def only_those_whom_it_covers_are_told(hand: Hand) -> None:
    meant, other = await hand.connect(), await hand.connect()
    giving = give(hand, command(task=task_of(meant)))
    await hand.rest()
    confirm(meant, 1)
    assert (await giving).tasks_ended == 1
    assert (told(hand, meant), told(hand, other)) == ([("revoked", 1)], [])
    await hand.ask(other, 1)
    assert hand.sent(other)[-1]["type"] == "permit"


@scenario
async def a_call_that_is_being_written_when_its_task_is_killed_gets_no_permit(hand: Hand) -> None:
    connection = await hand.connect()
    hand.disk.holds = True
    await hand.ask(connection, 1)
    giving = give(hand, command())
    await hand.rest()
    hand.disk.answer(1)  # the order is taken in before the permit is
    hand.disk.answer(0)
    await hand.rest()
    types = [frame["type"] for frame in hand.sent(connection)]
    assert types == ["welcome", "revoked", "deny"]
    assert hand.sent(connection)[-1]["decision"]["reason"] == "revoked"
    hand.disk.holds = False
    confirm(connection, 1)
    await giving
    assert fates(hand) == ["not_started"]


@scenario
async def of_a_task_that_was_killed_no_output_is_released(hand: Hand) -> None:
    connection = await hand.connect()
    await hand.ask(connection, 1)
    permit = hand.sent(connection)[-1]["permit"]["id"]
    giving = give(hand, command())
    await hand.rest()
    answer = await hand.report(connection, 2, permit)
    assert answer == {"type": "withhold", "id": 2, "sentence": Reason.REVOKED.advice.sentence}
    confirm(connection, 1)
    await giving
    assert fates(hand) == ["done"]  # and so the ledger knows that it happened


@scenario
async def of_a_task_that_is_suspended_what_runs_is_released_and_nothing_new_is_permitted(hand: Hand) -> None:
    connection = await hand.connect()
    await hand.ask(connection, 1)
    permit = hand.sent(connection)[-1]["permit"]["id"]
    giving = give(hand, command(Order.SUSPEND))
    await hand.rest()
    assert told(hand, connection) == [("suspended", 1)]
    confirm(connection, 1)
    assert await giving == Acknowledged(1, 0, 1, 0, confirmed=1, unconfirmed=0)
    assert (await hand.report(connection, 2, permit))["type"] == "release"
    await hand.ask(connection, 3)
    assert hand.sent(connection)[-1]["decision"]["reason"] == "suspended"
    assert await give(hand, command(Order.RESUME)) == Acknowledged(2, 0, 0, 1, confirmed=0, unconfirmed=0)
    await hand.ask(connection, 4)
    assert hand.sent(connection)[-1]["type"] == "permit"


@scenario
async def a_kill_after_a_suspension_is_told_and_confirmed_by_itself(hand: Hand) -> None:
    connection = await hand.connect()
    suspending = give(hand, command(Order.SUSPEND))
    await hand.rest()
    killing = give(hand, command())
    await hand.rest()
    assert told(hand, connection) == [("suspended", 1), ("revoked", 2)]
    confirm(connection, 1)
    assert (await suspending).confirmed == 1
    await hand.rest()
    assert not killing.done()
    confirm(connection, 2)
    assert (await killing).confirmed == 1


@scenario
async def a_second_order_of_the_same_kind_waits_for_whoever_has_not_confirmed_the_first(hand: Hand) -> None:
    connection = await hand.connect()
    first = give(hand, command(Order.SUSPEND))
    await hand.rest()
    second = give(hand, command(Order.SUSPEND, task_of(connection)))
    await hand.rest()
    assert not second.done()
    confirm(connection, 1)
    assert ((await first).confirmed, (await second).confirmed) == (1, 1)


@scenario
async def risk_is_told_to_nobody(hand: Hand) -> None:
    connection = await hand.connect()
    assert await give(hand, command(Order.RISK, level=Risk.HIGH)) == Acknowledged(1, 0, 0, 0, 0, 0)
    assert told(hand, connection) == []


@scenario
async def an_order_that_the_ledger_does_not_take_is_not_acknowledged_and_nobody_is_told(hand: Hand) -> None:
    connection = await hand.connect()
    hand.disk.holds = True
    giving = give(hand, command())
    await hand.rest()
    hand.disk.answer(0, fails=True)
    with pytest.raises(Exception, match="disk is full"):
        await giving
    assert told(hand, connection) == []


@scenario
async def a_task_that_runs_out_of_time_is_told(hand: Hand) -> None:
    connection = await hand.connect()
    hand.point.orders.look(connection)
    assert told(hand, connection) == []
    assert connection.grant is not None
    hand.parts.now = lambda: connection.grant.expires_at  # type: ignore[union-attr]
    hand.point.orders.look(connection)
    hand.point.orders.look(connection)
    assert told(hand, connection) == [("task_ended", 0)]
    confirm(connection, 0)
    assert connection.unanswered == []


@scenario
async def a_task_that_is_closed_elsewhere_is_told_at_once(hand: Hand) -> None:
    meant, other = await hand.connect(), await hand.connect()
    run(close_task(task_of(meant), "completed", hand.parts.now()), handlers_blocking(hand.parts, directory="/"))
    await hand.rest()
    assert (told(hand, meant), told(hand, other)) == ([("task_ended", 0)], [])


@scenario
async def a_permit_says_by_when_it_is_begun(hand: Hand) -> None:
    connection = await hand.connect()
    before = hand.parts.now()
    await hand.ask(connection, 1)
    permit = hand.sent(connection)[-1]["permit"]
    assert before <= permit["start_by"] - LEASE_MS <= hand.parts.now()
    assert permit["start_by"] <= permit["expires_at"]


@scenario
async def a_new_connection_of_somebody_who_was_killed_is_refused(hand: Hand) -> None:
    await give(hand, command())
    refused = await hand.greet()
    assert hand.sent(refused)[-1]["type"] == "refused"
    assert Reason.REVOKED in hand.sent(refused)[-1]["sentence"]


@scenario
async def denials_of_a_killed_task_are_recorded(hand: Hand) -> None:
    connection = await hand.connect()
    giving = give(hand, command())
    await hand.rest()
    confirm(connection, 1)
    await giving
    await hand.ask(connection, 1)
    assert hand.sent(connection)[-1]["decision"]["reason"] == "revoked"
    assert [entry["reason"] for entry in entries(hand.home, Stream.DENIALS)] == ["revoked"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_orders(home: Home, name: str) -> None:
    play(home, SCENARIOS[name])


ORDER = {"order": "kill", "reach": "agent", "name": "bot", "trust_domain": "example.org", "tenant": "t", "why": "a\nb"}


def test_an_order_is_read() -> None:
    target = Target(Reach.AGENT, "bot", "example.org", "t")
    assert read_order(ORDER, "uid/7") == Command(Order.KILL, target, "a b", "uid/7")
    risk = read_order({**ORDER, "order": "risk", "level": "high"}, "uid/7")
    assert (risk.order, risk.level) == (Order.RISK, Risk.HIGH)


@pytest.mark.parametrize(
    "changes",
    [
        {"order": "end"},
        {"reach": "all"},
        {"reach": "everything"},
        {"name": ""},
        {"name": 3},
        {"name": "x" * 513},
        {"why": ["x"]},
        {"level": "high"},
        {"order": "risk"},
        {"order": "risk", "level": "extreme"},
    ],
)
def test_what_is_no_order_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_order({**ORDER, **changes}, "uid/7")


@pytest.mark.parametrize("epoch", [None, "1", True, 1.0])
def test_what_confirms_nothing_is_refused(epoch: Any) -> None:
    with pytest.raises(InvalidInput):
        read_confirmed({"type": "confirmed", "epoch": epoch})
