"""What the decision point has in memory is nobody else's: not another process's of its user, and not a core file's."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from tests.points import make_home, wait_for_socket

WITHOUT_RIGHTS = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
"""Root that may do no more than another user may with its own processes."""


def test_nobody_of_its_user_reads_it_and_it_leaves_no_core(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    become = WITHOUT_RIGHTS if os.geteuid() == 0 else ()
    command = [*become, sys.executable, "-m", "forestall.cli", "serve", "--home", str(home.root)]
    with (
        subprocess.Popen([*become, "sleep", "600"]) as other,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as started,
    ):
        try:
            wait_for_socket(home, started)
            assert resource.prlimit(started.pid, resource.RLIMIT_CORE)[0] == 0
            assert _reads(become, other.pid), "they read processes of their user"
            assert not _reads(become, started.pid)
        finally:
            other.kill()
            started.terminate()
            started.communicate(timeout=30)


def _reads(become: tuple[str, ...], process: int) -> bool:
    reading = [*become, "cat", f"/proc/{process}/environ"]
    return subprocess.run(reading, capture_output=True, check=False).returncode == 0
