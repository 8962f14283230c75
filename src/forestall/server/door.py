"""Who is at the other end of a connection: looked at when it is accepted, and once more when it answers.

Looking blocks, so it has a few threads of its own: a slow disk holds up who comes, and nobody who is there.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce

from forestall.adapter.attest.unix import Attestor
from forestall.adapter.attest.value import Attested
from forestall.adapter.attest.workload import Workload, workload_of
from forestall.adapter.identity import Peer
from forestall.core.ask import CannotDo
from forestall.core.label import CLEAN, WORST, Label
from forestall.core.model import Subject
from forestall.core.reason import Reason
from forestall.port import State

LOOK_WITHIN_S = 5.0
"""Seconds that a look may take, the wait for a thread included; the looking itself gives up on digests after three."""

THREADS = 4


class Door:
    """`attestor` is None where the machine cannot show who connects: then it is known by its user alone."""

    def __init__(self, attestor: Attestor | None) -> None:
        self._attestor = attestor
        self._threads = ThreadPoolExecutor(THREADS, "forestall-attest")

    async def look(self, connected: socket.socket) -> Attested | None:
        """Who connected. Raises CannotDo where that cannot be told."""
        if self._attestor is None:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._attestor.attest, connected)

    async def look_again(self, connected: socket.socket, before: Attested | None, *, itself: bool) -> Workload | None:
        """Whose workload it is: the same process, with the same program and the same client, as it was `before`.

        `itself`: it says that it is an agent, and no gateway. Raises CannotDo.
        """
        if self._attestor is None or before is None:
            return None
        looking = asyncio.get_running_loop().run_in_executor(
            self._threads, self._attestor.require_unchanged, connected, before
        )
        workload = workload_of(await looking, itself=itself)
        if workload.instance != workload_of(before, itself=itself).instance:
            raise CannotDo(Reason.INVALID_PROOF, "who started it is another process by now")
        return workload

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def peer_with(peer: Peer, workload: Workload | None) -> Peer:
    """What was seen of it, as the identity takes it."""
    if workload is None:
        return peer
    return replace(peer, instance=workload.instance, assurance=workload.assurance, executable=workload.executable)


def joined(holder: Subject, seen: Subject) -> Subject:
    """Who acts in a task by a grant: its holder, as was proved, running as was seen at the socket."""
    return replace(
        holder,
        instance=holder.instance or seen.instance,
        process=seen.instance if holder.instance else "",
        executable=seen.executable,
        uid=seen.uid,
        asserted_name=seen.asserted_name,
    )


def known_of(workload: Workload | None, state: State, *, again: bool) -> Label:
    """What a workload that connects may have seen. `again`: it was served before, under a task that is lost.

    Of an instance that was attested, the log knows. Of others nobody does: one that comes `again` may have seen
    anything, as may one that is not known.
    """
    if workload is None:
        return WORST if again else CLEAN
    return seen_by(workload.lineage, state) if workload.known else WORST


def seen_by(instances: Iterable[str], state: State) -> Label:
    """What any of them has seen, in whatever task."""
    return reduce(Label.join, map(state.seen, instances), CLEAN)
