"""One process under /proc, held by its open directory.

The directory belongs to the process and not to its number: once the process has ended, nothing can be read through it,
whoever has the number by then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 8192
"""Of a file of a process that are read; its `stat` and `status` are 2 KiB at most."""

_DEAD = frozenset({b"Z", b"X", b"x"})


class Vanished(Exception):
    """The process has ended, or /proc does not show it to us."""


@dataclass(frozen=True, slots=True)
class Stat:
    parent: int
    """0 where it has none, or one outside of our pid namespace."""
    started: int
    """Clock ticks since the boot."""


def parse_stat(data: bytes) -> Stat:
    """proc(5), `stat`. The second field is the name, in parentheses, and may hold spaces and parentheses itself.

    Raises:
        Vanished: the process has ended and only waits to be collected, or this is no such line.
    """
    fields = data.rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in _DEAD or not (fields[1].isdigit() and fields[19].isdigit()):
        raise Vanished
    return Stat(int(fields[1]), int(fields[19]))


def parse_uid(data: bytes) -> int:
    """The effective uid in a `status` (proc(5)). Raises Vanished where there is none."""
    for line in data.split(b"\n"):
        name, _, rest = line.partition(b":")
        uids = rest.split()
        if name == b"Uid" and len(uids) == 4 and uids[1].isdigit():
            return int(uids[1])
    raise Vanished


@dataclass(frozen=True, slots=True)
class Entry:
    pid: int
    directory: int
    """Descriptor of its directory."""

    def stat(self) -> Stat:
        return parse_stat(self._read("stat"))

    def uid(self) -> int:
        return parse_uid(self._read("status"))

    def arguments(self) -> tuple[str, ...]:
        """What the process says it was started with, as far as it fits; it may have written anything there."""
        return tuple(part.decode("utf-8", "replace") for part in self._read("cmdline").split(b"\0")[:-1])

    def executable(self) -> int:
        """A new descriptor (O_PATH) of the file that it runs. Raises PermissionError where we may not look."""
        try:
            return os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=self.directory)
        except PermissionError:
            raise
        except OSError as error:
            raise _translated(error) from None

    def namespace(self, kind: str) -> str:
        """Empty where we may not look."""
        try:
            return os.readlink(f"ns/{kind}", dir_fd=self.directory)
        except OSError:
            return ""

    def stdin(self) -> str | None:
        """What it has open as file 0; empty where that is closed, None where we may not look."""
        try:
            return os.readlink("fd/0", dir_fd=self.directory)
        except FileNotFoundError:
            return ""
        except OSError:
            return None

    def _read(self, name: str) -> bytes:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
            with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - an open descriptor
                return file.read(MAX_BYTES) or b""
        except OSError as error:
            raise _translated(error) from None


@contextmanager
def process(pid: int, root: Path) -> Iterator[Entry]:
    """`root` is where procfs is mounted. Raises Vanished."""
    try:
        directory = os.open(root / str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _translated(error) from None
    try:
        yield Entry(pid, directory)
    finally:
        os.close(directory)


def _translated(error: OSError) -> Exception:
    """What is our own trouble, such as too many open files, is not the process's."""
    gone = isinstance(error, FileNotFoundError | ProcessLookupError | PermissionError)
    return Vanished() if gone else error
