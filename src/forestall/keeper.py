"""The keeper of credentials for a program that brings its decision point along: as `forestall.server.leases`, in a
thread of its own, one credential after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from forestall.core.ask import CannotDo
from forestall.core.lend import end
from forestall.core.model import Lease
from forestall.leases import Book
from forestall.lending import Lending
from forestall.run import Handlers, run, translate


class Keeper:
    """From when it is made until it is closed."""

    def __init__(
        self, lending: Lending, handlers: Handlers, now: Callable[[], int], say: Callable[[str], None]
    ) -> None:
        self._lending, self._handlers = lending, handlers
        self.book = Book(lending, now, say)
        self._woken, self._closing = threading.Event(), threading.Event()
        lending.on_change.append(self.wake)
        lending.keep_only_known()
        self._thread = threading.Thread(target=self._keep, name="forestall-leases", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """On any thread: something may be over."""
        self._woken.set()

    def close(self) -> None:
        """End whatever lives, once."""
        self._closing.set()
        self._lending.condemn_all("stopped")
        self._woken.set()
        self._thread.join()
        self._end_due()

    def _keep(self) -> None:
        while not self._closing.is_set():
            self._woken.clear()
            self._end_due()
            for name in self.book.renewals():
                self._renew(name)
            self._list()
            self._woken.wait(self.book.pause_s())

    def _end_due(self) -> None:
        for lease, why in self.book.due():
            self._end(lease, why)

    def _end(self, lease: Lease, why: str) -> None:
        try:
            run(end(lease, why), self._handlers)
        except CannotDo as error:
            self.book.failed(lease, why, error)
        else:
            self.book.ended(lease)

    def _renew(self, name: str) -> None:
        try:
            renewing = self._lending.begin_renewal(name)
            if renewing is not None:
                renewing.result()
        except Exception as error:  # noqa: BLE001 - it ends when its time has come
            self.book.not_renewed(name, translate(error))
        else:
            self.book.renewed(name)

    def _list(self) -> None:
        if not self._lending.classes or not self.book.may_list():
            return
        for one in self._lending.classes.values():
            if not one.broker.traits.by_name:
                continue
            try:
                orphans = self._lending.begin_listing(one).result()
            except Exception as error:  # noqa: BLE001 - asked again at the next look
                self.book.not_listed(one.name, translate(error))
                continue
            self.book.listed(one.name)
            for lease in orphans:
                self._end(lease, "orphan")
