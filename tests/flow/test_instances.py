"""Labels stay with the workload instance: with separate processes as clients, and a decision point of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forestall.home import Home
from tests.clients import LAUNCHER, SHELL, Client, client, point
from tests.points import WAIT_S, entries, make_home, pin, process, until, verify_ledger, wait_for_socket

CLEAN = {"integrity": "trusted", "confidentiality": "public"}
READ = {"integrity": "untrusted", "confidentiality": "internal"}
WORST = {"integrity": "untrusted", "confidentiality": "secret"}
NOBODY = 65534
INNER = "import subprocess, sys; print(subprocess.run(sys.argv[1:], stdin=-3, capture_output=True).stdout.decode())"
"""A client within a client."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """What `read_file` answers is neither trusted nor public."""
    made = make_home(tmp_path)
    file = made.catalogue / "files.toml"
    before, tool, after = file.read_text().partition("[tools.read_file]")
    told = 'integrity = "trusted", confidentiality = "public"'
    assert told in after
    file.write_text(before + tool + after.replace(told, 'integrity = "untrusted", confidentiality = "internal"', 1))
    return made


@contextmanager
def serving(home: Home) -> Iterator[Any]:
    with process(home) as started:
        wait_for_socket(home, started)
        yield started
        started.terminate()
        started.wait(WAIT_S)


def opened(home: Home) -> list[Mapping[str, Any]]:
    return [entry for entry in entries(home) if entry["kind"] == "opened"]


def task_of(home: Home, welcome: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the ledger holds the task that a connection was welcomed to."""
    assert welcome["type"] == "welcome", welcome
    return next(entry for entry in opened(home) if entry["task"] == welcome["task"])


def reads(one: Client, name: str = "one") -> None:
    assert one.call("read_file", name)["type"] == "release"


def test_what_one_server_answers_labels_the_tasks_of_all_gateways_of_its_client(home: Home) -> None:
    with serving(home), client() as one, client() as other:
        first = task_of(home, one.start(point(home.socket)))
        early = one.start(point(home.socket), "early")
        reads(one)
        late = task_of(home, one.start(point(home.socket), "late"))
        apart = task_of(home, other.start(point(home.socket)))
        assert one.call("write_file", "early", path="x", content="y")["type"] == "release"
    assert (first["seen"], late["seen"], apart["seen"]) == (CLEAN, READ, CLEAN)
    assert first["subject"]["instance"] == late["subject"]["instance"] != apart["subject"]["instance"]
    assert first["subject"]["instance"].split(":")[3] == str(one.pid)
    (written,) = [entry for entry in entries(home) if entry.get("tool") == "files/write_file" and "seen" in entry]
    assert (written["task"], written["seen"]) == (early["task"], READ)
    verify_ledger(home)


def test_a_client_that_starts_its_gateways_anew_sheds_nothing(home: Home) -> None:
    with serving(home), client() as one:
        one.start(point(home.socket))
        reads(one)
        one.end()
        until(lambda: entries(home)[-1]["kind"] == "closed")
        assert task_of(home, one.start(point(home.socket)))["seen"] == READ


def test_a_client_that_is_started_anew_starts_clean(home: Home) -> None:
    with serving(home):
        for _ in range(2):
            with client() as one:
                assert task_of(home, one.start(point(home.socket)))["seen"] == CLEAN
                reads(one)


@pytest.mark.parametrize("before", [SHELL, LAUNCHER, (*LAUNCHER, *SHELL)], ids=["a shell", "a launcher", "both"])
def test_what_hands_its_input_on_is_no_client(home: Home, before: tuple[str, ...]) -> None:
    with serving(home), client() as one:
        through = task_of(home, one.start([*before, *point(home.socket)]))
        assert through["subject"]["instance"].split(":")[3] == str(one.pid)
        reads(one)
        assert task_of(home, one.start(point(home.socket), "direct"))["seen"] == READ


def test_an_agent_that_connects_itself_is_its_own(home: Home) -> None:
    with serving(home), client() as one:
        first = task_of(home, one.start(point(home.socket, kind="agent")))
        reads(one)
        second = task_of(home, one.start(point(home.socket, kind="agent"), "two"))
    assert first["subject"]["instance"] != second["subject"]["instance"]
    assert second["seen"] == CLEAN
    pids = {entry["subject"]["instance"].split(":")[3] for entry in opened(home)}
    assert str(one.pid) not in pids


def test_who_is_started_by_an_instance_starts_with_what_that_one_has_seen(home: Home) -> None:
    """Whatever it is started with may come from what was read."""
    with serving(home), client() as one:
        one.start(point(home.socket))
        reads(one)
        itself = task_of(home, one.start(point(home.socket, kind="agent"), "itself"))
        below = task_of(home, one.start([sys.executable, "-c", INNER, *point(home.socket)], "below"))
    assert itself["seen"] == below["seen"] == READ
    assert len({entry["subject"]["instance"] for entry in opened(home)}) == 3


def test_after_a_crash_the_log_knows_what_an_instance_has_seen(home: Home) -> None:
    """Also what was permitted, and had no outcome: it may have been read."""
    with client() as clean, client() as one, client() as reader:
        with serving(home) as started:
            clean.start(point(home.socket))
            one.start(point(home.socket))
            reads(one)
            reader.start(point(home.socket))
            asked = {"type": "ask", "tool": "files/read_file", "arguments": {"path": "x"}}
            assert reader.send({**asked, "pin": pin("read_file")})["type"] == "permit"
            os.kill(started.pid, signal.SIGKILL)
            started.wait(WAIT_S)
        with serving(home):
            again = [task_of(home, each.start(point(home.socket, again=True), "two")) for each in (clean, one, reader)]
    assert [task["seen"] for task in again] == [CLEAN, READ, READ]
    verify_ledger(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_than_the_decision_points_is_attested(home: Home, tmp_path: Path) -> None:
    """And where nobody of that user started the gateway, nobody knows for whom it works."""
    directory = Path(os.path.realpath("/tmp")) / f"fa-{os.getpid()}"
    directory.mkdir(mode=0o755)
    try:
        socket = directory / "socket"
        home.config.write_text(f'[serve]\nsocket = "{socket}"\nallowed_uids = [{NOBODY}]\n')
        with process(home) as started:
            until(lambda: socket.exists() or started.poll() is not None)
            with client() as root:
                unknown = root.start([*point(socket), str(NOBODY)])
                below = root.start([*point(socket), str(NOBODY), "fork"], "below")
                agent = root.start([*point(socket, kind="agent"), str(NOBODY)], "agent")
                assert {one["assurance"] for one in (unknown, below, agent)} == {"attested"}
                told = [task_of(home, one) for one in (unknown, below, agent)]
                assert root.call("write_file", "agent", path="x", content="y")["type"] == "release"
    finally:
        (directory / "socket").unlink(missing_ok=True)
        directory.rmdir()
    assert [task["seen"] for task in told] == [WORST, CLEAN, CLEAN]
    assert "executable" not in told[0]["subject"]
    assert told[1]["subject"]["executable"]["same_uid"] is False
