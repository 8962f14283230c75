"""The process is killed at every step of an action, before and after the step; a sweep then leaves nothing open.

Real processes, the real ledger and state: what is checked is what is on disk afterwards.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forestall.core.entry import Kind, Stream
from forestall.core.flow import govern
from forestall.core.lend import end_all
from forestall.core.sweep import sweep
from forestall.run import run
from forestall.testing.world import NOW, World, action
from tests.flow.dying import Disk
from tests.flow.scenarios import CREDENTIALED

ROOT = Path(__file__).parents[2]
BOUND = 60
"""Seconds a child may take on a busy machine."""


def steps() -> list[str]:
    world = World(ruling=CREDENTIALED)
    run(govern(action()), world.handlers())
    return [type(ask).__name__ for ask in world.asked]


def die(directory: Path, step: int, when: str) -> int:
    command = [sys.executable, "-m", "tests.flow.dying", str(directory), str(step), when]
    return subprocess.run(command, cwd=ROOT, timeout=BOUND, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", range(len(steps())), ids=[f"{n}-{name}" for n, name in enumerate(steps())])
def test_killed_at_any_step_a_sweep_leaves_no_credential_and_no_open_permit(
    tmp_path: Path, step: int, when: str
) -> None:
    assert die(tmp_path, step, when) == -signal.SIGKILL
    disk = Disk(tmp_path)
    entries = [written.body for written in disk.ledger.read(Stream.PERMITS)]
    permitted = [body for body in entries if body["kind"] == Kind.PERMITTED]
    performed = (tmp_path / "performed").exists()
    credentials = list((tmp_path / "credentials").iterdir())
    if performed or credentials:
        assert len(permitted) == 1, "nothing happens before the permit is on disk"

    written_down = [body["id"] for body in entries if body["kind"] == Kind.LEASED]
    assert {path.name for path in credentials} <= set(written_down), "no credential before its record is on disk"

    assert run(sweep(disk.state.unsettled(), NOW), disk.handlers()) == ()
    assert run(end_all([(lease, "swept") for _, lease in disk.state.leases()]), disk.handlers()) == ()

    assert list((tmp_path / "credentials").iterdir()) == []
    settled = [b for b in (w.body for w in disk.ledger.read(Stream.PERMITS)) if b["kind"] == Kind.SETTLED]
    assert [body["id"] for body in settled] == [body["id"] for body in permitted]
    if performed:
        assert settled[0]["fate"] in {"done", "ambiguous"}
        assert (tmp_path / "performed").read_text() == "once\n"
    assert not disk.state.unsettled()
    assert not disk.state.leases()
    ended = [b["id"] for b in (w.body for w in disk.ledger.read(Stream.PERMITS)) if b["kind"] == Kind.REVOKED]
    assert ended == written_down
    disk.close()


@pytest.mark.slow
def test_a_process_that_is_not_killed_settles_by_itself(tmp_path: Path) -> None:
    assert die(tmp_path, 10_000, "before") == 0
    disk = Disk(tmp_path)
    assert not disk.state.unsettled()
    kinds = [written.body["kind"] for written in disk.ledger.read(Stream.PERMITS)]
    assert kinds == ["opened", "permitted", "leased", "revoked", "settled"]
    disk.close()
