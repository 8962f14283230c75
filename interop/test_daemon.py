"""What is started here is gone afterwards, also when nobody is left to stop it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from interop.daemon import Daemon
from interop.program import ROOT

WAIT_S = 30.0
"""Seconds after which something that has to happen has failed to."""

SHELL = ("sh", "-c", "echo started $$; exec tail -f /dev/null")

PROGRAM = f"""
import signal
from interop.daemon import Daemon
daemon = Daemon("shell", {SHELL!r}, {{}})
daemon.wait_for("started")
print(daemon.log, flush=True)
signal.pause()
"""


def ends(pid: int) -> bool:
    """Does the process end, soon?"""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], WAIT_S)[0])
    finally:
        os.close(handle)


def number(log: str) -> int:
    return int(log.rsplit(maxsplit=1)[-1])


def test_a_daemon_that_is_stopped_is_gone_also_while_it_is_paused() -> None:
    daemon = Daemon("shell", SHELL, {})
    daemon.wait_for("started")
    daemon.pause()
    daemon.stop()
    daemon.stop()
    assert ends(number(daemon.log))


def test_what_it_said_before_is_not_waited_for_again() -> None:
    daemon = Daemon("shell", ("sh", "-c", "echo ready; exec cat /dev/null"), {})
    daemon.wait_for("ready")
    with pytest.raises(RuntimeError, match="did not say ready"):
        daemon.wait_for("ready", after=daemon.said)
    daemon.stop()


def test_a_daemon_dies_with_whoever_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, cwd=ROOT) as starter:
        assert starter.stdout is not None
        pid = number(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)
        assert ends(pid)


@pytest.mark.parametrize("words", [("true",), ("false",), ("sh", "-c", "echo sorry >&2")])
def test_a_daemon_that_ends_at_once_is_an_error_with_its_log(words: Sequence[str]) -> None:
    daemon = Daemon("short", words, {})
    with pytest.raises(RuntimeError, match=r"short did not say ready\. Its log:\n(sorry)?"):
        daemon.wait_for("ready")
    daemon.stop()
