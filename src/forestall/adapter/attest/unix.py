"""Which process is at the other end of a Unix socket, what it runs, and who started it.

The rules that this module keeps:

 1. Everything comes from the kernel; what the client says is kept apart, as asserted.
 2. A process is looked at through handles of its own, never by its number alone, and it is the same process, of the
    same user, running the same file, when the looking ends as when it began; otherwise nobody was attested.
 3. A digest is of the open file that runs, not of what lies at its path.
 4. What cannot be read is left empty, and said; it never keeps the rest from being known, and is never guessed.
 5. A parent is one only if its child still had it after it was looked at.

What it cannot see: which program ran *before* it first looked. Whoever connects, hands the socket to a child and then
runs a trusted program in its own place is attested as that program. So attest at the accept, ask for something that
only an answer after that can hold, and call `require_unchanged` when it comes. And a process can be entered by others
of its user (ptrace, LD_PRELOAD): a digest tells programs apart that do not fight each other, and `same_uid` says where
the decision point itself can be reached so.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from forestall.adapter.attest import mounts
from forestall.adapter.attest.digest import Digests
from forestall.adapter.attest.executable import Looking, Program, place_now
from forestall.adapter.attest.interpreter import Interpreters, script_of
from forestall.adapter.attest.peer import Credentials, credentials, handle, is_unmapped, require_alive
from forestall.adapter.attest.proc import Entry, Stat, Vanished, process
from forestall.adapter.attest.value import Attested, Process
from forestall.core.ask import CannotDo
from forestall.core.errors import Unavailable, cure
from forestall.core.reason import Reason

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Limits:
    max_bytes: int = 1 << 30
    """Of an executable that is digested. Those of agents that carry their runtime are a fifth of that."""
    budget_ms: int = 3_000
    """For the digests of one attestation, the parents' included. Half a gigabyte at the speed of a slow disk."""
    parents: int = 32
    """A desktop's deepest chains (display manager, session, terminal, shell, editor, agent) are half as long."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What an attestor is told of where it runs."""

    uid: int
    """The decision point's own, effective."""
    boot: str
    proc: Path = PROC


def this_machine(proc: Path = PROC) -> Machine:
    """Raises Unavailable where the system is not Linux, is older than 5.14, or does not show /proc."""
    require_supported(sys.platform)
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        with process(os.getpid(), PROC) as own:
            mounts.place_of(own.directory)
    except (OSError, Vanished) as error:
        why = cure(error) if isinstance(error, OSError) else "it does not show this process"
        raise Unavailable(f"Peers can be attested only with Linux 5.14 or newer and its /proc: {why}.") from None
    return Machine(os.geteuid(), boot, proc)


def require_supported(platform: str) -> None:
    """`platform` is `sys.platform`. macOS would need LOCAL_PEERCRED, LOCAL_PEERPID and audit token: not made yet."""
    if platform != "linux":
        raise Unavailable(
            f"Peers of a local socket cannot be attested on {platform}, only on Linux; use an SVID or an OIDC token."
        )


Handle = Callable[[socket.socket], AbstractContextManager[int | None]]


class Attestor:
    """`clock_ms` is the steady clock that `digests` was given. Blocking, up to the budget: call it beside the loop."""

    def __init__(
        self,
        machine: Machine,
        digests: Digests,
        interpreters: Interpreters,
        *,
        clock_ms: Callable[[], int],
        limits: Limits | None = None,
        handle_of: Handle = handle,
    ) -> None:
        self._machine, self._digests, self._interpreters = machine, digests, interpreters
        self._clock_ms, self._handle_of = clock_ms, handle_of
        self._limits = Limits() if limits is None else limits

    def attest(self, connected: socket.socket) -> Attested:
        """Who connected.

        Raises:
            CannotDo: `invalid_proof` where no process can be tied to the connection, or it changed while it was looked
                at; `unavailable` where the decision point itself could not look.
        """
        try:
            return self._attest(connected)
        except Vanished:
            why = "the process that connected has ended, is not shown, or changed while it was looked at"
            raise CannotDo(Reason.INVALID_PROOF, why) from None
        except OSError as error:
            raise CannotDo(
                Reason.UNAVAILABLE, f"the process that connected cannot be looked at: {cure(error)}"
            ) from None

    def require_unchanged(self, connected: socket.socket, before: Attested) -> Attested:
        """Who connected, as it is now; refused where it is not the process, or not the program, that it was `before`.

        Raises:
            CannotDo: as `attest`, and `invalid_proof` where it differs.
        """
        now = self.attest(connected)
        if (now.instance, now.path, now.digest) != (before.instance, before.path, before.digest):
            raise CannotDo(Reason.INVALID_PROOF, "the process that connected now runs another program")
        return now

    def _attest(self, connected: socket.socket) -> Attested:
        peer, root = credentials(connected), self._machine.proc
        if peer.pid <= 0 or is_unmapped(peer.uid, root):
            raise Vanished
        with ExitStack() as held:
            pinned = held.enter_context(self._handle_of(connected))
            entry = held.enter_context(process(peer.pid, root))
            seen = self._subject(entry, peer, pinned)
            looking = self._looking()
            program = looking.at(entry, held)
            asserted = script_of(entry.arguments()) if program.is_interpreter else ""
            stdin = entry.stdin()
            parents, complete = self._parents(entry, seen, looking, held)
            if place_now(entry) != program.place or self._subject(entry, peer, pinned).started != seen.started:
                raise Vanished
        return Attested(
            pid=peer.pid,
            uid=peer.uid,
            boot=self._machine.boot,
            started=seen.started,
            path=program.path,
            gone=program.gone,
            digest=program.digest,
            is_interpreter=program.is_interpreter,
            unknown=program.unknown,
            stdin=stdin,
            gid=peer.gid,
            parents=parents,
            complete=complete,
            pinned=pinned is not None,
            same_uid=peer.uid == self._machine.uid,
            asserted_script=asserted,
        )

    def _subject(self, entry: Entry, peer: Credentials, pinned: int | None) -> Stat:
        """The process is there, is the one that connected, and still acts for the user that it connected as."""
        stat = entry.stat()
        if entry.uid() != peer.uid:
            raise Vanished
        if pinned is not None:
            require_alive(pinned, peer.pid)
        return stat

    def _looking(self) -> Looking:
        with process(os.getpid(), PROC) as own:
            return Looking(
                self._digests,
                self._interpreters,
                mounts.read(own.directory),
                own.namespace("user"),
                self._clock_ms() + self._limits.budget_ms,
            )

    def _parents(self, child: Entry, stat: Stat, looking: Looking, held: ExitStack) -> tuple[tuple[Process, ...], bool]:
        """As far as each was certainly the parent of the one before; and whether that is all of them."""
        found: list[Process] = []
        while child.pid != 1:
            if len(found) >= self._limits.parents:
                return tuple(found), False
            try:
                parent = held.enter_context(process(stat.parent, self._machine.proc))
                above, uid = parent.stat(), parent.uid()
                program, stdin = looking.at(parent, held), parent.stdin()
                same = parent.stat().started == above.started and place_now(parent) == program.place
                if not same or child.stat() != stat:
                    return tuple(found), False
            except Vanished:
                return tuple(found), False
            found.append(self._process(parent.pid, uid, above, program, stdin))
            child, stat = parent, above
        return tuple(found), True

    def _process(self, pid: int, uid: int, stat: Stat, program: Program, stdin: str | None) -> Process:
        return Process(
            pid=pid,
            uid=uid,
            boot=self._machine.boot,
            started=stat.started,
            path=program.path,
            gone=program.gone,
            digest=program.digest,
            is_interpreter=program.is_interpreter,
            unknown=program.unknown,
            stdin=stdin,
        )
