"""What /proc says of a process, read as proc(5) has it; and nothing of one that has ended."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from forestall.adapter.attest.peer import SO_PEERPIDFD, credentials, handle, require_alive
from forestall.adapter.attest.proc import Stat, Vanished, parse_stat, parse_uid, process
from tests.unit.adapter.attest.peers import CAT, own_connection

PROC = Path("/proc")
REST = " ".join(map(str, range(3, 53))).split(" ", 1)[1]


@pytest.mark.parametrize("name", [b"cat", b"a b", b"a) S 1 (b", b") ) )", b"", b"a\nb", b"\xff"])
def test_a_name_cannot_pass_for_the_fields_behind_it(name: bytes) -> None:
    assert parse_stat(b"9 (" + name + b") S " + REST.encode()) == Stat(parent=4, started=22)


@pytest.mark.parametrize("state", [b"Z", b"X", b"x"])
def test_a_process_that_has_ended_is_none(state: bytes) -> None:
    with pytest.raises(Vanished):
        parse_stat(b"9 (cat) " + state + b" " + REST.encode())


@pytest.mark.parametrize("data", [b"", b"9 (cat)", b"9 (cat) S 1 2 3", b"9 (cat) S -1 " + REST.encode(), b"9 cat S 1"])
def test_a_line_of_another_form_is_no_process(data: bytes) -> None:
    with pytest.raises(Vanished):
        parse_stat(data)


def test_the_effective_uid_is_the_one() -> None:
    assert parse_uid(b"Name:\tUid:\t1\t1\t1\t1\nUid:\t1000\t0\t7\t8\nGid:\t5\t5\t5\t5\n") == 0


@pytest.mark.parametrize("data", [b"", b"Name:\tcat\n", b"Uid:\t1000\n", b"Uid:\ta\tb\tc\td\n"])
def test_a_status_without_one_is_no_process(data: bytes) -> None:
    with pytest.raises(Vanished):
        parse_uid(data)


def test_a_process_reads_as_it_is() -> None:
    with process(os.getpid(), PROC) as own:
        assert own.stat().parent == os.getppid()
        assert own.uid() == os.geteuid()
        assert own.arguments()
        assert own.namespace("user").startswith("user:[")
        assert own.namespace("none") == ""


def test_nothing_is_read_through_the_handle_of_a_process_that_has_ended() -> None:
    with subprocess.Popen([CAT], stdin=subprocess.PIPE) as running, process(running.pid, PROC) as entry:
        assert entry.stat().parent == os.getpid()
        running.kill()
        running.wait()
        for read in (entry.stat, entry.uid, entry.arguments, entry.executable):
            with pytest.raises(Vanished):
                read()


def test_a_number_that_nobody_has_is_no_process(tmp_path: Path) -> None:
    with pytest.raises(Vanished), process(1, tmp_path):
        pass


def test_a_connection_tells_who_made_it() -> None:
    with own_connection() as connected:
        found = credentials(connected)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.geteuid(), os.getegid())


def test_a_handle_is_alive_and_of_one_process_alone() -> None:
    with subprocess.Popen([CAT], stdin=subprocess.PIPE) as running:
        descriptor = os.pidfd_open(running.pid)
        require_alive(descriptor, running.pid)
        with pytest.raises(Vanished):
            require_alive(descriptor, os.getpid())
        running.kill()
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(Vanished):
            require_alive(descriptor, running.pid)
    os.close(descriptor)


class OldKernel(socket.socket):
    """One whose newest options this kernel does not know either."""

    def getsockopt(self, level: int, option: int, *rest: int) -> int:  # type: ignore[override]
        return super().getsockopt(level, 9999 if option == SO_PEERPIDFD else option, *rest)


def test_a_kernel_without_handles_gives_none() -> None:
    with OldKernel(socket.AF_UNIX) as old, handle(old) as found:
        assert found is None


def test_a_connection_without_a_peer_has_no_process() -> None:
    with socket.socket(socket.AF_UNIX) as alone, pytest.raises(Vanished), handle(alone):
        pass
