"""Each promise of docs/threat-model.md that this version keeps, in whole or in part, has a test of its name here.

Real policy, catalogue, ledger and state, and the flow as the decision point drives it. What else proves a promise is
listed in claims.toml.
"""

from __future__ import annotations

import ast
import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from forestall import wire
from forestall.adapter.identity import Peer
from forestall.adapter.ledger import keys as key_files
from forestall.adapter.ledger.log import FileLedger
from forestall.core.ask import Confirm, Perform, Verify
from forestall.core.canonical import digest
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.delegate import delegate
from forestall.core.entry import Kind, Stream, commitment
from forestall.core.fate import Fate
from forestall.core.flow import PERMIT_LIFETIME_MS
from forestall.core.model import Action, Deny, Done, Grant, Hold, Result, Risk, Undone
from forestall.core.reason import Reason
from forestall.core.wanted import DELEGATE
from forestall.home import Home
from forestall.pep.mcp.call import Call, govern
from forestall.pep.mcp.tools import Definitions
from forestall.pep.mcp.want import Forward, Tell
from forestall.server.point import Point
from tests.backends import Desk, install
from tests.controls.room import EFFECTS, PEER, PERMIT_ALL, SERVER, Room, definition, pin
from tests.flow import test_approvals as approving
from tests.points import Peer as Frames
from tests.points import entries, make_home, play, process, until_async, wait_for_socket

ROOT = Path(__file__).resolve().parent.parent.parent
VERIFIER = ROOT / "verify" / "forestall_verify.py"

WRITES = '@id("writes") permit (principal, action == Action::"files/write", resource);'
NO_KEYS = (
    '@id("no-keys") forbid (principal, action == Action::"files/write", resource)'
    ' when { context.args.path like "*.key" };'
)
APPROVED = "context has approval && context.approval.granted"
ASK_FIRST = f'@id("ask") @approvers("owner") permit (principal, action, resource) when {{ {APPROVED} }};'

HELPER = replace(PEER, server="helper")
"""Another agent of this machine."""

CHAIN = Room.mandate('["files/write", "files/send", "files/look"]', '["read", "write"]')
CHAIN += "depth = 1\n"

MakeRoom = Callable[..., Room]


@pytest.fixture
def make_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeRoom]:
    rooms: list[Room] = []

    def make(*policies: str, **more: Any) -> Room:
        rooms.append(Room(tmp_path_factory.mktemp("room") / "home", *policies, **more))
        rooms[-1].open()
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()


def refused(room: Room, asked: Action, **how: Any) -> Reason:
    """Ask for a call that must not happen: the reason, with nothing changed and nothing permitted."""
    files, performed = dict(room.files), len(room.performed)
    outcome = room.ask(asked, **how)
    assert isinstance(outcome, Deny | Hold), outcome
    assert (room.files, len(room.performed)) == (files, performed)
    assert asked.id not in {entry["id"] for entry in room.entries(Stream.PERMITS)}
    return outcome.reason


def done(room: Room, asked: Action) -> Done:
    outcome = room.ask(asked)
    assert isinstance(outcome, Done), outcome
    return outcome


def hand_on(room: Room, task: str = "task-2", to: Peer = HELPER, **wanted: Any) -> Any:
    """What comes of task-1 being handed on to another agent."""
    receiver = room.handlers()[Verify](Verify(to))
    asked = room.action("", to=receiver.id, **wanted)
    return room.run(delegate(replace(asked, tool=DELEGATE.id), to, task))


def handed_on(room: Room, **wanted: Any) -> Grant:
    grant = hand_on(room, **wanted)
    assert isinstance(grant, Grant), grant
    return grant


def verify(ledger: Path, room: Room, *more: str) -> int:
    """The stand-alone verifier, in a process that cannot see our code."""
    words = [sys.executable, "-I", str(VERIFIER), str(ledger), "--key", str(room.home.keys / "log.pub"), *more]
    return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode


# -- 1


def test_no_effect_without_a_permit(make_room: MakeRoom) -> None:
    room = make_room(WRITES, NO_KEYS)
    write = room.action("write", path="a.md", text="x")
    assert refused(room, room.action("write", path="log.key", text="x")) is Reason.FORBIDDEN
    assert refused(room, room.action("delete", path="notes.md")) is Reason.NO_POLICY
    assert refused(room, room.action("format", path="notes.md")) is Reason.UNKNOWN_TOOL
    assert refused(room, room.action("write", path="a.md", mode="0777")) is Reason.INVALID_ARGUMENTS
    assert refused(room, room.action("write", task="task-2", path="a.md")) is Reason.NO_GRANT
    assert refused(room, replace(write, pin=pin("read"))) is Reason.TOOL_CHANGED
    assert refused(room, replace(write, proof="somebody")) is Reason.INVALID_PROOF
    assert room.performed == []

    outcome = done(room, write)
    assert room.files["a.md"] == "x"
    (performed,) = room.performed
    assert performed.action is write
    permit = outcome.permit
    assert (permit.id, permit.tool, permit.pin, permit.digest) == (write.id, write.tool, write.pin, write.digest)
    (entry,) = [entry for entry in room.entries(Stream.PERMITS) if entry["kind"] == Kind.PERMITTED]
    assert (entry["id"], entry["arguments"]) == (write.id, commitment(write))


ASKED = {"path": "a.md", "text": "x"}
PERMIT = {
    "id": "p1",
    "tool": "files/write",
    "pin": pin("write"),
    "digest": digest(ASKED),
    "expires_at": 1_000,
}


def at_the_gateway(permit: dict[str, Any], burnt: set[str], now: int = 0) -> list[bytes]:
    """What reaches the server when the decision point answers a call of `files/write` with this permit."""
    definitions = Definitions(SERVER)
    definitions.learn([definition("write")])
    message = {"method": "tools/call", "params": {"name": "write", "arguments": ASKED}}
    call = Call(1, SERVER, "write", ASKED, message, {}, modern=False)
    burn = lambda name, _expiry: name not in burnt and not burnt.add(name)  # type: ignore[func-returns-value]  # noqa: E731 - a set's add gives None
    talk = govern(call, definitions, burn, lambda: now)
    reached: list[bytes] = []
    answer: Any = None
    try:
        while True:
            want = talk.send(answer)
            answer = {"type": "permit", "permit": permit} if isinstance(want, Tell) else None
            if isinstance(want, Forward):
                reached.append(want.line)
                talk.close()
    except StopIteration:
        return reached


@pytest.mark.parametrize(
    "other",
    [
        {"digest": digest({**ASKED, "text": "y"})},
        {"digest": None},
        {"tool": "files/delete"},
        {"pin": pin("delete")},
        {"pin": ""},
        {"expires_at": 0},
        {"expires_at": "1000"},
        {"id": 1},
    ],
)
def test_a_permit_for_something_else_starts_nothing(other: dict[str, Any]) -> None:
    assert len(at_the_gateway(PERMIT, set())) == 1
    assert at_the_gateway({**PERMIT, **other}, set()) == []


# -- 2


def test_no_permit_without_a_record(make_room: MakeRoom, tmp_path: Path) -> None:
    room = make_room(PERMIT_ALL)
    verified: list[tuple[int, set[str]]] = []
    real = room.handlers()[Perform]

    def perform(ask: Perform) -> Result:
        """What is in the log now verifies and holds the permit; were this the end, the next start would sign it."""
        copy = tmp_path / ask.permit.id
        shutil.copytree(room.home.ledger, copy)
        status = verify(copy, room, "--live")
        with FileLedger.open(copy, keys=key_files.load(room.home.keys)) as next_start:
            written = [one.body for one in next_start.read(Stream.PERMITS)]
        status += verify(copy, room)
        verified.append((status, {one["id"] for one in written if one["kind"] == Kind.PERMITTED}))
        result: Result = real(ask)
        return result

    writes = [room.action(tool, path="a.md", text="x") for tool in ("write", "send", "read")]
    for asked in writes:
        assert isinstance(room.ask(asked, room.handlers(Perform=perform)), Done)
    assert [status for status, _ in verified] == [0, 0, 0]
    assert all(asked.id in ids for asked, (_, ids) in zip(writes, verified, strict=True))

    room.ask(room.action("write", path="a.md", mode="0777"))
    assert [entry["kind"] for entry in room.entries(Stream.DENIALS)] == [Kind.DENIED]
    assert Kind.DENIED not in {entry["kind"] for entry in room.entries(Stream.PERMITS)}


def test_an_output_is_released_only_when_its_outcome_is_recorded(make_room: MakeRoom) -> None:
    room = make_room(PERMIT_ALL)
    real = room.handlers()[Perform]

    def perform(ask: Perform) -> Result:
        room.parts.ledger.close()  # from here on nothing can be written
        result: Result = real(ask)
        return result

    outcome = room.ask(room.action("read", path="notes.md"), room.handlers(Perform=perform))
    assert isinstance(outcome, Undone)
    assert outcome.fate is Fate.AMBIGUOUS
    assert "a secret plan" not in repr(outcome)


def test_what_cannot_be_recorded_is_not_permitted(make_room: MakeRoom) -> None:
    room = make_room(PERMIT_ALL)
    room.parts.ledger.close()
    for tool in EFFECTS:
        outcome = room.ask(room.action(tool, path="notes.md"))
        assert isinstance(outcome, Deny)
        assert outcome.reason is Reason.UNAVAILABLE
    assert room.performed == []


# -- 3


def test_a_permit_acts_at_most_once(make_room: MakeRoom) -> None:
    burnt: set[str] = set()
    assert len(at_the_gateway(PERMIT, burnt)) == 1
    assert at_the_gateway(PERMIT, burnt) == []
    assert at_the_gateway(PERMIT, set(), now=PERMIT["expires_at"]) == []

    room = make_room(PERMIT_ALL)
    asked = room.action("write", path="a.md", text="x")
    assert done(room, asked).permit.expires_at == asked.at + PERMIT_LIFETIME_MS <= asked.at + 10_000
    assert len(room.performed) == 1

    room.close_task()
    assert refused(room, room.action("write", path="a.md", text="y")) in (Reason.NO_GRANT, Reason.TASK_ENDED)


def test_a_permit_dies_with_its_task_its_agent_or_whoever_is_above(make_room: MakeRoom) -> None:
    """It is recorded, and before it is confirmed something ends: nobody gets it."""

    def later(now: Callable[[], int]) -> int:
        return now() + PERMIT_LIFETIME_MS

    def killed(room: Room, reach: Reach, name: str) -> Callable[[], None]:
        return lambda: wire.order_blocking(room.parts, Command(Order.KILL, Target(reach, name), "over", "uid/0"))

    for what in ("its task", "the task above", "its agent", "the agent above", "everything", "time"):
        room = make_room(PERMIT_ALL, mandate=CHAIN, budget="[budget]\nfan_out = 1\n")
        child = handed_on(room)
        every: dict[str, Callable[[], object]] = {
            "its task": partial(room.close_task, "task-2"),
            "the task above": killed(room, Reach.TASK, "task-1"),
            "its agent": killed(room, Reach.AGENT, child.holder),
            "the agent above": killed(room, Reach.AGENT, child.chain[-1][1]),
            "everything": killed(room, Reach.EVERYTHING, ""),
            "time": partial(setattr, room.parts, "now", partial(later, room.now)),
        }
        ends, real = every[what], room.handlers()[Confirm]

        def overtaken(ask: Confirm, ends: Callable[[], object] = ends, real: Any = real) -> Any:
            with ThreadPoolExecutor(1) as elsewhere:  # where another loop may run
                elsewhere.submit(ends).result()
            return real(ask)

        asked = replace(room.action("write", task="task-2", path="a.md", text="x"), proof=HELPER)
        outcome = room.ask(asked, room.handlers(Confirm=overtaken))
        assert isinstance(outcome, Undone), what
        assert outcome.fate is Fate.NOT_STARTED, what
        assert room.performed == [], what


# -- 4


def test_authority_only_shrinks_down_a_chain(make_room: MakeRoom) -> None:
    """From the mandate to the task, and from each task to the one below."""
    room = make_room(PERMIT_ALL, mandate=CHAIN, budget="[budget]\nwrite = 3\nfan_out = 1\n")
    assert refused(room, room.action("delete", path="notes.md")) is Reason.OUT_OF_SCOPE
    assert refused(room, room.action("send", path="notes.md")) is Reason.OUT_OF_SCOPE
    parent = room.parts.state.find_grant("task-1")
    assert parent is not None
    wider: dict[str, Any] = {
        "tools": ["*"],
        "effects": ["external"],
        "budget": {"write": 4},
        "expires_at": parent.expires_at + 1,
        "max_depth": 2,
    }
    for name, value in wider.items():
        assert hand_on(room, **{name: value}).reason is Reason.WIDER, name
    assert hand_on(room, to=PEER).reason is Reason.CYCLE

    child = handed_on(room, tools=["files/write"], budget={"write": 2})
    assert hand_on(room).reason is Reason.BUDGET  # one task may be handed on, in the whole tree

    def below(tool: str) -> Action:
        return replace(room.action(tool, task="task-2", path="a.md"), proof=HELPER)

    assert refused(room, below("look")) is Reason.OUT_OF_SCOPE
    assert refused(room, room.action("write", task="task-2", path="a.md")) is Reason.NOT_HOLDER
    for _ in range(2):
        done(room, below("write"))
    assert refused(room, below("write")) is Reason.BUDGET
    done(room, room.action("write", path="a.md", text="x"))
    assert refused(room, room.action("write", path="a.md", text="x")) is Reason.BUDGET  # one account for the tree
    done(room, room.action("look", path="notes.md"))

    late = replace(room.action("look", path="notes.md"), at=parent.expires_at)
    assert refused(room, late) is Reason.TASK_ENDED
    room.close_task()
    assert refused(room, below("write")) in (Reason.NO_GRANT, Reason.TASK_ENDED)
    assert child.depth == child.max_depth == 1


# -- 5

LENT = '@id("lent") @credential("desk") permit (principal, action in Action::"write", resource);'
DESK = """\
[credentials.desk]
backend = "files"
path = "desk"
place = { where = "header", name = "Authorization", template = "{token}" }
"""
"""What lives, its directory says, whatever Forestall believes."""


async def lent(home: Home, agent: Frames) -> Any:
    """A permit with a credential that works, and nothing of the kind before it."""
    desk = Desk(home.root / "desk")
    assert (await agent.ask("delete_file"))["type"] == "deny"
    assert "issue" not in desk.asked
    permit = await agent.ask()
    assert desk.works(permit["credential"]["placed"][0]["value"])
    (leased,) = (entry for entry in entries(home) if entry["kind"] == "leased")
    assert leased["permit"] == permit["permit"]["id"]
    assert desk.live == {leased["id"]}
    return permit


def ended(home: Home, permit: Any) -> list[str]:
    """Why, as the ledger says. It is gone from its backend, and was never in any file."""
    token = permit["credential"]["placed"][0]["value"]
    assert Desk(home.root / "desk").live == set()
    assert not [file for file in home.root.rglob("*") if file.is_file() and token.encode() in file.read_bytes()]
    return [entry["why"] for entry in entries(home) if entry["kind"] == "revoked"]


@pytest.fixture
def lending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Home]:
    """Makes a home whose credentials come from a directory, by what else its class says."""
    site = install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", f"{site}:{ROOT}")

    def make(more: str) -> Home:
        home = make_home(tmp_path / "home", LENT)
        home.credentials.write_text(DESK + more)
        return home

    return make


@pytest.mark.parametrize(
    ("why", "more"),
    [
        ("done", ""),
        ("failed", ""),
        ("task_ended", 'scope = "task"\n'),
        ("expired", "lifetime_s = 1\n"),
        ("risk", 'scope = "task"\nrevoke_at = "high"\n'),
        ("leaked", 'scope = "task"\n'),
        ("killed", ""),
    ],
)
def test_agents_hold_no_standing_credential(why: str, more: str, lending: Callable[[str], Home]) -> None:
    """There is none before the permit, one for its call or its task, and none after it, whatever ended it."""
    home, permits = lending(more), []
    desk = Desk(home.root / "desk")

    async def end(point: Point, agent: Frames) -> None:
        task = Target(Reach.TASK, str(agent.welcome["task"]))
        match why:
            case "done" | "failed":
                await agent.performed(permits[0], why)
                assert desk.live == set(), "before its output is released"
            case "leaked":
                assert (await agent.performed(permits[0], leaked=True))["type"] == "withhold"
            case "risk":
                await point.orders.give(Command(Order.RISK, task, "odd", "uid/0", Risk.HIGH))
            case "killed":
                giving = asyncio.create_task(point.orders.give(Command(Order.KILL, task, "odd", "uid/0")))
                agent.send({"type": "confirmed", "epoch": (await agent.receive())["epoch"]})
                assert (await giving).credentials_ended == 1
                assert desk.live == set(), "when the kill is acknowledged"

    async def scenario(point: Point) -> None:
        async with await Frames.gateway(home.socket) as agent:
            permits.append(await lent(home, agent))
            await end(point, agent)
            if why != "task_ended":
                await until_async(lambda: not desk.live)
        await until_async(lambda: not point.parts.state.leases())

    play(home, scenario)
    assert ended(home, permits[0]) == [why]


def test_a_crash_leaves_no_credential(lending: Callable[[str], Home]) -> None:
    home, permits = lending('scope = "task"\n'), []

    async def crash(started: subprocess.Popen[bytes]) -> None:
        async with await Frames.gateway(home.socket) as agent:
            permits.append(await lent(home, agent))
            started.kill()

    async def later(point: Point) -> None:
        await until_async(lambda: not point.parts.state.leases())

    with process(home) as started:
        wait_for_socket(home, started)
        asyncio.run(crash(started))
        started.wait()
    assert len(Desk(home.root / "desk").live) == 1
    play(home, later)
    assert ended(home, permits[0]) == ["swept"]


# -- 6


def test_default_deny_fail_closed(make_room: MakeRoom) -> None:
    silent = make_room()
    for tool in EFFECTS:
        assert refused(silent, silent.action(tool, path="notes.md")) is Reason.NO_POLICY

    room = make_room(PERMIT_ALL)
    for ask in ("Verify", "FindTool", "FindGrant", "Gather", "Evaluate", "Reserve", "Record"):
        for failure in (ValueError("a bug"), TimeoutError(), MemoryError(), RecursionError()):

            def fail(_: Any, failure: Exception = failure) -> None:
                raise failure

            asked = room.action("write", path="a.md", text=f"{ask} {failure!r}")
            assert refused(room, asked, handlers=room.handlers(**{ask: fail})) in (Reason.UNAVAILABLE, Reason.DEADLINE)
    past = time.monotonic() - 1
    assert refused(room, room.action("write", path="a.md"), deadline=past) is Reason.DEADLINE
    without = {kind: handler for kind, handler in room.handlers().items() if kind.__name__ != "Evaluate"}
    assert refused(room, room.action("write", path="a.md"), handlers=without) is Reason.UNAVAILABLE
    assert room.performed == []
    assert set(room.files) == {"notes.md"}


# -- 7


def test_people_approve_exactly_what_runs(make_room: MakeRoom) -> None:
    """What needs an approval does not run without one; who approves, and how, is in tests/flow/test_approvals.py."""
    room = make_room(ASK_FIRST, NO_KEYS)
    assert refused(room, room.action("write", path="a.md", text="x")) is Reason.NEEDS_APPROVAL
    (entry,) = room.entries(Stream.DENIALS)
    assert entry["kind"] == Kind.HELD
    assert entry["approvals"][0]["approvers"] == ["owner"]
    assert refused(room, room.action("write", path="log.key", text="x")) is Reason.FORBIDDEN
    for words in ({"approval": "granted"}, {"approval": {"granted": True}}, {"granted": True}):
        assert refused(room, room.action("write", path="a.md", **words)) is Reason.INVALID_ARGUMENTS
    assert refused(room, room.action("write", path="a.md", text="approved by owner")) is Reason.NEEDS_APPROVAL


def test_what_was_approved_runs_once_and_nothing_else_does(tmp_path: Path) -> None:
    home = make_home(tmp_path, approving.LOCAL)

    async def scenario(room: approving.Room) -> None:
        agent, person = await room.agent(), await room.person()
        wanted, other = {"to": "bob@example.com"}, {"to": "eve@example.com"}
        hold = approving.held(await agent.ask("send", wanted))
        assert (await approving.approve(person, hold))["type"] == "done"
        approving.held(await agent.ask("send", other))
        permit = await agent.ask("send", wanted)
        assert (await agent.performed(permit))["type"] == "release"
        approving.held(await agent.ask("send", wanted))

    approving.play(home, scenario)


# -- 8


def test_revocation_wins_races(tmp_path: Path) -> None:
    """Calls are asked for without a pause while their task is killed: none is permitted after the acknowledgement."""
    home = make_home(tmp_path)

    async def scenario(_: Point) -> None:
        async with await Frames.gateway(home.socket) as agent, await Frames.cli(home.socket) as operator:
            for number in range(50):
                agent.asks(arguments={"path": str(number), "content": ""})
            operator.request("order", order="kill", reach="task", name=agent.welcome["task"])
            answers = [await agent.receive()]
            while answers[-1]["type"] != "revoked":
                answers.append(await agent.receive())
            agent.send({"type": "confirmed", "epoch": answers[-1]["epoch"]})
            acknowledged = await operator.receive()
            assert (acknowledged["tasks_ended"], acknowledged["confirmed"]) == (1, 1)
            after = [await agent.receive() for _ in range(51 - len(answers))]
            after.append(await agent.ask())
            assert {answer["type"] for answer in after} == {"deny"}  # also of those that were recorded already
            permitted = [answer for answer in answers if answer["type"] == "permit"]
            outputs = [(await agent.performed(permit))["type"] for permit in permitted]
            assert outputs == ["withhold"] * len(permitted)

    play(home, scenario)
    written = entries(home)
    assert {one["id"] for one in written if one["kind"] == "permitted"} == {
        one["id"] for one in written if one["kind"] == "settled"
    }


# -- 10


def test_anyone_can_check_the_evidence(make_room: MakeRoom, tmp_path: Path) -> None:
    room = make_room(WRITES)
    for number in range(3):
        done(room, room.action("write", path=f"{number}.md", text="x"))
        refused(room, room.action("delete", path=f"{number}.md"))
    remembered = tmp_path / "remembered"
    room.parts.ledger.flush()
    early = shutil.copytree(room.home.ledger, tmp_path / "early")
    done(room, room.action("write", path="last.md", text="x"))
    room.close()
    assert verify(room.home.ledger, room, "--write-remembered", str(remembered)) == 0

    for stream in ("permits", "denials"):
        good = (room.home.ledger / f"{stream}.log").read_bytes()
        for number, at in enumerate(range(40, len(good), max(1, len(good) // 12))):
            forged = shutil.copytree(room.home.ledger, tmp_path / f"{stream}-{number}")
            (forged / f"{stream}.log").write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            assert verify(forged, room) != 0, (stream, at)
        cut = shutil.copytree(room.home.ledger, tmp_path / f"{stream}-cut")
        (cut / f"{stream}.log").write_bytes(good[:-20])
        assert verify(cut, room) != 0

    assert verify(early, room) == 0  # an older signed state looks good by itself
    assert verify(early, room, "--remembered", str(remembered)) != 0


def test_the_verifier_shares_no_code_with_us() -> None:
    tree = ast.parse(VERIFIER.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert foreign == {"cryptography"}
