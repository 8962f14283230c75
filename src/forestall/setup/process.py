"""A server's process, for as long as its tools are listed: lines in and out, each wait bounded, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from forestall.core.errors import Unavailable

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one message: what a frame holds."""

STOP_S = 2.0
"""Seconds for each of: leave when standard input closes, leave on SIGTERM (MCP 2025-11-25, lifecycle, shutdown)."""

_CHUNK = 65536
_TAIL = 4096
"""Bytes of standard error that are kept, to say why a server ended."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a client's configuration says of starting a server."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Set on top of this process's own."""
    directory: Path | None = None


class Process:
    """A context: started on entry, and on exit gone with everything that it started."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._buffer = bytearray()
        self._errors = b""

    def __enter__(self) -> Self:
        command = self._command
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the person consented to exactly this command
                command.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **command.environment},
                cwd=command.directory,
                bufsize=0,
                start_new_session=True,  # one group, so that what it starts can be ended with it
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise Unavailable(
                f"{command.argv[0]!r} does not start: {why}. Check `command` and the search path."
            ) from None
        self._selector = selectors.DefaultSelector()
        for pipe in (self._pipe("stdout"), self._pipe("stderr")):
            self._selector.register(pipe, selectors.EVENT_READ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop()
        finally:
            self._selector.close()
            for name in ("stdin", "stdout", "stderr"):
                with contextlib.suppress(OSError):
                    self._pipe(name).close()

    def _pipe(self, name: str) -> IO[bytes]:
        return cast("IO[bytes]", getattr(self._process, name))

    def write(self, line: bytes) -> None:
        """Send one line.

        Raises:
            Unavailable: the server has closed its standard input.
        """
        try:
            self._pipe("stdin").write(line + b"\n")
        except OSError:
            raise Unavailable(f"the server ended{self._last_words()}") from None

    def read(self, deadline: float) -> bytes | None:
        """The next line; None where the deadline, in `time.monotonic` seconds, came first.

        Raises:
            Unavailable: the server ended, or sent a line beyond `MAX_LINE`.
        """
        while True:
            if (left := deadline - time.monotonic()) <= 0:
                return None
            if (end := self._buffer.find(b"\n")) >= 0:
                break
            if len(self._buffer) > MAX_LINE:
                raise Unavailable(f"the server sent a message of more than {MAX_LINE} bytes")
            for key, _ in self._selector.select(left):
                self._take(cast("IO[bytes]", key.fileobj))
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _take(self, pipe: IO[bytes]) -> None:
        data = os.read(pipe.fileno(), _CHUNK)
        if pipe is self._pipe("stderr"):
            self._errors = (self._errors + data)[-_TAIL:]
            if not data:
                self._selector.unregister(pipe)
        elif data:
            self._buffer += data
        else:
            raise Unavailable(f"the server ended{self._last_words()}")

    def _last_words(self) -> str:
        """The last line of standard error, without what the configuration keeps in variables."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        with contextlib.suppress(OSError):
            os.set_blocking(self._pipe("stderr").fileno(), False)
            self._errors += os.read(self._pipe("stderr").fileno(), _CHUNK)
        lines = [line.strip() for line in self._errors.decode(errors="replace").splitlines() if line.strip()]
        last = "".join(c if c.isprintable() else "?" for c in lines[-1]) if lines else ""
        for value in self._command.environment.values():
            last = last.replace(value, "***") if len(value) > 3 else last
        code = self._process.returncode
        return f"{f' with exit code {code}' if code is not None else ''}{f'; it said: {last:.200}' if last else ''}"

    def _stop(self) -> None:
        """Ask, then ask its group, then end the group: while the leader is not reaped its group's id stays its own."""
        with contextlib.suppress(OSError):
            self._pipe("stdin").close()
        if not self._left(STOP_S):
            self._signal(signal.SIGTERM)
            self._left(STOP_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _left(self, seconds: float) -> bool:
        """Did the leader end in time? Reads on meanwhile, so that it is not stuck writing; does not reap it."""
        deadline = time.monotonic() + seconds
        while self._process.returncode is None:
            options = os.WEXITED | os.WNOWAIT | os.WNOHANG
            if os.waitid(os.P_PID, self._process.pid, options) is not None:
                return True
            if time.monotonic() >= deadline:
                return False
            for key, _ in self._selector.select(0.02):
                if not os.read(key.fd, _CHUNK):
                    self._selector.unregister(key.fileobj)
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
