"""Processes that would pass for others: by their number, their name, their command line, or by changing in between."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forestall.adapter.attest.peer import handle
from forestall.adapter.attest.unix import Handle
from forestall.core.ask import CannotDo
from forestall.core.reason import Reason
from tests.unit.adapter.attest.peers import (
    CAT,
    MadeUp,
    Steps,
    attestor,
    copy_of_python,
    no_handle,
    own_connection,
    peer,
)

PYTHON = Path(sys.executable).resolve()
DIGEST = f"sha256:{hashlib.sha256(PYTHON.read_bytes()).hexdigest()}"


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(CannotDo) as refusal:
        yield
    assert refusal.value.reason is Reason.INVALID_PROOF


handles = pytest.mark.parametrize("handle_of", [handle, no_handle], ids=["with handles", "an old kernel"])
ends = pytest.mark.parametrize("collected", [True, False], ids=["collected", "a zombie"])


# -- in between


@handles
def test_a_process_that_runs_another_program_in_between_is_nobody(tmp_path: Path, handle_of: Handle) -> None:
    with peer(tmp_path) as one:
        clock = Steps(2, one.execs)
        with refused():
            attestor(clock_ms=clock, handle_of=handle_of).attest(one.connected)
        assert clock.count >= 2
        assert attestor().attest(one.connected).path == CAT


@handles
@ends
@pytest.mark.parametrize("step", [1, 2])
def test_a_process_that_ends_in_between_is_nobody(
    tmp_path: Path, handle_of: Handle, collected: bool, step: int
) -> None:
    with peer(tmp_path) as one:
        clock = Steps(step, lambda: one.ends(collected=collected))
        with refused():
            attestor(clock_ms=clock, handle_of=handle_of).attest(one.connected)
        assert clock.count >= step


@handles
@ends
def test_a_process_that_ended_before_is_nobody(tmp_path: Path, handle_of: Handle, collected: bool) -> None:
    with peer(tmp_path) as one:
        one.ends(collected=collected)
        with refused():
            attestor(handle_of=handle_of).attest(one.connected)


# -- by its number


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUp:
    made = MadeUp(tmp_path / "proc", os.geteuid())
    made.process(os.getpid(), 7, 300, PYTHON)
    made.process(7, 1, 200, PYTHON)
    made.process(1, 0, 100, PYTHON)
    return made


def test_a_pid_that_another_process_has_by_then_is_nobodys(made_up: MadeUp) -> None:
    clock = Steps(2, lambda: made_up.process(os.getpid(), 7, 301, PYTHON))
    with own_connection() as connected, refused():
        attestor(machine=made_up.machine, clock_ms=clock, handle_of=no_handle).attest(connected)
    assert clock.count >= 2


def test_a_user_that_it_was_not_when_it_connected_is_nobody(made_up: MadeUp) -> None:
    with own_connection() as connected:
        made_up.process(os.getpid(), 7, 300, PYTHON, uid=os.geteuid() + 1)
        with refused():
            attestor(machine=made_up.machine).attest(connected)
        made_up.process(os.getpid(), 7, 300, PYTHON)
        clock = Steps(2, lambda: made_up.process(os.getpid(), 7, 300, PYTHON, uid=os.geteuid() + 1))
        with refused():
            attestor(machine=made_up.machine, clock_ms=clock).attest(connected)


def test_a_handle_of_another_process_ties_nothing(made_up: MadeUp) -> None:
    """As it would be where the number had gone to another process before the first look."""

    @contextmanager
    def of_another(_connected: socket.socket) -> Iterator[int | None]:
        with subprocess.Popen([CAT], stdin=subprocess.PIPE) as process:
            descriptor = os.pidfd_open(process.pid)
            yield descriptor
            os.close(descriptor)
            process.kill()

    with own_connection() as connected, refused():
        attestor(handle_of=of_another).attest(connected)


Chain = tuple[bool, tuple[tuple[int, int], ...]]
"""Is it complete, and the pid and the start of each."""


def chains(made_up: MadeUp, change: Callable[[], None]) -> set[Chain]:
    """All that come of a change at any one moment of an attestation."""
    runs = copy_of_python(made_up.root, "parent")  # three files, so that the clock is read for each

    def attest(step: int) -> tuple[Chain, int]:
        made_up.process(os.getpid(), 7, 300, PYTHON)
        made_up.process(7, 1, 200, runs)
        made_up.process(1, 0, 100, Path(CAT))
        clock = Steps(step, change)
        with own_connection() as connected:
            seen = attestor(machine=made_up.machine, clock_ms=clock).attest(connected)
        return (seen.complete, tuple((one.pid, one.started) for one in seen.parents)), clock.count

    moments = attest(-1)[1]
    return {attest(step)[0] for step in range(1, moments + 1)}


def test_a_parent_that_ended_meanwhile_is_none(made_up: MadeUp) -> None:
    """The child has another by then, and its old one's number may be anybody's."""
    found = chains(made_up, lambda: made_up.process(os.getpid(), 1, 300, PYTHON))
    assert found == {(False, ()), (True, ((7, 200), (1, 100)))}


def test_a_pid_that_is_another_parents_by_then_is_none(made_up: MadeUp) -> None:
    found = chains(made_up, lambda: made_up.process(7, 1, 201, Path(CAT)))
    assert found == {(True, ((7, 201), (1, 100))), (False, ()), (False, ((7, 200),))}


# -- by what it says


def test_a_command_line_is_no_identity(tmp_path: Path) -> None:
    """argv[0] and the rest are the process's own to write."""
    bash = shutil.which("bash")
    assert bash is not None
    lie = 'exec -a /usr/bin/trusted "$@"'
    with peer(tmp_path, PYTHON, before=(bash, "-c", lie, "bash")) as one:
        seen = attestor().attest(one.connected)
    assert (seen.path, seen.digest) == (str(PYTHON), DIGEST)
    assert not [one for one in seen.selectors if "trusted" in one]


SCRIPT = """
import os, socket, sys
connected = socket.socket(socket.AF_UNIX)
connected.connect(sys.argv[1])
os.write(1, b"connected\\n")
os.read(0, 1)
"""


def test_a_script_is_asserted_and_in_no_selector(tmp_path: Path) -> None:
    script = tmp_path / "trusted.py"
    script.write_text(SCRIPT)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [PYTHON, "-B", script, path, "--token", "a-secret"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"connected\n"
            connected, _ = listener.accept()
            with connected:
                seen = attestor().attest(connected)
            process.kill()
    assert seen.asserted_script == str(script)
    assert seen.is_interpreter
    assert not [one for one in seen.selectors if "trusted" in one]
    assert "a-secret" not in repr(seen)


@pytest.mark.parametrize("how", ["a link", "a copy"])
def test_an_interpreter_by_another_name_gets_no_digest_but_its_own(tmp_path: Path, how: str) -> None:
    trusted = tmp_path / "trusted"
    if how == "a link":
        trusted.symlink_to(PYTHON)
    else:
        copy_of_python(tmp_path, "trusted")
    with peer(tmp_path, trusted) as one:
        seen = attestor().attest(one.connected)
    assert seen.digest == DIGEST
    assert seen.is_interpreter == (how == "a link"), "a copy has to be declared, see interpreter.py"


def test_the_dynamic_loader_is_an_interpreter_of_whatever_it_loads(tmp_path: Path) -> None:
    loader = next((one for one in Path("/proc/self/maps").read_text().split() if "/ld-" in one), None)
    assert loader is not None
    with peer(tmp_path, PYTHON, before=(loader,)) as one:
        seen = attestor().attest(one.connected)
    assert (seen.path, seen.is_interpreter) == (loader, True)


# -- what one look cannot see, and two can


def test_who_hands_the_socket_over_and_turns_into_another_is_caught_at_the_second_look(tmp_path: Path) -> None:
    """A child keeps the socket, and speaks; the process that connected becomes a trusted program."""
    attesting = attestor()
    turned = tmp_path / "turned"
    turned.write_text("turned\n")
    with peer(tmp_path) as one:
        before = attesting.attest(one.connected)
        assert attesting.require_unchanged(one.connected, before) == before
        one.told("hand-over-and-exec", CAT, turned, "-")
        assert one.heard_both() == {"hand-over-and-exec", "turned"}
        with refused():
            attesting.require_unchanged(one.connected, before)
        assert attesting.attest(one.connected).path == CAT, "which a first look alone would have believed"


def test_another_process_is_not_the_one_of_before(tmp_path: Path) -> None:
    attesting = attestor()
    with peer(tmp_path) as one:
        before = attesting.attest(one.connected)
    with peer(tmp_path) as another, refused():
        attesting.require_unchanged(another.connected, before)
