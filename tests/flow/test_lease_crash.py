"""Killed at every step of a call with a credential, and restarted: nothing is left alive by the backend's own account,
and the ledger says of every credential that it is over.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from forestall.home import Home
from tests.backends import Desk, install
from tests.points import WAIT_S, Peer, entries, make_home, process, until, verify_ledger, wait_for_socket

pytestmark = pytest.mark.slow

POLICY = '@id("writes") @credential("desk") permit (principal, action in Action::"write", resource);'
CLASS = """\
[credentials.desk]
backend = "files"
path = "desk"
place = { where = "header", name = "Authorization", template = "{token}" }
"""

RECORDS = [
    (kind, when) for kind in ("permitted", "leased", "revoked", "settled", "closed") for when in ("before", "after")
]
BACKEND = [("issue", "die"), ("issue", "die-after"), ("revoke", "die"), ("revoke", "die-after")]


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{install(tmp_path / 'site')}:{Path(__file__).parent.parent.parent}")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path, POLICY)


@pytest.fixture
def desk(home: Home) -> Desk:
    return Desk(home.root / "desk")


@contextmanager
def dying(home: Home, kind: str, when: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.backends.dying", str(home.root), kind, when]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as started:
        try:
            wait_for_socket(home, started)
            yield started
        finally:
            started.kill()
            started.communicate(timeout=WAIT_S)


async def one_call(home: Home) -> None:
    """As far as it comes."""
    with suppress(OSError, EOFError, asyncio.IncompleteReadError):
        async with await Peer.gateway(home.socket) as peer:
            answer = await peer.ask()
            if answer["type"] == "permit":
                await peer.performed(answer)


def recover(home: Home, desk: Desk) -> None:
    """The next process finds and ends whatever is there."""
    with process(home) as started:
        wait_for_socket(home, started)
        until(lambda: not desk.live and not open_leases(home))
        asyncio.run(stop(home))
        assert started.wait(WAIT_S) == 0
    verify_ledger(home)


async def stop(home: Home) -> None:
    async with await Peer.cli(home.socket) as peer:
        peer.request("stop")
        assert (await peer.receive())["type"] == "done"


def open_leases(home: Home) -> set[Any]:
    found = entries(home)
    leased = {entry["id"] for entry in found if entry["kind"] == "leased"}
    return leased - {entry["id"] for entry in found if entry["kind"] == "revoked"}


@pytest.mark.parametrize("scope", ["action", "task"])
@pytest.mark.parametrize(("kind", "when"), RECORDS)
def test_killed_at_a_record(home: Home, desk: Desk, scope: str, kind: str, when: str) -> None:
    home.credentials.write_text(f'{CLASS}scope = "{scope}"\n')
    with dying(home, kind, when) as started:
        asyncio.run(one_call(home))
        assert started.wait(WAIT_S) == -9
    recover(home, desk)


@pytest.mark.parametrize("scope", ["action", "task"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_a_suspension(home: Home, desk: Desk, scope: str, when: str) -> None:
    home.credentials.write_text(f'{CLASS}scope = "{scope}"\n')

    async def suspended() -> None:
        async with await Peer.gateway(home.socket) as peer, await Peer.cli(home.socket) as operator:
            assert (await peer.ask())["type"] == "permit"
            operator.request("order", order="suspend", reach="everything")
            assert await operator.ended()

    with dying(home, "ordered", when) as started:
        asyncio.run(suspended())
        assert started.wait(WAIT_S) == -9
    assert len(desk.live) == 1
    recover(home, desk)


@pytest.mark.parametrize("scope", ["action", "task"])
@pytest.mark.parametrize(("what", "fault"), BACKEND)
def test_killed_while_the_backend_is_asked(home: Home, desk: Desk, scope: str, what: str, fault: str) -> None:
    home.credentials.write_text(f'{CLASS}scope = "{scope}"\n')
    desk.fault(**{what: fault})
    with process(home) as started:
        wait_for_socket(home, started)
        asyncio.run(one_call(home))
        assert started.wait(WAIT_S) == -9
    assert len(desk.live) == int((what, fault) in {("issue", "die-after"), ("revoke", "die")})
    desk.fault()
    recover(home, desk)
    assert [entry["why"] for entry in entries(home) if entry["kind"] == "revoked"] == ["swept"]


@pytest.mark.parametrize("unnamed", ["false", "true"])
@pytest.mark.parametrize("now", ["changed", "gone"])
def test_killed_and_its_class_changed_before_the_next_start_its_own_backend_ends_it(
    home: Home, desk: Desk, unnamed: str, now: str
) -> None:
    """The backend that the class names now knows nothing of it, and would say that it is over."""
    home.credentials.write_text(f'{CLASS}scope = "task"\nunnamed = {unnamed}\n')
    with process(home) as started:
        wait_for_socket(home, started)

        async def halfway() -> None:
            async with await Peer.gateway(home.socket) as peer:
                assert (await peer.ask())["type"] == "permit"
                started.kill()

        asyncio.run(halfway())
        started.wait(WAIT_S)
    assert len(desk.live) == 1
    if now == "changed":
        home.credentials.write_text(CLASS.replace('"desk"', '"elsewhere"'))
    else:
        home.credentials.unlink()
        (home.policy / "own.cedar").write_text('permit (principal, action in Action::"read", resource);')
    recover(home, desk)
    assert [entry["why"] for entry in entries(home) if entry["kind"] == "revoked"] == ["class_changed"]
    recover(home, desk)
    assert not list((home.run / "classes").iterdir())


@pytest.mark.parametrize("scope", ["action", "task"])
def test_killed_while_the_call_runs_what_an_answer_alone_told_is_still_known(
    home: Home, desk: Desk, scope: str
) -> None:
    home.credentials.write_text(f'{CLASS}scope = "{scope}"\nunnamed = true\n')
    with process(home) as started:
        wait_for_socket(home, started)

        async def halfway() -> None:
            async with await Peer.gateway(home.socket) as peer:
                assert (await peer.ask())["type"] == "permit"
                (kept,) = (home.root / "run" / "leases").iterdir()
                assert b"handle" not in kept.read_bytes()
                assert kept.stat().st_mode & 0o777 == 0o600
                started.kill()

        asyncio.run(halfway())
        started.wait(WAIT_S)
    assert len(desk.live) == 1
    recover(home, desk)
    assert not list((home.root / "run" / "leases").iterdir())


def test_where_a_handle_is_lost_it_is_not_said_to_be_over_before_it_ended_by_itself(home: Home, desk: Desk) -> None:
    home.credentials.write_text(f"{CLASS}unnamed = true\nlifetime_s = 3\n")
    desk.fault(issue="die-after")
    with process(home) as started:
        wait_for_socket(home, started)
        asyncio.run(one_call(home))
        assert started.wait(WAIT_S) == -9
    desk.fault()
    with process(home) as started:
        wait_for_socket(home, started)
        until(lambda: not open_leases(home))
    (leased,) = (entry for entry in entries(home) if entry["kind"] == "leased")
    (revoked,) = (entry for entry in entries(home) if entry["kind"] == "revoked")
    assert revoked["at"] >= leased["expires_at"]
    assert not desk.live
