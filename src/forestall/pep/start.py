"""Have a decision point running before the first question is asked: start one where there is none."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from forestall.core.errors import SetupError, Tampered, Unavailable, cure
from forestall.home import Home

if TYPE_CHECKING:
    from subprocess import Popen

PAUSE_S = 0.01
"""Seconds between two looks whether it answers yet."""

KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|XDG_\w+|VIRTUAL_ENV|PYTHON\w+|LD_LIBRARY_PATH|FORESTALL_\w+"
)
"""What a decision point needs of its starter's environment. The rest may be a server's secrets."""

END_WITHIN_S = 1.0
"""Seconds to wait for one that was started in vain."""

MAX_LAST_LINE = 1000
"""Characters of what a decision point said before it ended that are passed on."""


def socket_path(home: Home) -> Path:
    """Where the decision point of this home listens. Settings are read only where there are any."""
    if not home.config.exists():
        return home.socket
    from forestall import config

    return config.socket_path(home, config.load(home))


def ensure_running(home: Home, timeout_ms: int) -> None:
    """Return once the decision point of this home accepts connections; start it where it does not.

    Safe to call from many processes at once: the decision point's lock lets one of those that are started live.

    Raises:
        Unavailable: it does not come up within `timeout_ms`; says why, in its own words where it left some.
        SetupError: the settings are malformed.
    """
    limit = time.monotonic() + timeout_ms / 1000
    path = socket_path(home)
    if accepts(path, limit):
        return
    started = _Started(home)
    try:
        while not accepts(path, limit):
            started.look()
            if time.monotonic() >= limit:
                raise Unavailable(f"The decision point did not start within {timeout_ms} ms; see {started.log}.")
            time.sleep(PAUSE_S)
        started.end_if_another_serves()
    finally:
        started.leave()


class NotStarted(Unavailable):
    """It ended at once. The exit code says whose fault that is, as its own did."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        if code in (SetupError.exit_code, Tampered.exit_code):
            self.exit_code = code


class _Started:
    """The process that was started, as long as somebody waits for it."""

    def __init__(self, home: Home) -> None:
        self.log = home.run / "serve.log"
        self._home = home
        self._begun = 0
        self._process: Popen[bytes] | None = None

    def look(self) -> None:
        """Start it, or see that it has not failed. Raises Unavailable with what it said last."""
        code = None if self._process is None else self._process.poll()
        if code:
            raise NotStarted(f"The decision point could not start: {_last_line(self.log, self._begun)}", code)
        if self._process is None or code == 0:  # 0: another was there, and may just have ended
            self._begun = self.log.stat().st_size if self.log.exists() else 0
            self._process = _spawn(self._home, self.log)

    def end_if_another_serves(self) -> None:
        """It was started beside another, and would only wait for that one to end."""
        if self._process is None or self._process.poll() is not None:
            return
        from subprocess import TimeoutExpired

        with suppress(OSError, ValueError, TimeoutExpired):
            if int((self._home.run / "lock").read_text()) != self._process.pid:
                self._process.terminate()
                self._process.wait(END_WITHIN_S)

    def leave(self) -> None:
        """It lives on without us, and its object must not complain of that."""
        if self._process is not None and self._process.poll() is None:
            self._process.returncode = 0


def accepts(path: Path, limit: float) -> bool:
    """Does somebody accept connections there? `limit`: on `time.monotonic`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(max(0.001, limit - time.monotonic()))
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _spawn(home: Home, log: Path) -> Popen[bytes]:
    """In a session of its own, so that it outlives the client, and a signal to the client's terminal."""
    from subprocess import DEVNULL, Popen

    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        errors = os.open(log, flags, 0o600)
    except OSError as error:
        raise Unavailable(f"{log} cannot be written: {cure(error)}.") from None
    command = [sys.executable, "-P", "-m", "forestall.cli", "serve", "--on-demand", "--home", str(home.root)]
    kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
    try:
        return Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=DEVNULL, stdout=DEVNULL, stderr=errors, cwd="/", env=kept, start_new_session=True
        )
    except OSError as error:
        raise Unavailable(f"{sys.executable} cannot be started: {error.strerror}; reinstall Forestall.") from None
    finally:
        os.close(errors)


def _last_line(log: Path, begun: int) -> str:
    """What it said last, of what was written since it was started."""
    lines: list[str] = []
    with suppress(OSError), log.open("rb") as file:
        file.seek(begun)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("forestall: ") if lines else _silence(log)
    return "".join(letter for letter in last if letter.isprintable())[:MAX_LAST_LINE]


def _silence(log: Path) -> str:
    """Why it may have left no word: most often, because none could be written."""
    with suppress(OSError):
        if not os.statvfs(log.parent).f_bavail:
            return f"the disk of {log.parent} is full; make room on it."
    return "it said nothing; run `forestall serve` to see why."
