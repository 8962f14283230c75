"""Everything that a server started, wherever it went: found through its parents, and killed.

A process group can be left; a parent cannot. What loses its parent becomes our child (`memory.adopt`), so that whatever
is below us, and was not there before the server, is the server's.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    is_over: bool
    """It has ended, and waits for its parent to look."""


@dataclass(slots=True)
class Descendants:
    """Made before the server is started. On a system without /proc there are none."""

    proc: Path = PROC
    before: frozenset[int] = field(init=False)
    """Our own children, which are not the server's."""

    def __post_init__(self) -> None:
        self.before = frozenset(one.pid for one in processes(self.proc) if one.parent == os.getpid())

    def alive(self) -> list[int]:
        return [one.pid for one in self._below() if not one.is_over]

    def kill(self) -> bool:
        """Whatever is there now. Was there anything?"""
        found = self.alive()
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return bool(found)

    def reap(self, but: int) -> None:
        """Look at those of our children that have ended: those that were orphans. Not at the server itself, `but`."""
        for one in self._below():
            if one.is_over and one.parent == os.getpid() and one.pid != but:
                with suppress(ChildProcessError):
                    os.waitpid(one.pid, os.WNOHANG)

    def _below(self) -> list[Process]:
        children = defaultdict(list)
        for one in processes(self.proc):
            children[one.parent].append(one)
        found: list[Process] = []
        waiting = [one for one in children[os.getpid()] if one.pid not in self.before]
        while waiting:
            one = waiting.pop()
            found.append(one)
            waiting += children[one.pid]
        return found


def processes(proc: Path = PROC) -> Iterator[Process]:
    """All that can be seen (proc(5), `stat`: pid, name in brackets, state, parent)."""
    with suppress(OSError):
        for name in os.listdir(proc):  # noqa: PTH208 - names alone are wanted, of many
            if name.isdecimal():
                with suppress(OSError, ValueError, IndexError):
                    state, parent = (proc / name / "stat").read_bytes().rpartition(b")")[2].split(None, 2)[:2]
                    yield Process(int(name), int(parent), is_over=state in b"ZX")
