"""Orders of the running decision point: given durably, pushed at once, acknowledged when nobody can act against them.

The rules, each with a test in tests/unit/server/test_orders.py:

- Every connection whose task an order ends or suspends is told in the turn of the loop in which the order is taken in.
- From then on no permit is sent to it, and of a task that was ended no output is released.
- An order is acknowledged when each of them has confirmed, or when the lease of what was sent to it before has run out.
- A connection that has not confirmed by then is ended.
- The credentials that it makes needless are ended at once. The acknowledgement waits for their backends for as long as
  for a connection, and says how many of them have not answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forestall.core.control import Command
from forestall.core.reason import Reason
from forestall.server.frames import LEASE_MS
from forestall.server.leases import Leases
from forestall.server.notice import Notice
from forestall.wire import Parts, order

if TYPE_CHECKING:
    from forestall.server.connection import Connection


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The order is in force, and whoever is connected keeps it."""

    epoch: int
    """How many orders had been taken in with it."""
    tasks_ended: int
    tasks_suspended: int
    tasks_resumed: int
    confirmed: int
    """Enforcement points that were told, and confirmed."""
    unconfirmed: int
    """Those that were told and did not confirm: their connections are ended."""
    credentials_ended: int = 0
    """Those that the order ended, and that nobody can use any more."""
    credentials_left: int = 0
    """Those that it ended, and whose backends have not said so yet: they are tried again until they have."""


class Orders:
    def __init__(self, parts: Parts, connections: Collection[Connection], leases: Leases) -> None:
        self._parts = parts
        self._leases = leases
        self._connections = connections
        self._told: dict[int, list[Notice]] = {}
        """Of each command that is being given, by its identity: who was told of it."""
        parts.on_order.append(self._taken_in)
        parts.on_close.append(self._hear)
        self._loop = asyncio.get_running_loop()

    async def give(self, command: Command) -> Acknowledged:
        """Record it, take it in, and wait until it is kept.

        Raises:
            Unavailable: the ledger does not take it. It may then be in force all the same; give it again.
        """
        told = self._told[id(command)] = []
        before = self._standing()
        over = self._leases.over()
        try:
            await order(self._parts, command)
        finally:
            del self._told[id(command)]
        epoch, after = self._parts.state.epoch, self._standing(before)
        changed = [after[task] for task, was in before.items() if after[task] is not was]
        ended, confirmed = await asyncio.gather(
            self._leases.see_ended(self._leases.over() - over, LEASE_MS / 1000),
            asyncio.gather(*(notice.confirmed for notice in told)),
        )
        return Acknowledged(
            epoch=epoch,
            tasks_ended=changed.count(Reason.REVOKED),
            tasks_suspended=changed.count(Reason.SUSPENDED),
            tasks_resumed=changed.count(None),
            confirmed=confirmed.count(True),
            unconfirmed=confirmed.count(False),
            credentials_ended=ended.ended,
            credentials_left=ended.left,
        )

    def look(self, connection: Connection) -> None:
        """Tell it, if its task is over, or suspended, and it was not told of that yet."""
        grant = connection.grant
        if grant is None or connection.over:
            return
        state = self._parts.state
        reason = state.stopped(grant.task)
        if reason is None:
            now = state.find_grant(grant.task)
            if now is None or self._parts.now() >= now.expires_at:
                reason = Reason.TASK_ENDED
            elif not self._parts.accepts(now):
                reason = Reason.REVOKED
        if reason is None:
            connection.resume()
        elif reason is not connection.stopped:
            connection.stop(reason, state.epoch)

    def look_at_all(self) -> None:
        for connection in tuple(self._connections):
            self.look(connection)

    def _hear(self) -> None:
        """On any thread: a task was closed, with all below it, elsewhere or with the one above it."""
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self.look_at_all)

    def _taken_in(self, command: Command) -> None:
        told = self._told.get(id(command))
        for connection in tuple(self._connections):
            self.look(connection)
            if told is not None:
                told += connection.unanswered[-1:]  # who confirms the last has confirmed those before

    def _standing(self, tasks: Collection[str] | None = None) -> dict[str, Reason | None]:
        """What is known of these tasks, or of those that are open."""
        state = self._parts.state
        names = tasks if tasks is not None else [grant.task for grant in state.open_tasks()]
        return {name: state.stopped(name) for name in names}
