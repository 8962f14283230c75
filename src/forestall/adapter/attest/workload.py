"""Whose workload a connection is: which of the processes that were seen is the one instance that labels stay with.

An agent that connects by itself is its own. A gateway works for whoever started it, its client: that one reads what all
of its gateways let through. Between the two there may be a shell, or a launcher such as npx, which hands its own
standard input on; the client is the nearest ancestor that does not have the gateway's. Where a standard input cannot be
seen, it is the outermost process of the gateway's user, which takes in too much rather than too little.

Nobody is its client where that user started nothing above it, or what did is an init, to which the kernel gives those
whose parent ended (docs/adr/0011-instances.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from forestall.adapter.attest.value import Attested, Process
from forestall.core.model import Assurance, Executable

_INITS = "init systemd tini docker-init dumb-init catatonit s6-svscan runsvdir runit-init openrc-init launchd"
INITS = frozenset(_INITS.split())
"""Executables that take in processes whose parent ended, and start those that nobody else did."""

_HANDED_ON = ("pipe:", "socket:")
"""A terminal, a file or `/dev/null` as standard input is anybody's."""


@dataclass(frozen=True, slots=True)
class Workload:
    instance: str
    lineage: tuple[str, ...]
    """The instance, what connected, and all that were seen above: what one of them has seen, the workload may know."""
    known: bool
    """False where nobody knows for whom a gateway works: then what that one has seen is not known either."""
    assurance: Assurance
    executable: Executable | None
    """What the instance runs; None where the instance is not known."""


def workload_of(seen: Attested, *, itself: bool) -> Workload:
    """`itself`: what connected is the agent, and no gateway."""
    found = seen if itself else client_of(seen)
    process = seen if found is None else found
    return Workload(
        instance=process.instance,
        lineage=tuple(dict.fromkeys(one.instance for one in (process, seen, *seen.parents))),
        known=found is not None,
        assurance=Assurance.LOCAL if seen.same_uid else Assurance.ATTESTED,
        executable=None if found is None else executable_of(found, same_uid=seen.same_uid),
    )


def client_of(seen: Attested) -> Process | None:
    """Who started this gateway; None where that cannot be told."""
    above = list(takewhile(lambda one: one.uid == seen.uid, seen.parents))
    for one in above:
        if seen.stdin is None or one.stdin is None:
            whole = seen.complete or len(above) < len(seen.parents)
            return above[-1] if whole else None
        if not _hands_on(one, seen.stdin):
            return None if _is_init(one) else one
    return None


def executable_of(process: Process, *, same_uid: bool) -> Executable:
    """An interpreter's digest is left out: it is that of every program of its language."""
    return Executable(
        path="" if process.gone else process.path,
        digest="" if process.is_interpreter else process.digest,
        interpreter=process.is_interpreter,
        same_uid=same_uid,
    )


def _hands_on(process: Process, stdin: str) -> bool:
    return process.stdin == stdin and stdin.startswith(_HANDED_ON)


def _is_init(process: Process) -> bool:
    return process.path.rpartition("/")[2] in INITS
