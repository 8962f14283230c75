"""What was seen of a process and of those that started it. Values only: `unix.py` fills them in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unknown(StrEnum):
    """Why something about an executable is not known. It is then left empty, and never guessed."""

    HIDDEN = "hidden"  # the kernel does not let us look: another user's, or a file that may be run and not read
    ELSEWHERE = "elsewhere"  # in another mount namespace, where its path names another file than it does here
    UNPRINTABLE = "unprintable"  # its path cannot be shown as one line of text
    FOREIGN = "foreign"  # on a file system whose server may answer each read otherwise, or never
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    CHANGED = "changed"  # the file was written to while it was read


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process, which ran this executable before and after everything else about it was read."""

    pid: int
    """As seen from the decision point's pid namespace."""
    uid: int
    boot: str
    """The kernel's random id of this boot; a pid and a start time name a process only within one."""
    started: int
    """Clock ticks since the boot (proc(5), stat field 22)."""
    path: str = ""
    """Of the executable; where `gone`, the path that it had. Empty where `unknown` says why."""
    gone: bool = False
    """The file that runs is no longer the one at its path: it was deleted, or replaced by another."""
    digest: str = ""
    """`sha256:` over the very file that runs, libraries and scripts not included. Empty where `unknown` says why."""
    is_interpreter: bool = True
    """It runs what it is given, so that its digest identifies nobody. Also where that is not known."""
    unknown: frozenset[Unknown] = frozenset()
    stdin: str | None = None
    """What it has open as its standard input, as the kernel names it (`pipe:[4711]`); empty where it has closed it, and
    None where we may not look. Never recorded.
    """

    @property
    def instance(self) -> str:
        """Names this process and no other, before or after it; the same on every connection that it makes.

        A fork has another, and names this one among its parents, until its own parent ends.
        """
        return f"unix:{self.uid}:{self.boot}:{self.pid}:{self.started}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested(Process):
    """The process that connected. `uid` and `gid` are those that it had when it did."""

    gid: int
    parents: tuple[Process, ...] = ()
    """Whose child it is, nearest first. Their uid is the effective one now."""
    complete: bool = False
    """`parents` reaches up to the first process, and none was missed; what is `unknown` of one is said there."""
    pinned: bool = False
    """The kernel itself tied the connection to the process (SO_PEERPIDFD), so that a pid that was used again in between
    cannot stand in for it. False before Linux 6.5: a process that ended before it was looked at may then be mistaken
    for the one that has its pid now.
    """
    same_uid: bool
    """It runs as the decision point's own user, whose files and keys it can reach: assurance `local`, and no more."""
    asserted_script: str = ""
    """What an interpreter says that it runs: from its command line, which it may write as it likes. Never identity."""

    @property
    def selectors(self) -> tuple[str, ...]:
        """What SPIRE's unix attestor says of a workload, in its words; names of users and groups are left out.

        An interpreter's path and digest go by other names, so that no rule that was meant for a program matches one.
        """
        kind = "interpreter_" if self.is_interpreter else ""
        found = [f"unix:uid:{self.uid}", f"unix:gid:{self.gid}"]
        if self.path and not self.gone:
            found.append(f"unix:{kind}path:{self.path}")
        if self.digest:
            found.append(f"unix:{kind}sha256:{self.digest.removeprefix('sha256:')}")
        return tuple(found)
