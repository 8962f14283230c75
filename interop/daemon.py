"""A program that runs until it is stopped, and whose log can be waited on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

START_S = 60.0
"""Seconds until it has to be ready."""

STOP_S = 60.0
"""Seconds that it has to end by itself once it is told to."""

LOG_LINES = 400
"""How much of the log is kept, to be shown when something fails."""

WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""Whoever kills us outright kills what we started as well."""


class Daemon:
    """Started by making one; `stop` ends it, whatever state it is in, and may be called twice."""

    def __init__(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._said = 0
        self._changed = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [*WITH_US, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **env},
            start_new_session=True,  # Ctrl-C is for us, and we stop it in order
        )
        self._reader = threading.Thread(target=self._read, name=f"log-{name}", daemon=True)
        self._reader.start()

    @property
    def said(self) -> int:
        """How many lines it has logged: what `wait_for` calls `after`."""
        return self._said

    def wait_for(self, *words: str, after: int = 0) -> None:
        """Until one line of the log, behind its first `after` lines, has all of `words`.

        Raises:
            RuntimeError: it ended, or is not ready in time. Holds the log.
        """

        def said() -> bool:
            first = self._said - len(self._lines)
            return any(
                number >= after and all(word in line for word in words)
                for number, line in enumerate(self._lines, first)
            )

        with self._changed:
            self._changed.wait_for(lambda: self._ended or said(), START_S)
            if not said():
                raise RuntimeError(f"{self.name} did not say {' '.join(words)}. Its log:\n{self.log}")

    @property
    def log(self) -> str:
        return "".join(self._lines.copy())

    def pause(self) -> None:
        """As if its machine had hung: it holds its connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As if its machine had failed, with all that it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            self.resume()
            self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None, "asked for above"
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None, "asked for above"
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._said += 1
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
