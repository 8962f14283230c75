"""Upstream settles first: no agent acts on half a context (design.md 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.core.control import Command, Order, Reach, Target
from forestall.core.entry import opened
from forestall.core.flow import govern
from forestall.core.model import Deny, Done, Grant
from forestall.core.reason import Reason
from forestall.core.task import close_task
from forestall.run import run_async
from forestall.wire import order, record_blocking
from tests.controls.room import PEER, Room

WAITS = '@id("sends") @after_upstream permit (principal, action == Action::"files/send", resource);'
READS = '@id("reads") permit (principal, action in Action::"read", resource);'
CONFIG = "[serve]\nupstream_timeout_ms = {}\n"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    yield from furnished(tmp_path / "patient", 4_000)


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Room]:
    yield from furnished(tmp_path / "impatient", 1)


def furnished(root: Path, timeout_ms: int) -> Iterator[Room]:
    root.mkdir()
    (root / "forestall.toml").write_text(CONFIG.format(timeout_ms))
    made = Room(root, WAITS, READS)
    parent = made.open("parent")
    child = replace(parent, task="child", parent="parent", root="parent", depth=1)
    subject = made.parts.identity.__class__([PEER.uid]).verify(PEER)
    record_blocking(made.parts, opened(child, subject, made.now()))
    yield made
    made.parts.close()


async def sending(room: Room, task: str = "child") -> asyncio.Task[Any]:
    """A call of the task is under way."""
    flow = govern(room.action("send", task=task, path="notes.md"))
    begun = asyncio.create_task(run_async(flow, room.handlers()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return begun


def test_a_call_waits_until_nothing_above_is_undecided_and_is_then_decided_anew(room: Room) -> None:
    async def scenario() -> None:
        room.parts.state.asked("above", "parent")
        call = await sending(room)
        assert not call.done()
        assert room.performed == []
        room.parts.state.answered("above")
        assert isinstance(await call, Done)

    asyncio.run(scenario())


def test_where_nothing_above_is_undecided_or_nothing_is_above_it_waits_for_nobody(room: Room) -> None:
    async def scenario() -> None:
        room.parts.state.asked("own", "child")
        assert isinstance(await (await sending(room)), Done)
        room.parts.state.asked("above", "parent")
        assert isinstance(await (await sending(room, "parent")), Done)

    asyncio.run(scenario())


def test_what_policy_does_not_say_it_of_does_not_wait(room: Room) -> None:
    room.parts.state.asked("above", "parent")
    assert isinstance(room.ask(room.action("read", task="child", path="notes.md")), Done)


def test_it_waits_within_a_bound_and_is_then_denied(impatient: Room) -> None:
    impatient.parts.state.asked("above", "parent")
    outcome = impatient.ask(impatient.action("send", task="child", path="notes.md"))
    assert isinstance(outcome, Deny)
    assert outcome.reason is Reason.UPSTREAM
    assert impatient.performed == []


def test_what_is_above_is_killed_and_so_is_what_waits(room: Room) -> None:
    async def scenario() -> None:
        room.parts.state.asked("above", "parent")
        call = await sending(room)
        await order(room.parts, Command(Order.KILL, Target(Reach.TASK, "parent"), "wrong", "uid/0"))
        outcome = await call
        assert isinstance(outcome, Deny)
        assert outcome.reason is Reason.REVOKED

    asyncio.run(scenario())


def test_what_is_above_ends_and_what_waits_finds_no_task(room: Room) -> None:
    async def scenario() -> None:
        room.parts.state.asked("above", "parent")
        call = await sending(room)
        await run_async(close_task("parent", "completed", room.now()), room.handlers())
        outcome = await call
        assert isinstance(outcome, Deny)
        assert outcome.reason is Reason.NO_GRANT

    asyncio.run(scenario())


def test_nobody_is_left_watching(room: Room, impatient: Room) -> None:
    for one in (room, impatient):
        assert isinstance(one.parts.state.find_grant("child"), Grant)

    async def scenario() -> None:
        for one in (room, impatient):
            one.parts.state.asked("above", "parent")
            call = await sending(one)
            if one is room:
                call.cancel()
            await asyncio.wait([call])
            assert not one.parts.state._undecided.watching

    asyncio.run(scenario())
