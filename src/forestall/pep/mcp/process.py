"""The server's process: started in a group of its own, watched, signalled, and never left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass

from forestall.core.errors import SetupError, Unavailable
from forestall.pep.mcp.equip import Start

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""As a shell says it."""


class ServerNotStarted(Unavailable):
    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, and what the system says of it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def find(cls, name: str) -> Account:
        """Raises SetupError where there is none, or we are not the one who may run something as another."""
        import pwd

        if os.geteuid() != 0:
            raise SetupError("Only root can run a server as another user; leave --run-as out, or start this as root.")
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            raise SetupError(f"There is no user {name!r} on this machine; make one for the server.") from None
        groups = tuple(os.getgrouplist(name, found.pw_gid))
        return cls(name, found.pw_uid, found.pw_gid, groups, found.pw_dir)


def environment_of(start: Start, account: Account | None) -> dict[str, str] | None:
    if account is None:
        return start.environment
    own = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    return {**(os.environ if start.environment is None else start.environment), **own}


class Server:
    """A running server. Must be made inside the event loop."""

    def __init__(self, start: Start, account: Account | None = None, *, keep_stderr: bool = False) -> None:
        """Start it.

        Args:
            start: what to run, and with what. It is closed.
            account: whom to run it as, if not as ourselves.
            keep_stderr: its standard error is ours to pass on, at `stderr`; else it is the client's.

        Raises:
            ServerNotStarted: with the exit code that a shell would give.
        """
        command = start.command
        stderr = subprocess.PIPE if keep_stderr else _own_stderr()
        try:
            # The command is the user's own, from the command line.
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                process_group=0,
                env=environment_of(start, account),
                pass_fds=start.descriptors,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else account.groups,
            )
        except OSError as error:
            missing = error.errno == errno.ENOENT
            why = os.strerror(error.errno or 0)
            raise ServerNotStarted(
                f"The server's command {command[0]!r} cannot be started: {why}; check it, and the search path.",
                NOT_FOUND if missing else NOT_EXECUTABLE,
            ) from None
        finally:
            start.close()
            if stderr is not None and stderr >= 0:
                os.close(stderr)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.stdin = os.dup(self._process.stdin.fileno())
        self.stdout = os.dup(self._process.stdout.fileno())
        self._process.stdin.close()
        self._process.stdout.close()
        self.stderr = -1
        """What it says there, where that is ours to pass on."""
        if self._process.stderr is not None:
            self.stderr = os.dup(self._process.stderr.fileno())
            self._process.stderr.close()
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        threading.Thread(target=self._watch, args=(asyncio.get_running_loop(),), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

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
