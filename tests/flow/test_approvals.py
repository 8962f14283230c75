"""Held calls and the people who answer them, in conversations with a decision point that is real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import forestall_verify
from forestall.core.control import Order
from forestall.core.entry import Stream
from forestall.home import Home
from forestall.server.point import Point
from forestall.wire import build
from tests.points import WAIT_S, Peer, entries, kinds, make_home, serving, verify_ledger
from tests.points import play as converse

ANN, BOB = 4001, 4002
"""Users that no agent of these tests runs as."""

LOCAL = """\
@id("ask") @approvers("local") permit (principal, action in Action::"external", resource)
when { context has approval && context.approval.granted };
"""
NAMED = LOCAL.replace("local", f"uid:{ANN},uid:{BOB}")
TWO = NAMED.replace("@id", '@quorum("2") @id')


class Room(AsyncExitStack):
    """Whoever comes in leaves again at the end."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self._point = point
        self.parts = point.parts

    async def agent(self, **hello: Any) -> Peer:
        return await self.enter_async_context(await Peer.gateway(self._point.parts.home.socket, **hello))

    async def person(self, uid: int | None = None) -> Peer:
        return await self.enter_async_context(await person(self._point, uid))


def play(home: Home, scenario: Callable[[Room], Awaitable[None]]) -> None:
    async def whole(point: Point) -> None:
        async with Room(point) as room:
            await scenario(room)

    converse(home, whole)


async def person(point: Point, uid: int | None = None) -> Peer:
    """At a command line. `uid`: what the kernel would say of a person of that user."""
    before = set(point._connections)
    peer = await Peer.cli(point.parts.home.socket)
    (served,) = point._connections - before
    served.peer = replace(served.peer, uid=served.peer.uid if uid is None else uid)
    return peer


async def answer(peer: Peer, kind: str, **members: Any) -> dict[str, Any]:
    number = peer.request(kind, **members)
    frame = await peer.receive()
    assert frame["id"] == number
    return frame


async def approve(peer: Peer, hold: str) -> dict[str, Any]:
    """As the command line: look, and say yes to what was seen."""
    seen = await answer(peer, "approvals", hold=hold)
    return seen if seen["type"] == "not_done" else await answer(peer, "approve", hold=hold, digest=seen["digest"])


def held(frame: Mapping[str, Any]) -> str:
    assert frame["type"] == "hold", frame
    return str(frame["decision"]["decision_id"])


def test_a_held_call_that_is_approved_runs_once(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL)

    async def scenario(room: Room) -> None:
        agent, ann = await room.agent(), await room.person()
        hold = held(await agent.ask("send", {"to": "bob@example.com"}))
        (listed,) = (await answer(ann, "approvals"))["holds"]
        assert (listed["hold"], listed["tool"], listed["missing"]) == (
            hold,
            "files/send",
            [{"approvers": ["local"], "count": 1}],
        )
        seen = await answer(ann, "approvals", hold=hold)
        assert seen["action"]["arguments"] == {"to": "bob@example.com"}
        assert seen["action"]["task"] == agent.welcome["task"]
        assert (await answer(ann, "approve", hold=hold, digest=seen["digest"]))["type"] == "done"
        held(await agent.ask("send", {"to": "eve@example.com"}))
        permit = await agent.ask("send", {"to": "bob@example.com"})
        assert (await agent.performed(permit))["type"] == "release"
        held(await agent.ask("send", {"to": "bob@example.com"}))
        assert (await approve(ann, hold))["sentence"].startswith("Its approval was used already")

    play(home, scenario)
    (yes,) = [entry for entry in entries(home) if entry["kind"] == "approved"]
    (permit,) = [entry for entry in entries(home) if entry["kind"] == "permitted"]
    assert permit["approved_by"] == [yes["id"]]
    assert (yes["uid"], yes["assurance"], f"uid:{os.geteuid()}" in yes["names"]) == (os.geteuid(), "local", True)
    (first, *_) = [entry for entry in entries(home, Stream.DENIALS) if entry["kind"] == "held"]
    assert (yes["hold"], yes["arguments"], yes["slice_digest"]) == (
        first["id"],
        first["arguments"],
        first["slice_digest"],
    )
    verify_ledger(home)
    assert forestall_verify.main([str(home.ledger), "--payload-key", str(home.keys / "payload.key")]) == 0


def test_a_yes_is_to_what_was_shown(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL)

    async def scenario(room: Room) -> None:
        agent, ann = await room.agent(), await room.person()
        one, other = held(await agent.ask("send", {"to": "a"})), held(await agent.ask("send", {"to": "b"}))
        seen = await answer(ann, "approvals", hold=other)
        said = await answer(ann, "approve", hold=one, digest=seen["digest"])
        assert (said["type"], "not what was shown" in said["sentence"]) == ("not_done", True)
        held(await agent.ask("send", {"to": "a"}))

    play(home, scenario)
    assert "approved" not in kinds(home)


def test_a_decline_is_final_and_says_nothing_to_the_agent(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL)

    async def scenario(room: Room) -> None:
        agent, ann = await room.agent(), await room.person()
        hold = held(await agent.ask("send", {"to": "a"}))
        assert (await answer(ann, "deny", hold=hold, why=" "))["type"] == "not_done"
        assert (await answer(ann, "deny", hold=hold, why="not\nto him"))["type"] == "done"
        decision = (await agent.ask("send", {"to": "a"}))["decision"]
        assert (decision["decision"], decision["reason"], decision["retry"]) == ("deny", "not_approved", "final")
        assert "him" not in str(decision)
        assert "final" in (await approve(ann, hold))["sentence"]
        assert held(await agent.ask("send", {"to": "b"}))

    play(home, scenario)
    assert [entry["why"] for entry in entries(home) if entry["kind"] == "declined"] == ["not to him"]


def test_nobody_of_the_agents_user_approves_unless_local_is_enough(tmp_path: Path) -> None:
    home = make_home(tmp_path, NAMED.replace(str(ANN), str(os.geteuid())))

    async def scenario(room: Room) -> None:
        agent, same, bob = await room.agent(), await room.person(), await room.person(BOB)
        hold = held(await agent.ask("send"))
        seen = await answer(same, "approvals", hold=hold)
        assert "the user that the agent runs as" in seen["why_not_you"]
        assert "`ask` asks" not in seen["why_not_you"]
        said = await answer(same, "approve", hold=hold, digest=seen["digest"])
        assert (said["type"], "allowed_uids" in said["sentence"]) == ("not_done", True)
        held(await agent.ask("send"))
        assert (await approve(bob, hold))["type"] == "done"
        assert (await agent.ask("send"))["type"] == "permit"

    play(home, scenario)


def test_what_is_unbound_is_nobodys_to_approve_of_the_agents_user_and_that_says_what_to_write(tmp_path: Path) -> None:
    home = make_home(tmp_path, '@id("all") permit (principal, action, resource);')
    catalogue = home.catalogue / "files.toml"
    catalogue.write_text(catalogue.read_text().replace('control = ["to"]', 'control = ["to"]\nreferences = ["to"]'))

    async def scenario(room: Room) -> None:
        agent, same, guest = await room.agent(), await room.person(), await room.person(ANN)
        hold = held(await agent.ask("send"))
        seen = await answer(same, "approvals", hold=hold)
        assert seen["action"]["unbound"] == ["to"]
        assert '`context.unbound` with `@approvers("local")`' in seen["why_not_you"]
        assert (await approve(same, hold))["type"] == "not_done"
        assert (await answer(guest, "approvals", hold=hold))["type"] == "not_done"
        held(await agent.ask("send"))

    play(home, scenario)


def test_who_may_not_answer_is_shown_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path, NAMED)

    async def scenario(room: Room) -> None:
        agent, guest = await room.agent(), await room.person(4999)
        hold = held(await agent.ask("send"))
        assert (await answer(guest, "approvals"))["holds"] == []
        for kind, more in (("approvals", {}), ("approve", {"digest": "sha256:0"}), ("deny", {"why": "no"})):
            said = await answer(guest, kind, hold=hold, **more)
            assert said["type"] == "not_done"
            assert "ask " not in said["sentence"]
            assert str(ANN) not in said["sentence"]
        held(await agent.ask("send"))

    play(home, scenario)


def test_a_quorum_is_of_distinct_persons_also_when_they_answer_at_once(tmp_path: Path) -> None:
    home = make_home(tmp_path, TWO)

    async def scenario(room: Room) -> None:
        agent, ann, again = await room.agent(), await room.person(ANN), await room.person(ANN)
        bob = await room.person(BOB)
        hold = held(await agent.ask("send"))
        said = await asyncio.gather(approve(ann, hold), approve(again, hold))
        assert [one["missing"][0]["count"] for one in said] == [1, 1]
        held(await agent.ask("send"))
        assert (await approve(bob, hold))["missing"][0]["count"] == 0
        assert (await agent.ask("send"))["type"] == "permit"

        hold = held(await agent.ask("send"))
        said = await asyncio.gather(approve(ann, hold), approve(bob, hold))
        assert min(one["missing"][0]["count"] for one in said) == 0
        assert (await agent.ask("send"))["type"] == "permit"

    play(home, scenario)


def test_one_approval_is_used_once_by_64_retries_at_once(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL)

    async def scenario(room: Room) -> None:
        agent, ann = await room.agent(), await room.person()
        assert (await approve(ann, held(await agent.ask("send"))))["type"] == "done"
        for _ in range(64):
            agent.asks("send")
        said = [(await agent.receive())["type"] for _ in range(64)]
        assert sorted(said) == ["hold"] * 63 + ["permit"]

    play(home, scenario)
    assert kinds(home).count("permitted") == 1


def test_what_ran_out_is_not_approved(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL.replace("@id", '@expires("1m") @id'))

    async def scenario() -> None:
        parts = build(home)
        clock, later = parts.now, [0]
        parts.now = lambda: clock() + later[0]
        async with serving(home, parts) as point, Room(point) as room:
            agent, ann = await room.agent(), await room.person()
            hold = held(await agent.ask("send"))
            seen = await answer(ann, "approvals", hold=hold)
            later[0] = 60_000
            said = await answer(ann, "approve", hold=hold, digest=seen["digest"])
            assert (said["type"], "ran out" in said["sentence"]) == ("not_done", True)
            assert (await answer(ann, "approvals"))["holds"] == []
            assert (await agent.ask("send"))["decision"]["reason"] == "approval_expired"
            hold = held(await agent.ask("send"))
            assert (await approve(ann, hold))["type"] == "done"
            later[0] = 120_000
            decision = (await agent.ask("send"))["decision"]
            assert (decision["decision"], decision["reason"]) == ("deny", "approval_expired")
            held(await agent.ask("send"))

    asyncio.run(asyncio.wait_for(scenario(), 2 * WAIT_S))
    assert "permitted" not in kinds(home)


def test_a_task_that_ends_while_it_is_approved_runs_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL)

    async def scenario(room: Room) -> None:
        ann = await room.person()
        for turns in range(8):
            agent = await room.agent()
            hold = held(await agent.ask("send"))
            seen = await answer(ann, "approvals", hold=hold)
            number = ann.request("approve", hold=hold, digest=seen["digest"])
            for _ in range(turns):
                await asyncio.sleep(0)
            await agent.close()
            assert (await ann.receive())["id"] == number
            async with await Peer.gateway(home.socket) as another:
                held(await another.ask("send"))
            assert (await approve(ann, hold))["type"] == "not_done"

    play(home, scenario)
    assert "permitted" not in kinds(home)


def test_a_yes_that_cannot_be_recorded_is_none(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL)

    async def scenario(room: Room) -> None:
        agent, ann = await room.agent(), await room.person()
        hold = held(await agent.ask("send"))
        log = home.ledger / "permits.log"
        os.truncate(log, log.stat().st_size - 1)  # from now on the ledger refuses to go on with it
        said = await approve(ann, hold)
        assert (said["type"], "could not be recorded" in said["sentence"]) == ("not_done", True)
        assert room.parts.state.waiting()[0].consents == ()

    async def whole() -> None:
        try:
            async with serving(home) as point, Room(point) as room:
                await scenario(room)
        except Exception as error:  # the ledger that was cut does not close
            assert "permits.log" in str(error)  # noqa: PT017 - as above

    asyncio.run(asyncio.wait_for(whole(), 2 * WAIT_S))


def test_an_unrelated_reload_voids_nothing_and_one_that_asks_for_more_does(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL)

    def more(home: Home, text: str) -> None:
        (home.policy / "more.cedar").write_text(text)

    async def scenario(room: Room) -> None:
        agent, ann = await room.agent(), await room.person()
        hold = held(await agent.ask("send"))
        more(home, '@id("reads") permit (principal, action in Action::"read", resource);')
        assert (await answer(ann, "reload"))["type"] == "done"
        assert (await approve(ann, hold))["type"] == "done"
        more(home, LOCAL.replace("ask", "ask-too"))
        assert (await answer(ann, "reload"))["type"] == "done"
        held(await agent.ask("send"))
        more(home, '@id("never") forbid (principal, action in Action::"external", resource);')
        assert (await answer(ann, "reload"))["type"] == "done"
        assert (await agent.ask("send"))["decision"]["reason"] == "forbidden"

    play(home, scenario)
    assert "permitted" not in kinds(home)


def test_the_path_that_was_shown_is_the_path_that_is_taken(tmp_path: Path) -> None:
    policy = LOCAL.replace('"external"', '"destructive"')
    home = make_home(tmp_path, policy)
    for name in ("one", "two"):
        (tmp_path / name).touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")

    async def scenario(room: Room) -> None:
        agent, ann = await room.agent(directory=str(tmp_path)), await room.person()
        hold = held(await agent.ask("delete_file", {"path": "link"}))
        seen = await answer(ann, "approvals", hold=hold)
        assert seen["action"]["paths"]["path"][0]["inside"] == "one"
        assert (await approve(ann, hold))["type"] == "done"
        link.unlink()
        link.symlink_to(tmp_path / "two")
        held(await agent.ask("delete_file", {"path": "link"}))
        link.unlink()
        link.symlink_to(tmp_path / "one")
        assert (await agent.ask("delete_file", {"path": "link"}))["type"] == "permit"

    play(home, scenario)


@pytest.mark.parametrize("order_of", [Order.KILL, Order.SUSPEND])
@pytest.mark.parametrize("first", ["the order", "the yes"])
def test_an_order_that_comes_while_somebody_approves_wins(tmp_path: Path, order_of: Order, first: str) -> None:
    home = make_home(tmp_path, LOCAL)

    async def scenario(room: Room) -> None:
        agent, ann, owner = await room.agent(), await room.person(), await room.person()
        call = {"to": "bob@example.com"}
        hold = held(await agent.ask("send", call))
        seen = await answer(ann, "approvals", hold=hold)
        sent: dict[Peer, int] = {}

        def yes() -> None:
            sent[ann] = ann.request("approve", hold=hold, digest=seen["digest"])

        def stop() -> None:
            task = agent.welcome["task"]
            sent[owner] = owner.request("order", order=order_of.value, reach="task", name=task, why="an alarm")

        for act in (stop, yes) if first == "the order" else (yes, stop):
            act()
        told = await agent.receive()
        assert told["type"] == "revoked"
        agent.send({"type": "confirmed", "epoch": told["epoch"]})
        said = {peer: await peer.receive() for peer in sent}
        assert {frame["id"] for frame in said.values()} <= set(sent.values())
        assert said[owner]["type"] == "done"
        refused = await agent.ask("send", call)
        assert (refused["type"], refused["decision"]["reason"]) == ("deny", told["reason"])

    play(home, scenario)
    assert "permitted" not in kinds(home)
    verify_ledger(home)


def test_what_one_agent_is_denied_keeps_no_other_from_an_approval(tmp_path: Path) -> None:
    home = make_home(tmp_path, LOCAL, "[ledger]\ndenials_per_minute = 16\n")

    async def scenario(room: Room) -> None:
        wild, tame, ann = await room.agent(), await room.agent(), await room.person()
        for number in range(40):
            assert (await wild.ask("read_file", {"path": f"{number}"}))["type"] == "deny"
        hold = held(await tame.ask("send", {"to": "a"}))
        assert (await approve(ann, hold))["type"] == "done"
        assert (await tame.ask("send", {"to": "a"}))["type"] == "permit"

    play(home, scenario)
