"""The keeper of credentials: ends each that is over, whatever made it so, and says so in the log.

It is woken by a task that was closed, by an order, by a backend that answered late, and by a clock. Nothing waits for a
backend here: each credential is ended beside the others, and what could not be ended is tried again (`Book`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from forestall.core.ask import CannotDo
from forestall.core.lend import end
from forestall.core.model import Lease
from forestall.credentials import CredentialClass
from forestall.leases import Book
from forestall.run import run_async, translate
from forestall.wire import Parts, handlers


@dataclass(frozen=True, slots=True)
class Ended:
    """What an order, or the end of the process, made of credentials."""

    ended: int
    left: int
    """Those that may still be alive: they are tried again."""


class Leases:
    """On one loop."""

    def __init__(self, parts: Parts, say: Callable[[str], None]) -> None:
        self._parts, self._lending, self._say = parts, parts.lending, say
        self.book = Book(parts.lending, parts.now, say)
        self._handlers = handlers(parts, directory="")
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._working: dict[str, asyncio.Task[None]] = {}
        """By what it is about: a credential's name, or a class."""
        parts.on_close.append(self.wake)
        parts.on_order.append(lambda _command: self.wake())
        parts.lending.on_change.append(self.wake)

    def wake(self) -> None:
        """On any thread: something may be over."""
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._woken.set)

    async def keep(self) -> None:
        """Until it is cancelled. At first: what the process before left."""
        self._lending.recovering.keep_only_known()
        while True:
            self._woken.clear()
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - whatever it is, credentials that are over have to end
                self._say(f"Which credentials are over could not be told ({type(error).__name__})")
            with suppress(TimeoutError):  # not `wait_for`, which in Python 3.11 can lose a cancellation
                async with asyncio.timeout(self.book.pause_s()):
                    await self._woken.wait()

    def look(self) -> None:
        """Begin to end what is over, to renew what is to live on, and to look for what nobody remembers."""
        for lease, why in self.book.due():
            self._work(lease.name, self._end(lease, why))
        for name in self.book.renewals():
            self._work(name, self._renew(name))
        if self._lending.classes and self.book.may_list():
            for one in self._lending.classes.values():
                if one.broker.traits.by_name:
                    self._work(f"class {one.name}", self._list(one))

    async def see_ended(self, names: Collection[str], bound_s: float) -> Ended:
        """Wait until these are over, but not for longer than that."""
        until = self._loop.time() + bound_s
        while (left := self._left(names)) and (rest := until - self._loop.time()) > 0:
            self._woken.clear()
            self.look()
            waits = [asyncio.ensure_future(self._woken.wait())]
            working = [self._working[name] for name in left if name in self._working]
            await asyncio.wait([*waits, *working], timeout=rest, return_when=asyncio.FIRST_COMPLETED)
            waits[0].cancel()
        return Ended(len(names) - len(left), len(left))

    def over(self) -> set[str]:
        """Names of those that are to be ended, or are being made for a task that is over, or suspended."""
        state = self._parts.state
        return {
            lease.name
            for _, lease in self._lending.living.alive()
            if self._lending.living.why_over(lease)
            or state.stopped(lease.task) is not None
            or state.find_grant(lease.task) is None
        }

    async def close(self, bound_s: float) -> Ended:
        """End whatever lives: what this process knows of it goes with the process."""
        self._lending.stop()
        ended = await self.see_ended({lease.name for _, lease in self._lending.living.alive()}, bound_s)
        for work in self._working.values():
            work.cancel()
        return ended

    def _left(self, names: Collection[str]) -> set[str]:
        return {lease.name for _, lease in self._lending.living.alive() if lease.name in names}

    def _work(self, about: str, work: Coroutine[Any, Any, None]) -> None:
        """One thing at a time for each credential, and for each class."""
        if about in self._working:
            work.close()
            return
        self._working[about] = task = self._loop.create_task(work)
        task.add_done_callback(lambda _: self._working.pop(about, None))

    async def _end(self, lease: Lease, why: str) -> None:
        try:
            await run_async(end(lease, why), self._handlers)
        except CannotDo as error:
            self.book.failed(lease, why, error)
        else:
            self.book.ended(lease)

    async def _renew(self, name: str) -> None:
        try:
            renewing = self._lending.living.begin_renewal(name)
            if renewing is not None:
                await asyncio.wrap_future(renewing)
        except Exception as error:  # noqa: BLE001 - it ends when its time has come
            self.book.not_renewed(name, translate(error))
        else:
            self.book.renewed(name)

    async def _list(self, one: CredentialClass) -> None:
        try:
            orphans = await asyncio.wrap_future(self._lending.recovering.begin_listing(one))
        except Exception as error:  # noqa: BLE001 - asked again at the next look
            self.book.not_listed(one.name, translate(error))
            return
        self.book.listed(one.name)
        for lease in orphans:
            self._work(lease.name, self._end(lease, "orphan"))
