"""A program's own guard lends as the decision point does: in its threads, and with the same books."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall import Guard
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.errors import OutcomeUnknown, Refused, SetupError
from forestall.embedded import _Embedded
from forestall.home import Home
from forestall.wire import order_blocking
from tests.backends import Desk, install
from tests.points import WAIT_S, entries, until

REPOSITORY = Path(__file__).parent.parent.parent
POLICY = '@id("lent") @credential("desk") permit (principal, action in Action::"write", resource);'
CLASS = '[credentials.desk]\nbackend = "files"\npath = "desk"\n'


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.policy.mkdir(parents=True)
    (home.policy / "own.cedar").write_text(POLICY)
    home.credentials.write_text(CLASS)
    return home


@pytest.fixture
def desk(home: Home) -> Desk:
    return Desk(home.root / "desk")


@pytest.fixture
def guard(home: Home, desk: Desk) -> Iterator[Guard]:
    with Guard.open(home.root, name="shop") as guard:
        yield guard


def whys(home: Home) -> list[str]:
    return [entry["why"] for entry in entries(home) if entry["kind"] == "revoked"]


def test_a_call_has_its_credential_while_it_runs_and_no_longer(guard: Guard, home: Home, desk: Desk) -> None:
    @guard.tool(effects={"write"})
    def write() -> int:
        return len(desk.live)

    @guard.tool(effects={"write"}, name="write_async")
    async def write_async() -> int:
        return len(desk.live)

    async def both() -> int:
        async with guard.task("write"):
            return await write_async()

    with guard.task("write"):
        assert write() == 1
        assert desk.live == set()
    assert asyncio.run(both()) == 1
    assert desk.live == set()
    assert whys(home) == ["done", "done"]


def test_where_it_cannot_be_made_the_function_is_not_called(guard: Guard, home: Home, desk: Desk) -> None:
    called: list[int] = []

    @guard.tool(effects={"write"})
    def write() -> None:
        called.append(1)

    desk.fault(issue="lost")
    with guard.task("write"), pytest.raises((Refused, OutcomeUnknown)):
        write()
    assert not called
    assert desk.live == set()
    assert len(whys(home)) == 1


def test_a_tasks_credential_ends_with_the_task_or_with_the_program(home: Home, desk: Desk) -> None:
    home.credentials.write_text(f'{CLASS}scope = "task"\n')
    with Guard.open(home.root, name="shop") as guard:

        @guard.tool(effects={"write"})
        def write() -> None: ...

        with guard.task("write"):
            write()
            write()
            assert len(desk.live) == 1
        until(lambda: not desk.live)
        guard.task("write again").__enter__()  # and never left
        write()
        assert len(desk.live) == 1
    assert desk.live == set()
    assert whys(home) == ["task_ended", "stopped"]


def test_a_backend_that_hangs_keeps_nobody_elses_credential_alive(home: Home, desk: Desk) -> None:
    """Nor does it keep the program from ending."""
    other = Desk(home.root / "other")
    home.credentials.write_text(
        f'{CLASS}scope = "task"\n[credentials.other]\nbackend = "files"\npath = "other"\nscope = "task"\n'
    )
    (home.policy / "own.cedar").write_text(
        '@id("a") @credential("desk") permit (principal, action == Action::"shop/write", resource);'
        '@id("b") @credential("other") permit (principal, action == Action::"shop/pay", resource);'
    )
    (home.root / "forestall.toml").write_text("[serve]\ncredential_timeout_ms = 60000\n")
    with Guard.open(home.root, name="shop") as guard:

        @guard.tool(effects={"write"})
        def write() -> None: ...

        @guard.tool(effects={"write"})
        def pay() -> None: ...

        desk.fault(revoke="slow")
        with guard.task("write, and pay"):
            write()
            pay()
        until(lambda: not other.live)
        assert len(desk.live) == 1
        desk.fault()
    assert desk.live == set()


def test_what_a_killed_program_left_is_ended_by_the_next(home: Home, desk: Desk, tmp_path: Path) -> None:
    killed(home, tmp_path)
    assert len(desk.live) == 1
    with Guard.open(home.root, name="shop"):
        until(lambda: not desk.live)
        until(lambda: whys(home) == ["swept"])


def test_a_suspension_ends_its_credential_and_once_resumed_the_next_call_gets_another(home: Home, desk: Desk) -> None:
    home.credentials.write_text(f'{CLASS}scope = "task"\n')
    point = _Embedded(home, "shop")
    with Guard(point.decision_point, name="shop") as guard:

        @guard.tool(effects={"write"})
        def write() -> None: ...

        with guard.task("write"):
            write()
            (first,) = desk.live
            target = Target(Reach.EVERYTHING)
            order_blocking(point._parts, Command(Order.SUSPEND, target, "why", "uid/0"))
            with pytest.raises(Refused):
                write()
            until(lambda: not desk.live)
            order_blocking(point._parts, Command(Order.RESUME, target, "fine", "uid/0"))
            write()
            assert len(desk.live - {first}) == 1
    assert desk.live == set()
    assert whys(home) == ["suspended", "task_ended"]


def test_what_a_killed_program_left_is_ended_where_it_was_made_though_its_class_says_otherwise_by_now(
    home: Home, desk: Desk, tmp_path: Path
) -> None:
    killed(home, tmp_path)
    home.credentials.write_text(CLASS.replace('"desk"', '"elsewhere"'))
    with Guard.open(home.root, name="shop"):
        until(lambda: not desk.live)
        until(lambda: whys(home) == ["class_changed"])


def killed(home: Home, tmp_path: Path) -> None:
    program = f"""
import os, signal, sys
sys.path[:0] = [{str(tmp_path / "site")!r}, {str(REPOSITORY)!r}]
from forestall import Guard
guard = Guard.open({str(home.root)!r}, name="shop")
@guard.tool(effects={{"write"}})
def write(): os.kill(os.getpid(), signal.SIGKILL)
with guard.task("write"): write()
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=WAIT_S).returncode == -9


def test_a_policy_that_names_a_class_that_is_not_there_is_refused(home: Home) -> None:
    home.credentials.write_text(CLASS.replace("desk]", "other]"))
    with Guard.open(home.root, name="shop") as guard:

        @guard.tool(effects={"write"})
        def write() -> None: ...

        with pytest.raises(SetupError, match="has no class `desk`"):
            guard.task("write")
