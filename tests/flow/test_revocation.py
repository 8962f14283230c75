"""Promise 8 with real processes: gateways, tool servers and decision points that are killed, stopped, and come back."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from forestall.core.reason import Reason
from forestall.frame import encode
from forestall.home import Home
from forestall.pep.blocking import Connection
from tests.mcpkit.decision_point import CANARY, DecisionPoint, Frame, permit_all
from tests.mcpkit.decision_point import permit as permit_of
from tests.mcpkit.home import home_of, serving, stop
from tests.mcpkit.session import WITHIN_S, Session, decision, gateway
from tests.points import WAIT_S, Peer, entries, make_home, process, until, verify_ledger, wait_for_socket
from tests.processes import of_group

pytestmark = pytest.mark.slow

CLOCKED = [sys.executable, str(Path(__file__).parent.parent / "mcpkit" / "clocked_server.py")]
REFUSED = 77
GATEWAYS = 20
PATIENT = """\
[serve]
handshake_timeout_ms = 60000
decision_timeout_ms = 60000
heartbeat_ms = 60000
"""
LEASE = 50


@pytest.fixture(scope="module")
def prepared() -> Iterator[Home]:
    with home_of({"clocked": CLOCKED}) as home:
        yield home


@pytest.fixture
def home(prepared: Home) -> Iterator[Home]:
    with home_of({}) as home:
        for file in prepared.catalogue.iterdir():
            (home.catalogue / file.name).write_bytes(file.read_bytes())
        yield home


def command(home: Home, *words: str) -> dict[str, Any]:
    """What `forestall` says, as a process of its own."""
    line = [sys.executable, "-m", "forestall.cli", words[0], "--home", str(home.root), *words[1:], "--json"]
    done = subprocess.run(line, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def only_task(home: Home) -> str:
    (task,) = command(home, "tasks")["tasks"]
    return str(task["task"])


def seen(clock: Path) -> list[list[str]]:
    return [line.split() for line in clock.read_text().splitlines()] if clock.exists() else []


def group_of(gateway_process: int) -> int:
    """The process of its server, which leads a group of its own, and was started after the decision point was."""
    return int(Path(f"/proc/{gateway_process}/task/{gateway_process}/children").read_text().split()[-1])


def test_a_kill_cancels_what_runs_withholds_its_output_and_ends_the_server_with_all_that_it_started(
    home: Home, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    with Session(gateway(home.root, CLOCKED, name="clocked"), CLOCK=str(clock), CHILD="1") as client:
        client.initialize()
        client.call(1, "slow")
        until(lambda: bool(seen(clock)))
        group, task = group_of(client.process.pid), only_task(home)
        assert len(of_group(group)) == 2
        said = command(home, "kill", task[:8], "--why", "a test")
        assert (said["tasks_ended"], said["confirmed"], said["unconfirmed"]) == (1, 1, 0)
        assert of_group(group) == []  # by the time that it is acknowledged
        told = decision(client.answer_to(1))
        assert (told["reason"], told["retry"]) == ("revoked", "final")
        client.call(2, "touch")
        denied = decision(client.answer_to(2))
        assert denied["reason"] == "revoked"
        assert denied["decision_id"]  # it was recorded
        assert [words[1] for words in seen(clock)] == ["slow", "cancelled"]
        status, complaint = client.end()
        assert (status, complaint.count(Reason.REVOKED.advice.sentence)) == (REFUSED, 1)
    stop(home)
    written = entries(home)
    assert [entry["kind"] for entry in written] == ["opened", "permitted", "ordered", "settled"]
    assert (written[2]["name"], written[2]["why"], written[2]["by"]) == (task, "a test", f"uid/{os.geteuid()}")
    assert written[3]["fate"] == "ambiguous"


def test_an_output_that_came_while_its_gateway_was_stopped_is_not_released_once_a_kill_is_acknowledged(
    home: Home, tmp_path: Path
) -> None:
    home.config.write_text(PATIENT)  # no heartbeat before the answer: what came first is read first
    with Session(gateway(home.root, CLOCKED, name="clocked"), CLOCK=str(tmp_path / "clock")) as client:
        client.initialize()
        client.call(0, "touch")  # raises the labels of its task as far as its output can
        client.answer_to(0)
        server, task = group_of(client.process.pid), only_task(home)
        os.kill(server, signal.SIGSTOP)
        running = call_until(client, there(server, 0))
        os.kill(client.process.pid, signal.SIGSTOP)
        until_stopped(client.process.pid)
        os.kill(server, signal.SIGCONT)
        answered = there(server, 1)
        assert select.select([answered], [], [], WAIT_S)[0], "before the decision point has anything to say"
        os.close(answered)
        said = command(home, "kill", task)
        assert (said["tasks_ended"], said["confirmed"], said["unconfirmed"]) == (1, 0, 1)
        os.kill(client.process.pid, signal.SIGCONT)
        assert decision(client.answer_to(running))["reason"] in {"revoked", "outcome_unknown"}
        client.end()


def there(process: int, descriptor: int) -> int:
    """The end for reading of a pipe that it has."""
    return os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK)


def call_until(client: Session, pipe: int) -> int:
    """The id of a call that lies in the pipe. Where the machine stalls for a second one is denied, and the next is
    tried.
    """
    for number in itertools.count(1):
        client.call(number, "touch")
        ready, _, _ = select.select([pipe, client.process.stdout], [], [], WAIT_S)
        if pipe in ready:
            os.close(pipe)
            return number
        client.answer_to(number)
    raise AssertionError


def until_stopped(process: int) -> None:
    status = Path(f"/proc/{process}/stat")
    until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")


def test_a_suspension_leaves_what_runs_and_a_resume_lets_it_go_on(home: Home, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    with Session(gateway(home.root, CLOCKED, name="clocked"), CLOCK=str(clock)) as client:
        client.initialize()
        client.call(1, "slow")
        until(lambda: bool(seen(clock)))
        said = command(home, "suspend", "--everything")
        assert (said["tasks_suspended"], said["confirmed"], said["unconfirmed"]) == (1, 1, 0)
        client.call(2, "touch")
        assert decision(client.answer_to(2))["reason"] == "suspended"
        said = command(home, "resume", "--everything")
        assert said["tasks_resumed"] == 1
        client.call(3, "touch")
        assert "isError" not in client.answer_to(3)["result"]
        assert [words[1] for words in seen(clock)] == ["slow", "touch"]


def test_a_kill_between_permit_and_report(tmp_path: Path) -> None:
    home = make_home(tmp_path)

    async def scenario() -> None:
        async with await Peer.gateway(home.socket) as peer:
            permit = await peer.ask()
            assert permit["type"] == "permit"
            killing = asyncio.create_task(asyncio.to_thread(command, home, "kill", peer.welcome["task"]))
            revoked = await peer.receive()
            assert (revoked["type"], revoked["reason"]) == ("revoked", "revoked")
            assert not killing.done()
            assert (await peer.performed(permit))["type"] == "withhold"
            assert (await peer.ask())["decision"]["reason"] == "revoked"
            peer.send({"type": "confirmed", "epoch": revoked["epoch"]})
            assert (await killing)["confirmed"] == 1

    with process(home) as started:
        wait_for_socket(home, started)
        asyncio.run(scenario())
        with Connection(home.socket, WAIT_S) as connection:
            connection.ask("stop")
        started.wait(WAIT_S)
    verify_ledger(home)


def test_who_does_not_confirm_is_waited_for_as_long_as_its_leases_and_then_disconnected(tmp_path: Path) -> None:
    home = make_home(tmp_path)

    async def scenario() -> None:
        async with await Peer.gateway(home.socket) as peer:
            assert (await peer.ask())["type"] == "permit"
            said = await asyncio.to_thread(command, home, "kill", peer.welcome["task"])
            assert (said["confirmed"], said["unconfirmed"]) == (0, 1)
            assert said["took_ms"] >= 1000
            assert await peer.ended()

    with process(home) as started:
        wait_for_socket(home, started)
        asyncio.run(scenario())


class Stopping:
    """Answers as one that permits all, and stops the gateway in the moment in which its permit is on the way."""

    def __init__(self, more: Mapping[str, Any] | None = None) -> None:
        self.gateway = 0
        self.start_by = 0
        self._more = more
        self.point: DecisionPoint | None = None

    def __call__(self, frame: Frame) -> Frame | None:
        if frame["type"] != "ask" or frame["tool"].endswith(CANARY):
            return permit_all(frame)
        os.kill(self.gateway, signal.SIGSTOP)
        self.start_by = int(time.time() * 1000) + LEASE
        answer = permit_of(frame, start_by=self.start_by)
        if self._more is None or self.point is None:
            return answer
        for connection in self.point._connections:
            connection.sendall(encode({"id": frame["id"], **answer}) + encode(dict(self._more)))
        return None

    def stopped(self, client: Session) -> None:
        until(lambda: self.start_by > 0)
        until_stopped(client.process.pid)


@pytest.fixture
def socket_home() -> Iterator[Path]:
    """With a path short enough for a socket."""
    root = Path(tempfile.mkdtemp(prefix="fr-"))
    (root / "run").mkdir()
    yield root
    shutil.rmtree(root)


def test_a_gateway_that_was_stopped_past_its_lease_starts_nothing(socket_home: Path, tmp_path: Path) -> None:
    clock, answers = tmp_path / "clock", Stopping()
    point = DecisionPoint(socket_home / "run" / "socket", answers)
    with Session(gateway(socket_home, CLOCKED, name="clocked"), CLOCK=str(clock)) as client:
        answers.gateway = client.process.pid
        client.initialize()
        client.call(1, "touch")
        answers.stopped(client)
        until(lambda: time.time() * 1000 > answers.start_by)
        os.kill(client.process.pid, signal.SIGCONT)
        assert decision(client.answer_to(1))["reason"] == "unavailable"
        assert [frame["fate"] for frame in point.wait_for("performed")] == ["not_started"]
        assert seen(clock) == []
        client.end()
    point.close()


@pytest.mark.parametrize("reason", ["revoked", "suspended"])
def test_an_order_that_is_in_the_buffer_counts_before_a_permit_that_is(
    socket_home: Path, tmp_path: Path, reason: str
) -> None:
    clock, answers = tmp_path / "clock", Stopping({"type": "revoked", "reason": reason, "epoch": 4})
    answers.point = point = DecisionPoint(socket_home / "run" / "socket", answers)
    with Session(gateway(socket_home, CLOCKED, name="clocked"), CLOCK=str(clock)) as client:
        answers.gateway = client.process.pid
        client.initialize()
        client.call(1, "touch")
        answers.stopped(client)
        os.kill(client.process.pid, signal.SIGCONT)
        assert decision(client.answer_to(1))["reason"] == reason
        assert [frame["epoch"] for frame in point.wait_for("confirmed")] == [4]
        assert [frame["fate"] for frame in point.wait_for("performed")] == ["not_started"]
        assert seen(clock) == []
        client.end()
    point.close()


def test_while_the_decision_point_is_stopped_calls_are_refused_at_once_and_a_kill_works_when_it_goes_on(
    home: Home, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    with Session(gateway(home.root, CLOCKED, name="clocked"), CLOCK=str(clock)) as client:
        client.initialize()
        client.call(0, "touch")
        assert "isError" not in client.answer_to(0)["result"]
        task, point = only_task(home), serving(home)
        os.kill(point, signal.SIGSTOP)
        try:
            number = 0
            reasons: list[str] = []
            while reasons[-2:] != ["unavailable", "unavailable"]:
                number += 1
                client.call(number, "touch")
                reasons.append(decision(client.answer_to(number))["reason"])
            line = [sys.executable, "-m", "forestall.cli", "kill", "--home", str(home.root), task]
            killing = subprocess.Popen(line, stdout=subprocess.PIPE)
        finally:
            os.kill(point, signal.SIGCONT)
        said, _ = killing.communicate(timeout=WAIT_S)
        assert b"1 of 1 enforcement point confirmed" in said
        client.call("last", "touch")
        assert decision(client.answer_to("last"))["reason"] == "revoked"
        assert len(seen(clock)) == 1
        client.end()


def test_a_kill_outlives_the_decision_point_that_took_it(home: Home) -> None:
    with Session(gateway(home.root, CLOCKED, name="clocked")) as client:
        client.initialize()
        (task,) = command(home, "tasks")["tasks"]
        said = command(home, "kill", "--agent", task["holder"])
        assert said["tasks_ended"] == 1
        os.kill(serving(home), signal.SIGKILL)
        client.call(1, "touch")
        assert decision(client.answer_to(1))["reason"] == "revoked"
        client.end()
    told = subprocess.run(
        gateway(home.root, CLOCKED, name="clocked"), capture_output=True, timeout=WITHIN_S, check=False
    )
    assert told.returncode == 69  # another decision point, the same order
    assert b"revoked" in told.stderr
    (order,) = command(home, "tasks")["orders"]
    assert (order["order"], order["reach"], order["name"]) == ("kill", "agent", task["holder"])
    assert command(home, "resume", "--agent", task["holder"])["epoch"] == 2
    with Session(gateway(home.root, CLOCKED, name="clocked")) as client:
        client.initialize()
        client.call(1, "touch")
        assert "isError" not in client.answer_to(1)["result"]


def keep_calling(client: Session, refused: threading.Barrier) -> None:
    """Until its task is revoked; then once more, when all are."""
    reason, number = "", 0
    while reason != "revoked":
        assert reason in {"", "unavailable"}  # where this machine is busier than a permit's lease is long
        number += 1
        client.call(number, "touch")
        answer = client.answer_to(number)
        reason = decision(answer)["reason"] if answer["result"].get("isError") else ""
    refused.wait(WAIT_S)
    client.call("after", "touch")
    assert decision(client.answer_to("after"))["reason"] == "revoked"


def test_after_a_kill_is_acknowledged_no_tool_server_sees_a_call(home: Home, tmp_path: Path) -> None:
    home.config.write_text(PATIENT)
    clocks = [tmp_path / f"clock{number}" for number in range(GATEWAYS)]
    faults: list[BaseException] = []
    refused = threading.Barrier(GATEWAYS)

    def client(session: Session) -> None:
        try:
            keep_calling(session, refused)
        except BaseException as error:
            faults.append(error)
            refused.abort()

    with ExitStack() as closing:
        sessions = [
            closing.enter_context(Session(gateway(home.root, CLOCKED, name="clocked"), CLOCK=str(clock)))
            for clock in clocks
        ]
        for session in sessions:
            session.initialize()
        callers = [threading.Thread(target=client, args=(session,)) for session in sessions]
        for caller in callers:
            caller.start()
        until(lambda: all(len(seen(clock)) >= 3 for clock in clocks))
        with Connection(home.socket, WAIT_S) as connection:
            said = connection.ask("order", order="kill", reach="everything")
            acknowledged = time.monotonic_ns()
        for caller in callers:
            caller.join(WAIT_S)
        assert not faults
        assert said["tasks_ended"] == GATEWAYS
        assert said["confirmed"] + said["unconfirmed"] == GATEWAYS
        last = max(int(words[0]) for clock in clocks for words in seen(clock))
        assert last < acknowledged
