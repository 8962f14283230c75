"""The keeper of credentials for a program that brings its decision point along: as `forestall.server.leases`, in
threads of its own. A backend that is slow or hangs keeps nobody else's credential alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial

from forestall.adapter.credential.work import Workers
from forestall.core.ask import CannotDo
from forestall.core.lend import end
from forestall.core.model import Lease
from forestall.credentials import CredentialClass
from forestall.leases import SHORTEST_PAUSE_S, Book
from forestall.lending import Lending
from forestall.run import Handlers, run, translate

AT_ONCE = 32
"""Credentials that are ended or renewed at the same time, and backends that are asked what lives there."""

CLOSING = 2
"""So many times of a backend's patience are waited for at the end: for an attempt that runs, and for one more."""


class Keeper:
    """From when it is made until it is closed."""

    def __init__(
        self, lending: Lending, handlers: Handlers, now: Callable[[], int], say: Callable[[str], None]
    ) -> None:
        self._lending, self._handlers, self._say = lending, handlers, say
        self.book = Book(lending, now, say)
        self._books = threading.Lock()
        """One thread at a time has the book."""
        self._workers = Workers("keeping", AT_ONCE)
        self._working: dict[str, Future[None]] = {}
        """By what it is about: a credential's name, or a class."""
        self._woken, self._closing = threading.Event(), threading.Event()
        lending.on_change.append(self.wake)
        lending.recovering.keep_only_known()
        self._thread = threading.Thread(target=self._keep, name="forestall-leases", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """On any thread: something may be over."""
        self._woken.set()

    def close(self) -> None:
        """End whatever lives, once."""
        self._closing.set()
        self._lending.stop()
        self._woken.set()
        self._thread.join()
        self._end_due()
        wait(list(self._working.values()), self._lending.patience_ms / 1000 * CLOSING)

    def _keep(self) -> None:
        while not self._closing.is_set():
            self._woken.clear()
            self._woken.wait(self._look())

    def _look(self) -> float:
        """Seconds until the next look."""
        try:
            self._end_due()
            with self._books:
                renewals, lists = self.book.renewals(), bool(self._lending.classes) and self.book.may_list()
                pause_s = self.book.pause_s()
            for name in renewals:
                self._work(name, partial(self._renew, name))
            for one in self._lending.classes.values() if lists else ():
                if one.broker.traits.by_name:
                    self._work(f"class {one.name}", partial(self._list, one))
        except Exception as error:  # noqa: BLE001 - whatever it is, credentials that are over have to end
            self._say(f"Which credentials are over could not be told ({type(error).__name__})")
            return SHORTEST_PAUSE_S
        return pause_s

    def _end_due(self) -> None:
        with self._books:
            due = self.book.due()
        for lease, why in due:
            self._work(lease.name, partial(self._end, lease, why))

    def _work(self, about: str, work: Callable[[], None]) -> None:
        """One thing at a time for each credential, and for each class."""
        self._working = {name: future for name, future in self._working.items() if not future.done()}
        if about not in self._working:
            self._working[about] = self._workers.do(work)

    # -- in threads

    def _end(self, lease: Lease, why: str) -> None:
        try:
            run(end(lease, why), self._handlers)
        except CannotDo as error:
            with self._books:
                self.book.failed(lease, why, error)
        else:
            with self._books:
                self.book.ended(lease)

    def _renew(self, name: str) -> None:
        try:
            renewing = self._lending.living.begin_renewal(name)
            if renewing is not None:
                renewing.result()
        except Exception as error:  # noqa: BLE001 - it ends when its time has come
            with self._books:
                self.book.not_renewed(name, translate(error))
        else:
            with self._books:
                self.book.renewed(name)

    def _list(self, one: CredentialClass) -> None:
        try:
            orphans = self._lending.recovering.begin_listing(one).result()
        except Exception as error:  # noqa: BLE001 - asked again at the next look
            with self._books:
                self.book.not_listed(one.name, translate(error))
            return
        with self._books:
            self.book.listed(one.name)
        for lease in orphans:
            self._end(lease, "orphan")
