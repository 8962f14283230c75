"""The decision point as a process: one loop, many connections, and the books put in order before and after."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from forestall import __version__
from forestall.core.ask import CannotDo
from forestall.core.entry import Stream
from forestall.core.errors import ForestallError, SetupError
from forestall.core.sweep import sweep
from forestall.core.task import close_task
from forestall.permits import publish
from forestall.run import run_async
from forestall.server.connection import Connection
from forestall.server.door import Door
from forestall.server.frames import Peering
from forestall.server.leases import Leases
from forestall.server.orders import Orders
from forestall.server.shared import shared
from forestall.server.task_json import order_json, task_json
from forestall.wire import Parts, handlers

if TYPE_CHECKING:
    from forestall.server.http.listener import Listener

KEEP_HOUSE_S = 1.0
"""Seconds between looks at what is unfinished, idle, or not yet in the index."""

COMPLAIN_EVERY_S = 60.0
"""Seconds after which the same trouble is said again. An agent retries at machine speed, and a log is a disk too."""

MAX_COMPLAINTS = 32
"""Troubles that are remembered as said."""

FOR_COMMANDS = 8
"""Connections beyond `max_connections` for commands of the decision point's own user: whoever takes all the others
keeps nobody from killing them.
"""

GRACE_S = 2.0
"""Seconds that calls which were permitted have, when the decision point stops, to report what became of them."""

CLOSING_S = 5.0
"""Seconds in which connections have to be finished after that."""


class Point:
    """Made and run on one loop."""

    def __init__(self, parts: Parts, *, idle_exit_s: float | None = None) -> None:
        self.parts = parts
        self.door = Door(parts.attestor)
        self._idle_exit_s = idle_exit_s
        self._connections: set[Connection] = set()
        self.leases = Leases(parts, self.say_once)
        self.orders = Orders(parts, self._connections, self.leases)
        self._tracked: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._started = self._busy_until = time.monotonic()
        self._reloading = asyncio.Lock()
        self._was_behind = False
        self._complained: dict[str, float] = {}
        self._http: Listener | None = None
        self.undecided = 0
        """Calls that were asked for, on all connections, and are neither permitted nor refused yet."""
        self._still: Connection | None = None
        """Who stands still for the disk in this turn of the loop. One that is alone is done before the next is read, so
        that by `undecided` none of many that come at once would have company."""

    async def serve(self, listener: socket.socket) -> None:
        """Put the books in order, then serve until it is stopped. Closes the parts."""
        try:
            loop = asyncio.get_running_loop()
            self._heed_signals(loop)  # first: whoever is answered may send one
            await self._tidy(self._unsettled(), close_open=True)
            self._publish()
            self.parts.on_order.append(lambda _command: self._publish())
            await self._listen()
            server = await loop.create_unix_server(lambda: Connection(self), sock=listener)
            keeping = [asyncio.create_task(work) for work in (self._keep_house(), self._beat(), self.leases.keep())]
            await self._stopping.wait()
            server.close()
            for work in keeping:
                work.cancel()
            await asyncio.wait(keeping)
            await asyncio.gather(self._drain(), self._stop_listening())
            await self._end_leases()
        finally:
            listener.close()
            self.door.close()
            await self._stop_listening()
            await asyncio.to_thread(self.parts.close)

    def _publish(self) -> None:
        """What verifiers of permits go by, as it is now. One that cannot read it goes by what it heard last."""
        try:
            publish(self.parts.permits, self.parts.home, self.parts.state.epoch, self.parts.now())
        except SetupError as error:
            self.say_once(str(error).removesuffix("."))

    async def _end_leases(self) -> None:
        ended = await self.leases.close(self.parts.lending.patience_ms / 1000)
        if ended.left:
            say(f"{ended.left} credentials could not be ended; the next start tries again.")

    async def _listen(self) -> None:
        parts = self.parts
        if not parts.config.http.listen:
            return
        from forestall.server.http.listener import listen
        from forestall.server.routes import routes

        self._http = await listen(
            parts.config.http,
            routes(parts, self.orders.give, self.say_once),
            root=parts.home.root,
            authorities=parts.client_authorities,
            complain=self.say_once,
        )
        parts.called(self._http.url)

    async def _stop_listening(self) -> None:
        if self._http is not None:
            await self._http.close(GRACE_S)

    def _heed_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_exception_handler(_say_fault)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.on_hup)

    # -- connections

    def admit(self, connection: Connection) -> bool:
        most = self.parts.config.serve.max_connections
        if connection.peer.uid == os.geteuid():
            most += FOR_COMMANDS
        if len(self._connections) >= most or self._stopping.is_set():
            return False
        self._connections.add(connection)
        return True

    @property
    def crowded(self) -> bool:
        """Are there as many enforcement points as there may be connections?"""
        greeted = (one.hello for one in self._connections if one.hello is not None)
        count = sum(hello.kind is not Peering.CLI for hello in greeted)
        return count >= self.parts.config.serve.max_connections

    def first_to_stand_still(self, connection: Connection) -> bool:
        """Has no other connection stood still for the disk in this turn of the loop?"""
        if self._still is None:
            self._still = connection
            asyncio.get_running_loop().call_soon(self._next_turn)
        return self._still is connection

    def _next_turn(self) -> None:
        self._still = None

    def dismiss(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._busy_until = time.monotonic()

    def track(self, work: Coroutine[Any, Any, None]) -> None:
        """Keep it from being collected, and wait for it at the end."""
        task = asyncio.get_running_loop().create_task(work)
        self._tracked.add(task)
        task.add_done_callback(self._tracked.discard)

    def complain(self, detail: str) -> None:
        """Tell the operator why calls are denied that policy might have permitted; nothing is said twice in a row."""
        self.say_once(f"Calls are denied (unavailable): {detail.rstrip('.')}")

    def say_once(self, detail: str) -> None:
        """To the operator; nothing is said twice in a minute."""
        now = time.monotonic()
        if self._complained.get(detail, -COMPLAIN_EVERY_S) + COMPLAIN_EVERY_S <= now:
            self._complained = {**dict(list(self._complained.items())[-MAX_COMPLAINTS:]), detail: now}
            say(f"{detail}.")

    # -- commands

    def stop(self) -> None:
        self._stopping.set()

    def on_hup(self) -> None:
        self.track(self._reload_and_say())

    async def reload(self) -> str:
        """Take in policy, catalogue and mandates as they are now. Why not, or empty: the old ones are kept."""
        async with self._reloading:
            try:
                await asyncio.to_thread(self.parts.reload)
            except SetupError as error:
                return f"What was in force stays in force: {error}"
            self.orders.look_at_all()  # whoever is not accepted any more
            return ""

    async def _reload_and_say(self) -> None:
        say(await self.reload() or "Policy, catalogue and mandates were taken in anew.")

    def status(self, uid: int) -> dict[str, Any]:
        """For who asks as this user: of others, an agent's among them, what is about themselves."""
        connections = [one for one in self._connections if one.grant is not None]
        own = uid == os.geteuid()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "policy_digest": self.parts.rules.engine.digest,
            "http": None if self._http is None else self._http.url,
            "connections": [_connection_status(one) for one in connections if own or one.peer.uid == uid],
            "assurance": self._assurance(),
            "keys_readable_by_agent": self._assurance() == "local",
            **(self._status_for_owner() if own else {}),
        }

    def _status_for_owner(self) -> dict[str, Any]:
        parts, rules = self.parts, self.parts.rules
        return {
            "uptime_ms": int((time.monotonic() - self._started) * 1000),
            "home": str(parts.home.root),
            "policies": rules.policies,
            "tools": len(rules.catalogue.all()),
            "mandates": sorted(rules.mandates),
            "notice": rules.notice or parts.state.fault,
            "shared_identities": shared(parts.state.open_tasks()),
            "identity_problems": list(parts.tokens.verifiers.problems) if parts.tokens is not None else [],
            "open_tasks": len(parts.state.open_tasks()),
            "unsettled": len(parts.state.unsettled()),
            "ledger": {stream.value: {"bytes": parts.ledger.size(stream)} for stream in Stream},
            "unattested": parts.unattested,
            "credentials": self.leases.book.summary(),
        }

    def tasks(self) -> dict[str, Any]:
        """Every task that is remembered, and the orders that stand."""
        state = self.parts.state
        return {
            "epoch": state.epoch,
            "at": self.parts.now(),
            "tasks": [task_json(task) for task in state.tasks()],
            "orders": [order_json(at, command) for at, command in state.orders()],
        }

    def _assurance(self) -> str:
        """`local` where the agents' user is our own, and could read the keys; else `separate`."""
        agents = {one.peer.uid for one in self._connections if one.grant is not None}
        allowed = set(self.parts.config.serve.allowed_uids)
        return "separate" if allowed and os.geteuid() not in agents | allowed else "local"

    # -- the books

    def _unsettled(self) -> set[str]:
        return {permit.id for permit in self.parts.state.unsettled()}

    async def _tidy(self, orphans: set[str], *, close_open: bool) -> None:
        """Settle permits that nobody will report on any more; at a start, close the tasks of the last process."""
        table = handlers(self.parts, directory="")
        permits = [permit for permit in self.parts.state.unsettled() if permit.id in orphans]
        await run_async(sweep(permits, self.parts.now()), table)
        if close_open:
            for grant in self.parts.state.open_tasks():
                if grant.key and self.parts.now() < grant.expires_at:
                    continue  # held by whoever has the key, and not on a connection
                with suppress(CannotDo):  # tried again at the next start; without a connection nobody holds it
                    await run_async(close_task(grant.task, "swept", self.parts.now()), table)

    async def _close_expired(self) -> None:
        """Tasks that no connection closes when it ends."""
        at = self.parts.now()
        for grant in self.parts.state.open_tasks():
            if grant.key and at >= grant.expires_at:
                with suppress(CannotDo):  # tried again at the next look
                    await run_async(close_task(grant.task, "expired", at), handlers(self.parts, directory=""))

    async def _beat(self) -> None:
        """Say something to every enforcement point that has heard nothing for a while: it counts on that."""
        while True:
            await asyncio.sleep(self.parts.config.serve.heartbeat_ms / 1000)
            for connection in tuple(self._connections):
                if not connection.spoke and connection.grant is not None:
                    connection.send({"type": "beat"})
                connection.spoke = False

    async def _keep_house(self) -> None:
        before: set[str] = set()
        while True:
            await asyncio.sleep(KEEP_HOUSE_S)
            self.orders.look_at_all()
            try:
                before = await self._keep(before)
            except ForestallError as error:
                say(str(error))
            if self._is_idle():
                self.stop()

    async def _keep(self, before: set[str]) -> set[str]:
        """Sweep what is unsettled and belongs to no connection, on the second look; a first may come in between."""
        behind = self.parts.state.behind
        if behind and self._was_behind:
            self.parts.state.catch_up(self.parts.ledger)
        self._was_behind = behind
        self.parts.state.expire(self.parts.now())
        running = {name for connection in self._connections for name in connection.running}
        orphans = self._unsettled() - running
        await self._tidy(orphans & before, close_open=False)
        await self._close_expired()
        await asyncio.to_thread(self.parts.state.flush)
        return orphans

    def _is_idle(self) -> bool:
        if self._idle_exit_s is None or self._connections or self._http is not None:
            return False
        return time.monotonic() - self._busy_until >= self._idle_exit_s

    async def _drain(self) -> None:
        """Let what runs report; then end every connection, and wait until each is settled and its task closed."""
        reports = [asyncio.ensure_future(connection.settled()) for connection in self._connections]
        if reports:
            await asyncio.wait(reports, timeout=GRACE_S)
        ends = [asyncio.ensure_future(connection.finished.wait()) for connection in self._connections]
        for connection in tuple(self._connections):
            connection.close()
        if ends:
            _, late = await asyncio.wait(ends, timeout=CLOSING_S)
            if late:
                for connection in tuple(self._connections):
                    connection.abort()
                await asyncio.wait(late, timeout=CLOSING_S)
        for work in (*reports, *ends):
            work.cancel()


def say(sentence: str) -> None:
    """To the operator: standard error, or `run/serve.log` where it was started on demand: maybe on a full disk."""
    with suppress(OSError):
        print(f"forestall: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - this is the process's only voice


def _say_fault(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of our own, without its message: that may hold what an agent sent."""
    error = context.get("exception")
    say(f"A fault of Forestall's own: {type(error).__name__ if error else context.get('message', '')}.")


def _connection_status(connection: Connection) -> dict[str, Any]:
    assert connection.grant is not None
    counts = connection.calls.counts
    return {
        "server": connection.peer.server,
        "client": connection.peer.asserted_name,
        "uid": connection.peer.uid,
        "pid": connection.peer.pid,
        "task": connection.grant.task,
        "mandate": connection.grant.mandate,
        "expires_at": connection.grant.expires_at,
        "asked": counts.asked,
        "permitted": counts.permitted,
        "denied": counts.denied,
        "held": counts.held,
        "running": len(connection.running),
        "stopped": connection.stopped,
        "quarantined": connection.quarantined,
    }
