"""The server's process: started in a group of its own, watched, signalled, and never left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress

from forestall.core.errors import Unavailable

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""As a shell says it."""


class ServerNotStarted(Unavailable):
    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Server:
    """A running server. Must be made inside the event loop."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it.

        Raises:
            ServerNotStarted: with the exit code that a shell would give.
        """
        stderr = _own_stderr()
        try:
            # The command is the user's own, from the command line.
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0, process_group=0
            )
        except OSError as error:
            missing = error.errno == errno.ENOENT
            why = os.strerror(error.errno or 0)
            raise ServerNotStarted(
                f"The server's command {command[0]!r} cannot be started: {why}; check it, and the search path.",
                NOT_FOUND if missing else NOT_EXECUTABLE,
            ) from None
        finally:
            if stderr is not None:
                os.close(stderr)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.stdin = os.dup(self._process.stdin.fileno())
        self.stdout = os.dup(self._process.stdout.fileno())
        self._process.stdin.close()
        self._process.stdout.close()
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        threading.Thread(target=self._watch, args=(asyncio.get_running_loop(),), daemon=True).start()

    def signal(self, number: int) -> None:
        """To the whole group, for as long as its leader is not reaped: its number cannot be another's."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def reap(self) -> int:
        """What is left of the group is told to end. The exit status: negative is the signal it died of."""
        self.signal(signal.SIGTERM)
        return self._process.wait()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:  # macOS before Python 3.13: reaped at once, so what is left of the group is not signalled
            self._process.wait()
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


def _own_stderr() -> int | None:
    """Standard error for the server, where ours is the same pipe or terminal as standard output.

    Standard output is made non-blocking, and that is a property of what it refers to: the server would share it.
    """
    try:
        out, error = os.fstat(1), os.fstat(2)
        shared = os.path.samestat(out, error) and (stat.S_ISFIFO(out.st_mode) or stat.S_ISCHR(out.st_mode))
        return os.open("/dev/fd/2", os.O_WRONLY | os.O_NOCTTY) if shared else None
    except OSError:
        return None
