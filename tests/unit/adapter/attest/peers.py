"""Real processes that connect and do as they are told; an attestor; and, for what they cannot do, a /proc made up."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from forestall.adapter.attest.digest import Digests
from forestall.adapter.attest.interpreter import Interpreters
from forestall.adapter.attest.peer import handle
from forestall.adapter.attest.unix import Attestor, Handle, Limits, Machine, this_machine

GIB = 1 << 30
BOUND_S = 60

AGENT = """
import os, socket, sys
def connect():
    global connected
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(sys.argv[1])
    connected.set_inheritable(True)
def line():
    read = b""
    while not read.endswith(b"\\n"):  # and no further, for who comes after
        more = os.read(0, 1)
        if not more:
            return ""
        read += more
    return read.decode()
connect()
os.write(1, b"connected\\n")
while True:
    words = line().split()
    if not words:
        os._exit(0)
    elif words[0] == "connect":
        connect()
    elif words[0] == "exec":
        os.execv(words[1], words[1:])
    elif words[0] == "hand-over-and-exec":
        if os.fork():
            os.execv(words[1], words[1:])
    elif words[0] == "fork-and-connect":
        if os.fork():
            while True:
                os.waitpid(-1, 0)
        connect()
    os.write(1, words[0].encode() + b"\\n")
"""
"""Connects, then carries out one command a line. After `exec` of `cat`, what is written comes back."""

CAT = str(Path(shutil.which("cat") or "/bin/cat").resolve())


class Peer:
    """One process, and the decision point's end of its newest connection."""

    def __init__(self, listener: socket.socket, process: subprocess.Popen[str]) -> None:
        self._listener, self.process = listener, process
        self.heard("connected")
        self.connected = listener.accept()[0]

    @property
    def pid(self) -> int:
        return self.process.pid

    def told(self, *words: str | Path) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{' '.join(map(str, words))}\n")
        self.process.stdin.flush()

    def heard(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"

    def heard_both(self) -> set[str]:
        assert self.process.stdout is not None
        return {self.process.stdout.readline().rstrip("\n") for _ in range(2)}

    def connects_again(self, how: str = "connect") -> socket.socket:
        before = self.connected
        self.told(how)
        self.heard(how)
        self.connected = self._listener.accept()[0]
        return before

    def execs(self) -> None:
        """Returns once the process runs `cat`."""
        self.told("exec", CAT)
        self.told("echo")
        self.heard("echo")

    def ends(self, *, collected: bool = True) -> None:
        self.process.kill()
        if collected:
            self.process.wait(BOUND_S)
        else:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def peer(
    directory: Path,
    program: Path | str = sys.executable,
    *,
    before: tuple[str, ...] = (),
    pass_fds: tuple[int, ...] = (),
) -> Iterator[Peer]:
    """`program` is Python, or a copy of it. `before`: words in front of it."""
    path = directory / "socket"
    path.unlink(missing_ok=True)
    command = [*before, str(program), "-c", AGENT, str(path)]
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            pass_fds=pass_fds,
        )
        with process:
            made = Peer(listener, process)
            try:
                yield made
            finally:
                made.connected.close()
                process.kill()  # a fork of it ends with its standard input


def copy_of_python(directory: Path, name: str = "agent") -> Path:
    """A program of its own, as far as anybody can tell by its name."""
    made = directory / name
    shutil.copy(Path(sys.executable).resolve(), made)
    return made


def steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Steps:
    """A clock on which something happens at one of its readings: the first is before any executable is looked at, the
    second while the first one is digested.
    """

    def __init__(self, at: int, then: Callable[[], object]) -> None:
        self._at, self._then, self.count = at, then, 0

    def __call__(self) -> int:
        self.count += 1
        if self.count == self._at:
            self._then()
        return 0


def attestor(
    *,
    clock_ms: Callable[[], int] = steady_ms,
    machine: Machine | None = None,
    limits: Limits | None = None,
    interpreters: Interpreters | None = None,
    max_bytes: int = GIB,
    handle_of: Handle = handle,
) -> Attestor:
    digests = Digests(max_bytes=max_bytes, clock_ms=clock_ms, wall_ns=time.time_ns)
    return Attestor(
        machine or this_machine(),
        digests,
        interpreters or Interpreters(),
        clock_ms=clock_ms,
        limits=limits,
        handle_of=handle_of,
    )


@contextmanager
def no_handle(_connected: socket.socket) -> Iterator[int | None]:
    """A kernel that has none to give, as before Linux 6.5."""
    yield None


class MadeUp:
    """A /proc of files, whose processes are as we write them. What runs is a real file."""

    def __init__(self, root: Path, uid: int) -> None:
        self.root, self.uid = root, uid
        self.write("sys/kernel/overflowuid", "65534\n")
        self.write("self/uid_map", "         0          0 4294967295\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def process(self, pid: int, parent: int, started: int, runs: Path, *, uid: int | None = None) -> None:
        fields = ["0"] * 50
        fields[0], fields[1], fields[19] = "S", str(parent), str(started)
        self.write(f"{pid}/stat", f"{pid} (a) (b) {' '.join(fields)}\n")
        uid = self.uid if uid is None else uid
        self.write(f"{pid}/status", f"Name:\ta\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        self.write(f"{pid}/cmdline", "a\0")
        (self.root / f"{pid}/exe").unlink(missing_ok=True)
        (self.root / f"{pid}/exe").symlink_to(runs)

    @property
    def machine(self) -> Machine:
        return Machine(self.uid, "made-up", self.root)


@contextmanager
def own_connection() -> Iterator[socket.socket]:
    """From this very process to itself."""
    one, other = socket.socketpair()
    with closing(one), closing(other):
        yield other
