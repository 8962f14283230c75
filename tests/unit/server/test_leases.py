"""Credentials at the decision point: each is written down, made, used and ended, whatever goes wrong in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from forestall.core.control import Command, Order, Reach, Target
from forestall.core.model import Risk
from forestall.home import Home
from forestall.server.orders import Acknowledged
from forestall.server.point import Point
from tests.backends import Desk, install
from tests.points import Peer, entries, kinds, make_home, play, until_async, verify_ledger

POLICY = """\
@id("reads") permit (principal, action in Action::"read", resource);
@id("writes") @credential("desk") permit (principal, action in Action::"write", resource);
"""

PATIENT_MS = 60_000
IMPATIENT_MS = 400

CLASS = '[credentials.desk]\nbackend = "files"\npath = "desk"\n'
PLACE = 'place = { where = "header", name = "Authorization", template = "{token}" }\n'


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path, POLICY)
    patience(home, PATIENT_MS)
    write(home)
    return home


@pytest.fixture
def desk(home: Home) -> Desk:
    return Desk(home.root / "desk")


def patience(home: Home, timeout_ms: int) -> None:
    """How long a backend is waited for. What it answers at all, it does in `PATIENT_MS` on any machine."""
    home.config.write_text(f"[serve]\ndecision_timeout_ms = {PATIENT_MS}\ncredential_timeout_ms = {timeout_ms}\n")


def write(home: Home, more: str = "") -> None:
    home.credentials.write_text(f"{CLASS}{PLACE}{more}")


def about(home: Home, kind: str) -> list[dict[str, Any]]:
    return [dict(entry) for entry in entries(home) if entry["kind"] == kind]


def whys(home: Home) -> list[str]:
    return [entry["why"] for entry in about(home, "revoked")]


def renewal_due(point: Point) -> int:
    """Of the one that there is: in the future once its backend's answer is taken in."""
    (due,) = point.parts.lending.living.renewable().values()
    return due


def alive(point: Point) -> int:
    return len(point.parts.state.leases())


def test_a_credential_is_there_while_the_call_runs_and_gone_before_its_output_is_released(
    home: Home, desk: Desk
) -> None:
    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            permit = await peer.ask()
            assert permit["type"] == "permit"
            assert desk.live == {f"forestall-{point.parts.lending.owner}-{permit['permit']['id']}"}
            assert desk.works(permit["credential"]["placed"][0]["value"])
            assert (await peer.performed(permit))["type"] == "release"
            assert desk.live == set()

    play(home, scenario)
    assert [kind for kind in kinds(home) if kind not in {"opened", "closed"}] == [
        "permitted", "leased", "revoked", "settled"
    ]  # fmt: skip
    (leased,), (revoked,) = about(home, "leased"), about(home, "revoked")
    assert revoked["why"] == "done"
    assert leased["permit"] == revoked["permit"] == about(home, "permitted")[0]["id"]
    assert (leased["credential"], leased["backend"], leased["scope"]) == ("desk", "files", "action")
    assert leased["expires_at"] - leased["at"] == pytest.approx(300_000, abs=10_000)
    verify_ledger(home)


def test_a_call_that_needs_none_asks_no_backend(home: Home, desk: Desk) -> None:
    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask("read_file"))

    play(home, scenario)
    assert "issue" not in desk.asked
    assert not about(home, "leased")


def test_a_tasks_credential_is_made_once_and_ends_with_the_task(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            for _ in range(3):
                await peer.performed(await peer.ask())
            assert len(desk.live) == 1
        await until_async(lambda: alive(point) == 0)
        assert desk.live == set()

    play(home, scenario)
    assert desk.asked.count("issue") == 1
    assert whys(home) == ["task_ended"]
    assert len(about(home, "leased")) == 1


def test_calls_that_need_a_tasks_first_one_together_each_get_one_and_all_end_with_the_task(
    home: Home, desk: Desk
) -> None:
    write(home, 'scope = "task"\n')
    desk.fault(issue="slow")

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            for _ in range(3):
                peer.asks()
            await until_async(lambda: desk.asked.count("issue") == 3)
            desk.fault()
            permits = [await peer.receive() for _ in range(3)]
            assert {permit["type"] for permit in permits} == {"permit"}
            assert len(desk.live) == 3
            for permit in permits:
                await peer.performed(permit)
            await peer.performed(await peer.ask())
            assert len(desk.live) == 3
        await until_async(lambda: alive(point) == 0)

    play(home, scenario)
    assert desk.live == set()
    assert whys(home) == ["task_ended"] * 3


@pytest.mark.parametrize("fault", ["down", "lost", "slow"])
def test_where_it_cannot_be_made_nothing_runs_and_what_was_made_is_ended(home: Home, desk: Desk, fault: str) -> None:
    desk.fault(issue=fault)
    patience(home, IMPATIENT_MS if fault == "slow" else PATIENT_MS)

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            answer = await peer.ask()
            assert answer["decision"]["reason"] == "unavailable"
            desk.fault()
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()
            assert point.leases.book.rows() == []

    play(home, scenario)
    assert about(home, "settled")[0]["fate"] == "not_started"
    assert len(about(home, "revoked")) == 1


def test_until_a_late_backend_has_answered_its_credential_is_not_said_to_be_over(home: Home, desk: Desk) -> None:
    desk.fault(issue="slow")
    patience(home, IMPATIENT_MS)

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            assert (await peer.ask())["type"] == "deny"
            point.leases.look()
            assert alive(point) == 1
            desk.fault()
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()

    play(home, scenario)
    assert whys(home) == ["late"]
    assert desk.asked.count("revoke") == 2  # by the thread that made it, and by the keeper


def test_an_end_that_fails_is_tried_again_until_the_backend_takes_it(home: Home, desk: Desk) -> None:
    desk.fault(revoke="down")

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            permit = await peer.ask()
            assert (await peer.performed(permit))["type"] == "release"
            await until_async(lambda: bool(point.leases.book.failing))
            (row,) = point.leases.book.rows()
            assert (row["state"], row["why"], row["detail"]) == ("failing", "settled", "the directory does not answer")
            assert len(desk.live) == 1
            assert not about(home, "revoked")
            desk.fault()
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()
            assert not point.leases.book.failing

    play(home, scenario)
    assert whys(home) == ["settled"]


def test_a_backend_that_lies_about_an_end_is_found_out_by_its_own_list(home: Home, desk: Desk) -> None:
    desk.fault(revoke="lie")

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            assert len(desk.live) == 1
        desk.fault()

    play(home, scenario)

    async def later(_point: Point) -> None:
        await until_async(lambda: desk.live == set())

    play(home, later)
    assert whys(home) == ["done", "orphan"]


def test_what_nobody_remembers_is_ended_at_a_start_and_what_is_not_ours_is_not(home: Home, desk: Desk) -> None:
    async def scenario(point: Point) -> None:
        nonlocal owner
        owner = point.parts.lending.owner

    owner = ""
    play(home, scenario)
    others = {"forestall-00000000-1", "forestall-service", "somebody"}
    for name in {f"forestall-{owner}-{'0' * 32}", f"forestall-{owner}-../../keys/log.key", *others}:
        if "/" not in name:
            desk.leave(name)

    async def later(point: Point) -> None:
        await until_async(lambda: desk.live == others)

    play(home, later)
    (revoked,) = about(home, "revoked")
    assert (revoked["why"], revoked["permit"], revoked["credential"]) == ("orphan", "0" * 32, "desk")


def test_a_kill_ends_credentials_and_its_answer_says_how_many(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer, await Peer.gateway(home.socket) as other:
            for one in (peer, other):
                await one.performed(await one.ask())
            assert len(desk.live) == 2
            giving = asyncio.create_task(point.orders.give(kill(peer.welcome["task"])))
            told = await peer.receive()
            peer.send({"type": "confirmed", "epoch": told["epoch"]})
            answer = await giving
            assert (answer.credentials_ended, answer.credentials_left) == (1, 0)
            assert len(desk.live) == 1

    play(home, scenario)
    assert whys(home) == ["killed", "task_ended"]


def test_a_kill_does_not_wait_for_a_backend_that_is_slow_and_says_so(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            desk.fault(revoke="slow")
            giving = asyncio.create_task(point.orders.give(kill(peer.welcome["task"])))
            told = await peer.receive()
            peer.send({"type": "confirmed", "epoch": told["epoch"]})
            answer = await giving
            assert (answer.credentials_ended, answer.credentials_left) == (0, 1)
            desk.fault()
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()

    play(home, scenario)


def kill(task: str) -> Command:
    return Command(Order.KILL, Target(Reach.TASK, task), "why", "uid/0")


def test_a_kill_ends_the_credential_of_a_call_that_runs(home: Home, desk: Desk) -> None:
    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.ask()
            giving = asyncio.create_task(point.orders.give(kill(peer.welcome["task"])))
            told = await peer.receive()
            peer.send({"type": "confirmed", "epoch": told["epoch"]})
            assert (await giving).credentials_ended == 1
            assert desk.live == set()

    play(home, scenario)
    assert whys(home) == ["killed"]


@pytest.mark.parametrize("scope", ["action", "task"])
def test_a_suspension_ends_credentials_and_a_resumed_task_gets_new_ones(home: Home, desk: Desk, scope: str) -> None:
    write(home, f'scope = "{scope}"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer, await Peer.gateway(home.socket) as other:
            running = await peer.ask()
            if scope == "task":
                await other.performed(await other.ask())
            task = str(peer.welcome["task"])
            answer = await given(point, peer, Order.SUSPEND, task)
            assert (answer.tasks_suspended, answer.credentials_ended, answer.credentials_left) == (1, 1, 0)
            assert len(desk.live) == int(scope == "task")
            assert not desk.works(running["credential"]["placed"][0]["value"])
            assert (await peer.performed(running))["type"] == "release"
            assert (await peer.ask())["decision"]["reason"] == "suspended"
            await point.orders.give(Command(Order.RESUME, Target(Reach.TASK, task), "fine", "uid/0"))
            permit = await peer.ask()
            assert desk.works(permit["credential"]["placed"][0]["value"])
            await peer.performed(permit)

    play(home, scenario)
    ends = {"action": ["suspended", "done"], "task": ["suspended", "task_ended", "task_ended"]}
    assert whys(home) == ends[scope]
    assert desk.live == set()
    verify_ledger(home)


def test_a_backend_that_does_not_take_the_end_of_a_suspension_is_asked_until_it_does(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\n')
    desk.fault(revoke="down")

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            task = str(peer.welcome["task"])
            answer = await given(point, peer, Order.SUSPEND, task)
            assert (answer.credentials_ended, answer.credentials_left) == (0, 1)
            await point.orders.give(Command(Order.RESUME, Target(Reach.TASK, task), "fine", "uid/0"))
            assert [(row["state"], row["why"]) for row in point.leases.book.rows()] == [("failing", "suspended")]
            await peer.performed(await peer.ask())
            assert len(desk.live) == 2
            desk.fault()
            await until_async(lambda: len(desk.live) == 1)

    play(home, scenario)
    assert whys(home) == ["suspended", "task_ended"]
    assert desk.live == set()


def test_what_is_being_made_for_a_task_that_is_suspended_counts_as_left_and_is_given_to_nobody(
    home: Home, desk: Desk
) -> None:
    desk.fault(issue="slow")

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            peer.asks()
            await until_async(lambda: "issue" in desk.asked)
            giving = asyncio.create_task(
                point.orders.give(Command(Order.SUSPEND, Target(Reach.EVERYTHING), "", "uid/0"))
            )
            told = {}
            while told.get("type") != "revoked":
                told = await peer.receive()
            peer.send({"type": "confirmed", "epoch": told["epoch"]})
            answer = await giving
            assert (answer.credentials_ended, answer.credentials_left) == (0, 1)
            desk.fault()
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()

    play(home, scenario)
    assert len(whys(home)) == 1


async def given(point: Point, peer: Peer, order: Order, task: str) -> Acknowledged:
    """The order, which the peer confirms."""
    giving = asyncio.create_task(point.orders.give(Command(order, Target(Reach.TASK, task), "why", "uid/0")))
    told = await peer.receive()
    peer.send({"type": "confirmed", "epoch": told["epoch"]})
    return await giving


def test_risk_that_rises_ends_it_and_no_other_is_made(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\nrevoke_at = "medium"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            target = Target(Reach.TASK, str(peer.welcome["task"]))
            await point.orders.give(Command(Order.RISK, target, "odd", "uid/0", Risk.MEDIUM))
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()
            answer = await peer.ask()
            assert answer["decision"]["reason"] == "forbidden"

    play(home, scenario)
    assert whys(home) == ["risk"]


def test_what_was_seen_where_it_must_not_be_ends_though_its_task_goes_on(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            answer = await peer.performed(await peer.ask(), leaked=True)
            assert answer["reason"] == "leaked"
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()

    play(home, scenario)
    assert whys(home) == ["leaked"]


def test_a_fault_while_it_looks_does_not_end_the_keeper(
    home: Home, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        failed = asyncio.Event()

        def fails() -> list[Any]:
            failed.set()
            raise KeyError("a fault of our own")

        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            with monkeypatch.context() as patch:
                patch.setattr(point.leases.book, "due", fails)
                point.leases.wake()
                await failed.wait()
        await until_async(lambda: alive(point) == 0)
        assert desk.live == set()

    play(home, scenario)
    assert whys(home) == ["task_ended"]


def test_at_the_end_of_the_process_nothing_lives(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            assert len(desk.live) == 1
            point.stop()
            assert await peer.ended()

    play(home, scenario)
    assert desk.live == set()
    assert whys(home) == ["task_ended"]


def test_one_that_lives_on_is_renewed_while_its_task_is_open(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\nrenewable = true\nlifetime_s = 4\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            await until_async(lambda: desk.asked.count("renew") >= 2)
            await until_async(lambda: renewal_due(point) > point.parts.now())
            await peer.performed(await peer.ask())
            assert len(desk.live) == 1

    play(home, scenario)
    assert desk.asked.count("issue") == 1


def test_one_that_cannot_be_renewed_ends_and_the_next_call_makes_another(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\nrenewable = true\nlifetime_s = 3\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            desk.fault(renew="down")
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()
            assert (await peer.performed(await peer.ask()))["type"] == "release"

    play(home, scenario)
    assert whys(home) == ["expired", "task_ended"]


def test_a_reload_that_fails_changes_no_class(home: Home, desk: Desk) -> None:
    async def scenario(point: Point) -> None:
        before = point.parts.lending.classes
        write(home, "lifetime_s = 7\n")
        (home.root / "identity.toml").write_text("not = [settings")
        assert "stays in force" in await point.reload()
        assert point.parts.lending.classes is before
        (home.root / "identity.toml").unlink()
        assert not await point.reload()
        assert point.parts.lending.classes["desk"].lifetime_ms == 7000

    play(home, scenario)


OTHER = '[credentials.other]\nbackend = "files"\npath = "other"\nscope = "task"\n'


def test_a_class_that_is_changed_ends_what_tasks_have_of_it_and_the_next_call_gets_another(
    home: Home, desk: Desk
) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            before = set(desk.live)
            write(home, 'scope = "task"\nlifetime_s = 60\n')
            assert await point.reload() == ""
            await until_async(lambda: desk.live == set())
            permit = await peer.ask()
            assert desk.live
            assert desk.live != before
            await peer.performed(permit)

    play(home, scenario)
    assert whys(home) == ["class_changed", "task_ended"]
    assert desk.live == set()
    verify_ledger(home)


@pytest.mark.parametrize(
    "text",
    [
        f"# for the shop\n{CLASS}{PLACE}scope='task' # and no longer\n\n",
        f'{CLASS}scope = "task"\nlifetime_s = 300\nreads_only = false\n{PLACE}',
        f'{CLASS}{PLACE}scope = "task"\n{OTHER}',
    ],
    ids=["a comment", "what was so anyway", "another class"],
)
def test_a_reload_that_changes_nothing_of_a_class_ends_nothing(home: Home, desk: Desk, text: str) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            before = desk.live
            home.credentials.write_text(text)
            assert await point.reload() == ""
            assert point.parts.lending.living.due() == []
            await peer.performed(await peer.ask())
            assert desk.live == before

    play(home, scenario)
    assert whys(home) == ["task_ended"]
    assert desk.asked.count("issue") == 1


def test_a_class_of_another_backend_now_leaves_what_it_made_to_the_one_before_until_it_is_over(
    home: Home, desk: Desk
) -> None:
    write(home, 'scope = "task"\n')
    desk.fault(revoke="down")
    closed = desk.folder / "closed"

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            home.credentials.write_text(OTHER.replace("other]", "desk]") + PLACE)
            assert await point.reload() == ""
            await until_async(lambda: bool(point.leases.book.failing))
            (row,) = point.leases.book.rows()
            assert (row["state"], row["why"]) == ("failing", "class_changed")
            assert not closed.exists()
            permit = await peer.ask()
            assert len(Desk(home.root / "other").live) == 1
            await peer.performed(permit)
            desk.fault()
            await until_async(lambda: desk.live == set() and closed.exists())

    play(home, scenario)
    assert whys(home) == ["class_changed", "task_ended"]
    assert Desk(home.root / "other").live == set()


def test_a_class_that_is_removed_ends_what_tasks_have_of_it(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\n')

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())
            (home.policy / "own.cedar").write_text('permit (principal, action in Action::"read", resource);')
            home.credentials.unlink()
            assert await point.reload() == ""
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()

    play(home, scenario)
    assert whys(home) == ["class_changed"]


def test_what_a_call_has_of_a_class_that_is_changed_ends_with_the_call(home: Home, desk: Desk) -> None:
    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            permit = await peer.ask()
            write(home, "lifetime_s = 60\n")
            assert await point.reload() == ""
            assert point.parts.lending.living.due() == []
            assert desk.works(permit["credential"]["placed"][0]["value"])
            await peer.performed(permit)
            assert desk.live == set()
            home.credentials.unlink()
            refused = await point.reload()
            assert "credentials.toml has no class `desk`" in refused
            assert "own.cedar:2:" in refused
            assert (await peer.ask())["type"] == "permit"

    play(home, scenario)
    assert whys(home)[0] == "done"


def test_what_a_class_was_asked_for_while_it_was_changed_is_given_to_nobody(home: Home, desk: Desk) -> None:
    write(home, 'scope = "task"\n')
    desk.fault(issue="slow")

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            peer.asks()
            await until_async(lambda: "issue" in desk.asked)
            write(home, 'scope = "task"\nlifetime_s = 60\n')
            assert await point.reload() == ""
            desk.fault()
            assert (await peer.receive())["decision"]["reason"] == "unavailable"
            await until_async(lambda: alive(point) == 0)
            assert desk.live == set()

    play(home, scenario)


def test_a_class_that_is_gone_and_was_not_kept_leaves_what_it_made_failing_and_says_what_to_do(
    home: Home, desk: Desk
) -> None:
    patience(home, IMPATIENT_MS)  # so long does the end of the process wait for what cannot be ended
    desk.fault(revoke="down")

    async def scenario(point: Point) -> None:
        async with await Peer.gateway(home.socket) as peer:
            await peer.performed(await peer.ask())

    play(home, scenario)
    desk.fault()
    home.credentials.unlink()
    (kept,) = (home.run / "classes").iterdir()
    kept.write_text("nothing that reads")
    (home.policy / "own.cedar").write_text('permit (principal, action in Action::"read", resource);')

    async def later(point: Point) -> None:
        await until_async(lambda: bool(point.leases.book.failing))
        (row,) = point.leases.book.rows()
        assert row["why"] == "class_changed"
        assert "put it back until this is over" in row["detail"]
        write(home)
        assert await point.reload() == ""
        await until_async(lambda: alive(point) == 0)

    play(home, later)
    assert desk.live == set()
