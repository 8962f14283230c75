"""`forestall kill`, `suspend`, `resume`, `risk` and `tasks`, against a decision point that really runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.cli import main
from forestall.cli.tasks import drawn
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.server.listening import answers
from tests.points import WAIT_S, entries, make_home

TASKS = [
    {"task": "abcd1", "state": "open"},
    {"task": "abcd2", "state": "suspended"},
    {"task": "ab", "state": "open"},
    {"task": "dead1", "state": "killed"},
]


@pytest.fixture
def home() -> Iterator[Home]:
    root = Path(tempfile.mkdtemp(prefix="fo-"))
    home = make_home(root)
    yield home
    if answers(home.socket):
        with Connection(home.socket) as connection:
            connection.ask("stop")
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> tuple[int, str, str]:
        code = main([words[0], "--home", str(home.root), *words[1:]])
        return code, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_an_order_about_who_is_not_there_starts_a_decision_point_is_recorded_and_stands(run: Any, home: Home) -> None:
    code, out, _ = run("kill", "--agent", "bot", "--trust-domain", "example.org", "--why", "a bad\npage")
    assert code == 0
    assert out.splitlines()[:3] == [
        "Ended 0 tasks of agent bot of example.org.",
        "No open task is meant; `forestall tasks` shows agents, users and tenants as they are written.",
        "No new task is opened for it until `forestall resume` says otherwise.",
    ]
    told = json.loads(run("risk", "--user", "ada", "--level", "high", "--json")[1])
    assert (told["order"], told["reach"], told["name"], told["level"], told["epoch"]) == (
        "risk",
        "user",
        "ada",
        "high",
        2,
    )
    shown = run("tasks")[1].splitlines()
    assert shown[0] == "No task is open."
    assert [line.split(",")[0].strip() for line in shown[3:]] == ["kill agent bot of example.org", "risk high user ada"]
    assert f"by uid/{os.geteuid()}: a bad page" in shown[3]
    assert run("resume", "--agent", "bot", "--trust-domain", "example.org")[0] == 0
    assert run("risk", "--user", "ada", "--level", "low")[0] == 0
    assert json.loads(run("tasks", "--json")[1])["orders"] == []
    assert [entry["kind"] for entry in entries(home)] == ["ordered"] * 4


@pytest.mark.slow
def test_what_changes_is_shown_as_it_changes(run: Any, home: Home) -> None:
    assert run("suspend", "--user", "ada")[0] == 0
    line = [sys.executable, "-m", "forestall.cli", "tasks", "--home", str(home.root), "--follow", "--json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert [order["order"] for order in json.loads(following.stdout.readline())["orders"]] == ["suspend"]
        assert run("kill", "--user", "ada")[0] == 0
        while [order["order"] for order in json.loads(following.stdout.readline())["orders"]] != ["kill"]:
            pass
        following.send_signal(signal.SIGINT)
        assert following.wait(WAIT_S) == 130


@pytest.mark.parametrize("command", ["kill", "suspend", "resume"])
@pytest.mark.parametrize(
    "words",
    [
        [],
        [""],
        ["--agent", ""],
        ["--user", ""],
        ["--trust-domain", ""],
        ["abc", "--everything"],
        ["--agent", "a", "--user", "b"],
        ["--user", "b", "--trust-domain", "c"],
    ],
)
def test_one_target_is_named(run: Any, command: str, words: list[str]) -> None:
    code, out, err = run(command, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_of_a_task_that_nobody_serves_nothing_is_ordered(run: Any) -> None:
    code, _, err = run("kill", "abc")
    assert code == 69
    assert "forestall serve" in err


@pytest.mark.parametrize(("beginning", "found"), [("abcd1", "abcd1"), ("ab", "ab"), ("abcd2", "abcd2")])
def test_a_task_is_found_by_its_id_or_by_a_beginning_that_no_other_has(beginning: str, found: str) -> None:
    from forestall.cli.ordering import find_task
    from forestall.core.control import Order

    assert find_task(TASKS, beginning, Order.KILL) == found


@pytest.mark.parametrize(
    ("beginning", "order", "says"),
    [
        ("abc", "kill", "2 tasks begin with abc"),
        ("x\x1b[2J", "kill", "No open task begins with x"),
        ("dead", "resume", "One that was killed stays ended."),
        ("dead", "kill", "No open task begins with dead; `forestall tasks` shows them."),
    ],
)
def test_a_beginning_of_none_or_of_many_is_refused(beginning: str, order: str, says: str) -> None:
    from forestall.cli.ordering import find_task
    from forestall.core.control import Order
    from forestall.core.errors import InvalidInput

    with pytest.raises(InvalidInput, match=says.replace(".", r"\.")) as caught:
        find_task(TASKS, beginning, Order(order))
    assert "\x1b" not in str(caught.value)


def task(name: str, parent: str = "", **more: Any) -> dict[str, Any]:
    return {
        "task": name * 8,
        "parent": parent * 8,
        "depth": 0,
        "holder": "agent",
        "tenant": "",
        "trust_domain": "",
        "user": "",
        "mandate": "default",
        "purpose": "work",
        "state": "open",
        "labels": {"integrity": "trusted", "confidentiality": "public"},
        "budget": {},
        "spent": {},
        "running": 0,
        "opened_at": 1_000,
        "expires_at": 7_201_000,
        "why": "",
        "since": 0,
        **more,
    }


def test_the_tree_is_drawn() -> None:
    tasks = [
        task("aaaa", user="ada", budget={"write": 20}, spent={"write": 3, "read": 1}, running=2),
        task("bbbb", "aaaa", trust_domain="example.org", state="suspended", why="looking", since=61_000),
        task("cccc", "bbbb", tenant="t"),
        task("dddd", "aaaa", purpose="x\x1b[2J"),
        task("eeee", expires_at=5_000),
    ]
    order = {"order": "kill", "reach": "everything", "name": "", "trust_domain": "", "tenant": "", "level": None}
    orders = [{**order, "why": "", "by": "uid/0", "at": 1_000}]
    assert list(drawn({"tasks": tasks, "orders": orders, "at": 181_000})) == [
        "open aaaaaaaaaaaa  agent, for ada: 'work' (default)",
        "│  seen trusted, public; used read 1, write 3 of 20; 2 running; open 3 min; ends in 117 min",
        "├─ suspended bbbbbbbbbbbb  agent of example.org: 'work' (default)",
        "│  │  seen trusted, public; used nothing; open 3 min; ends in 117 min",
        "│  │  suspended 2 min ago: looking",
        "│  └─ open cccccccccccc  agent, tenant t: 'work' (default)",
        "│        seen trusted, public; used nothing; open 3 min; ends in 117 min",
        "└─ open dddddddddddd  agent: 'x\\x1b[2J' (default)",
        "      seen trusted, public; used nothing; open 3 min; ends in 117 min",
        "open eeeeeeeeeeee  agent: 'work' (default)",
        "   seen trusted, public; used nothing; open 3 min; out of time",
        "",
        "Orders that stand",
        "  kill everything, 3 min ago by uid/0: no reason was given",
    ]


def test_there_is_colour_where_it_is_wanted() -> None:
    (first, *_) = drawn({"tasks": [task("aaaa")], "orders": [], "at": 0}, colour=True)
    assert first.startswith("\x1b[32mopen\x1b[0m aaaa")
