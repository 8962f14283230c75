"""A server that is started with a credential: how it gets it, who else can read it, and how it is ended."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from forestall.pep.mcp.descendants import Descendants, processes
from tests.mcpkit.decision_point import DecisionPoint, Frame, deny, permit_all
from tests.mcpkit.session import WITHIN_S, Session, decision, gateway
from tests.points import until

SERVER = [sys.executable, str(Path(__file__).parents[2] / "mcpkit" / "equipped_server.py"), "--key", "KEY"]
SECRET = "pX7/w+Zq-93_kLmN"
NOBODY = "nobody"


def placed(where: str, name: str, value: str = SECRET) -> Frame:
    credential = {"placed": [{"where": where, "name": name, "value": value}], "scrub": [SECRET]}
    return {"type": "equipped", "lease": "forestall-00000000-1", "credential": credential}


def lending(answer: Frame) -> Any:
    """A decision point that says `answer` to `equip`, and permits all else."""

    def answers(frame: Frame) -> Frame | None:
        said = permit_all(frame)
        if frame["type"] == "hello":
            assert said is not None
            return {**said, "lends": True, "equip": ["db"]}
        return answer if frame["type"] == "equip" else said

    return answers


def started(home: Path, *options: str, command: Sequence[str] = SERVER, **environment: str) -> Session:
    return Session(gateway(home, command, *options, name="equipped"), **environment)


def shown(client: Session, name: str = "clean") -> Any:
    client.initialize()
    client.call(1, name)
    return json.loads(client.answer_to(1)["result"]["content"][0]["text"])


def server_of(client: Session) -> int:
    """The server's process: the gateway's only child."""
    until(lambda: len(_below(client)) == 1)
    return _below(client)[0]


def _below(client: Session) -> list[int]:
    return [one.pid for one in processes() if one.parent == client.process.pid and not one.is_over]


def environment_of(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


def withheld(client: Session) -> None:
    """The server has it, which shows in that it cannot say it."""
    client.initialize()
    client.call(1, "show")
    assert decision(client.answer_to(1))["reason"] == "leaked"


def test_an_environment_holds_it_and_the_gateway_s_own_does_not(gateway_home: Path, scripted: DecisionPoint) -> None:
    scripted.answer = lending(placed("environment", "KEY"))
    with started(gateway_home) as client:
        withheld(client)
        assert f"KEY={SECRET}".encode() in environment_of(server_of(client)).split(b"\0")
    (asked,) = scripted.of_type("equip")
    assert asked == {"type": "equip", "id": 1, "credential": "db", "separate": False}
    (report,) = scripted.of_type("performed")
    assert report["leaked"] is True


def test_a_descriptor_is_read_once_and_is_in_no_environment_and_no_other_is_inherited(
    gateway_home: Path, scripted: DecisionPoint
) -> None:
    scripted.answer = lending(placed("descriptor", "KEY_FD"))
    with started(gateway_home) as client:
        withheld(client)
        server = server_of(client)
        assert SECRET.encode() not in environment_of(server)
        assert SECRET.encode() not in Path(f"/proc/{server}/cmdline").read_bytes()
        client.call(2, "clean")
        given = json.loads(client.answer_to(2)["result"]["content"][0]["text"])
        assert len(given["descriptors"]) == 5, "three, the pipe, and the one that lists them"


def test_a_word_of_the_command_line_is_replaced_and_everybody_can_read_it(
    gateway_home: Path, scripted: DecisionPoint
) -> None:
    scripted.answer = lending(placed("command", "KEY"))
    with started(gateway_home) as client:
        withheld(client)
        words = Path(f"/proc/{server_of(client)}/cmdline").read_bytes().split(b"\0")
        assert words[-3:] == [b"--key", SECRET.encode(), b""]
        assert SECRET.encode() not in Path(f"/proc/{client.process.pid}/cmdline").read_bytes()


def test_a_command_line_without_the_word_starts_nothing(gateway_home: Path, scripted: DecisionPoint) -> None:
    scripted.answer = lending(placed("command", "OTHER"))
    with started(gateway_home) as client:
        status, said = client.end()
    assert (status, "no word 'OTHER'" in said) == (78, True)
    assert SECRET not in said


@pytest.mark.parametrize(
    ("answer", "words"), [(deny("no_policy"), "denied (no_policy)"), (deny("needs_approval", "hold"), "held")]
)
def test_a_refusal_starts_no_server_and_says_which_decision(
    gateway_home: Path, scripted: DecisionPoint, tmp_path: Path, answer: Frame, words: str
) -> None:
    scripted.answer = lending(answer)
    mark = tmp_path / "started"
    with started(gateway_home, command=["touch", str(mark)]) as client:
        status, said = client.end()
    assert status == 77
    assert words in said
    assert f"forestall explain {answer['decision']['decision_id']}" in said
    assert not mark.exists()


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "equipped"},
        {"type": "permit", "permit": {}},
        {"type": "equipped", "credential": {"placed": [], "scrub": []}},
        placed("header", "Authorization"),
    ],
)
def test_an_answer_that_is_none_starts_no_server(gateway_home: Path, scripted: DecisionPoint, answer: Frame) -> None:
    scripted.answer = lending(answer)
    with started(gateway_home) as client:
        status, said = client.end()
    assert status in {69, 77, 78}
    assert SECRET not in said


def test_a_task_that_ends_first_starts_no_server(gateway_home: Path, scripted: DecisionPoint) -> None:
    scripted.answer = lending({"type": "revoked", "reason": "revoked", "epoch": 1})
    with started(gateway_home) as client:
        status, said = client.end()
    assert (status, "ended before" in said) == (77, True)


def test_what_it_says_on_standard_error_is_passed_on_without_it(gateway_home: Path, scripted: DecisionPoint) -> None:
    scripted.answer = lending(placed("environment", "KEY"))
    with started(gateway_home) as client:
        shown(client, "log")
        status, said = client.end()
    assert status == 0
    lines = said.splitlines()
    assert [line for line in lines if not line.startswith("forestall:")] == ["before", "after"]
    assert "forestall: a line of the server's was withheld; it held a credential" in lines
    assert SECRET not in said
    assert scripted.of_type("leaked") == [{"type": "leaked", "where": "the server's standard error"}]


def test_a_process_of_the_same_user_reads_the_server_s_environment_and_nothing_of_the_gateway(
    gateway_home: Path, scripted: DecisionPoint
) -> None:
    scripted.answer = lending(placed("environment", "KEY"))
    with plain(gateway_home) as client:
        shown(client)
        assert SECRET.encode() in seen(f"/proc/{server_of(client)}/environ"), "which is what `exposed` says"
        for part in ("environ", "mem", "maps", "fd/0"):
            assert seen(f"/proc/{client.process.pid}/{part}") is None, part


def test_what_came_with_a_permit_is_as_closed_to_them(gateway_home: Path, scripted: DecisionPoint) -> None:
    with plain(gateway_home) as client:
        shown(client)
        assert seen(f"/proc/{client.process.pid}/environ"), "it holds nothing yet"
        credential = {"placed": [{"where": "header", "name": "A", "value": SECRET}], "scrub": [SECRET]}
        scripted.answer = lambda frame: _with(permit_all(frame), credential) if frame["type"] == "ask" else None
        client.call(2, "clean")
        client.answer_to(2)
        assert seen(f"/proc/{client.process.pid}/environ") is None


def _with(answer: Frame | None, credential: Frame) -> Frame:
    assert answer is not None
    return {**answer, "credential": credential}


AS_ROOT_WITHOUT_RIGHTS = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]


def plain(home: Path) -> Session:
    """A gateway that may do no more than any other process of its user."""
    become = AS_ROOT_WITHOUT_RIGHTS if os.geteuid() == 0 else []
    return Session([*become, *gateway(home, SERVER, name="equipped")])


def seen(path: str, *become: str) -> bytes | None:
    """What a process of the same user, and of no rights beyond that, reads there; None where it may not."""
    become = become or tuple(AS_ROOT_WITHOUT_RIGHTS if os.geteuid() == 0 else ())
    done = subprocess.run([*become, "head", "-c", "65536", path], capture_output=True, check=False, cwd="/")
    return done.stdout if done.returncode == 0 else None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as another user")
def test_run_as_another_user_its_environment_is_closed_to_all_but_that_one(
    gateway_home: Path, scripted: DecisionPoint
) -> None:
    scripted.answer = lending(placed("environment", "KEY"))
    account = pwd.getpwnam(NOBODY)
    with started(gateway_home, "--run-as", NOBODY, command=["cat"]) as client:
        until(lambda: seen(f"/proc/{server_of(client)}/comm") == b"cat\n")
        environment = f"/proc/{server_of(client)}/environ"
        assert seen(environment, "setpriv", "--reuid", "1", "--clear-groups") is None
        assert seen(environment, *AS_ROOT_WITHOUT_RIGHTS) is None
        its = environment_of(server_of(client)).split(b"\0")
        assert {f"KEY={SECRET}".encode(), f"HOME={account.pw_dir}".encode(), b"USER=nobody"} <= set(its)
    assert scripted.of_type("equip")[0]["separate"] is True


def test_a_user_that_there_is_not_starts_nothing(gateway_home: Path, scripted: DecisionPoint) -> None:
    with started(gateway_home, "--run-as", "no-such-user-here") as client:
        status, said = client.end()
    assert status == 78
    assert "no-such-user-here" in said or "Only root" in said


# -- the end


def left_by(file: Path) -> int:
    until(lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


def is_alive(process: int) -> bool:
    return any(one.pid == process and not one.is_over for one in processes())


@pytest.mark.parametrize("how", ["client leaves", "signal", "killed by the decision point"])
def test_whatever_it_started_ends_with_it_though_it_left_the_group(
    gateway_home: Path, scripted: DecisionPoint, tmp_path: Path, how: str
) -> None:
    scripted.answer = lending(placed("environment", "KEY"))
    with started(gateway_home, LEAVES=str(tmp_path / "pid")) as client:
        shown(client)
        left = left_by(tmp_path / "pid")
        assert is_alive(left)
        assert os.getsid(left) != os.getsid(client.process.pid)
        if how == "signal":
            client.process.send_signal(signal.SIGTERM)
            client.process.wait(WITHIN_S)
        elif how == "killed by the decision point":
            scripted.send({"type": "revoked", "reason": "revoked", "epoch": 3})
            scripted.wait_for("confirmed")
            assert not is_alive(left), "confirmed only once nothing of it is left"
        client.end()
        assert not is_alive(left)


def test_a_server_without_a_credential_may_leave_something_behind(
    gateway_home: Path, scripted: DecisionPoint, tmp_path: Path
) -> None:
    with started(gateway_home, LEAVES=str(tmp_path / "pid")) as client:
        shown(client)
        left = left_by(tmp_path / "pid")
        client.end()
        assert is_alive(left)
        os.kill(left, signal.SIGKILL)


def test_without_the_decision_point_its_credential_is_over_and_it_is_ended(
    gateway_home: Path, scripted: DecisionPoint, tmp_path: Path
) -> None:
    scripted.answer = lending(placed("environment", "KEY"))
    with started(gateway_home, LEAVES=str(tmp_path / "pid")) as client:
        shown(client)
        left = left_by(tmp_path / "pid")
        scripted.close()
        assert client.process.wait(WITHIN_S) == 69
        assert not is_alive(left)
        assert b"start the server again" in client.process.stderr.read()


def test_what_was_there_before_is_not_the_server_s() -> None:
    with subprocess.Popen(["sleep", "600"]) as before:
        known = Descendants()
        with subprocess.Popen(["sleep", "600"]) as after:
            assert after.pid in known.alive()
            assert before.pid not in known.alive()
            assert known.kill()
            after.wait()
        assert before.poll() is None
        before.kill()


def test_two_credentials_do_not_share_a_header(gateway_home: Path, scripted: DecisionPoint) -> None:
    def answers(frame: Frame) -> Frame | None:
        said = lending(placed("header", "Authorization" if frame.get("credential") == "db" else "authorization"))(frame)
        return {**said, "equip": ["db", "other"]} if frame["type"] == "hello" else said

    scripted.answer = answers
    url = "http://127.0.0.1:9/"
    command = [sys.executable, "-m", "forestall.cli", "gateway", "--home", str(gateway_home), "--url", url, "equipped"]
    with Session(command) as client:
        status, said = client.end()
    assert (status, "goes to the header authorization, where another is" in said) == (78, True)
    assert SECRET not in said
