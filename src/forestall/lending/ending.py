"""A credential is ended: because something says that it is to be, and then by its backend."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from forestall.adapter.credential.escrow import Escrow
from forestall.core.ask import CannotDo
from forestall.core.model import Lease, Secret
from forestall.core.reason import Reason
from forestall.credentials import CredentialClass
from forestall.lending.held import RECORDING_MS, Held, Holdings
from forestall.lending.waiting import shielded
from forestall.run import translate


class Ending:
    """Safe to use from several threads. To condemn never blocks; to revoke waits for the backend."""

    def __init__(self, holdings: Holdings, escrow: Escrow) -> None:
        self._holdings, self._escrow = holdings, escrow

    # -- that it is to be

    def condemn(self, names: Collection[str], why: str) -> None:
        """They are to be ended soon, whatever their tasks are doing."""
        for name in names:
            if (held := self._holdings.by_name.get(name)) is not None:
                self._holdings.condemn(held, why)
        self._holdings.changed()

    def condemn_task(self, task: str, why: str) -> None:
        """All that the task has: one of them was seen where it must not be."""
        self.condemn([lease.name for _, lease in self._holdings.state.leases() if lease.task == task], why)

    def condemn_suspended(self) -> None:
        """What tasks have that are suspended now: it ends although they may be resumed before anybody looks."""
        with self._holdings.lock:
            leases = [held.lease for held in self._holdings.by_name.values()]
        stopped = self._holdings.state.stopped
        self.condemn([lease.name for lease in leases if stopped(lease.task) is Reason.SUSPENDED], "suspended")

    # -- by its backend

    def revoke(self, lease: Lease) -> None:
        """See `core.ask.Revoke`. Blocking."""
        future = self._begin(lease)
        if future is None:
            return
        try:
            future.result(self._holdings.patience_s)
        except TimeoutError:
            raise self._unanswered(lease, future) from None

    async def revoke_async(self, lease: Lease) -> None:
        future = self._begin(lease)
        if future is None:
            return
        try:
            await asyncio.wait_for(shielded(future), self._holdings.patience_s)
        except TimeoutError:
            raise self._unanswered(lease, future) from None

    def _begin(self, lease: Lease) -> Future[None] | None:
        """None where there is nothing to end: its backend was certainly never asked for it."""
        holdings = self._holdings
        known = holdings.names() if lease.name not in holdings.by_name else frozenset({lease.name})
        with holdings.lock:
            held = holdings.by_name.get(lease.name)
            if held is None and lease.name not in known | holdings.orphans.keys():
                raise CannotDo(Reason.UNAVAILABLE, "it has ended already")
            if held is not None:
                held.is_given_back = True
                holdings.hand_out_no_more(held)
                if held.is_asking or held.is_ending:
                    raise CannotDo(Reason.UNAVAILABLE, f"the backend of `{lease.credential}` has not answered yet")
                if holdings.now() < held.over_at + RECORDING_MS:
                    raise CannotDo(Reason.UNAVAILABLE, "it has ended, and who ended it is writing that down")
                if not held.is_begun:
                    held.over_at = holdings.now()
                    return None
                held.is_ending = True
        try:
            one = self._require_maker(lease)
            return holdings.threads_of(one).ending.do(partial(self._end, lease, held, one))
        except CannotDo:
            if held is not None:
                held.is_ending = False
            raise

    def _require_maker(self, lease: Lease) -> CredentialClass:
        one = self._holdings.maker_of(lease)
        if one is None or (lease.backend and one.backend != lease.backend):
            what = f"a class `{lease.credential}` of the backend `{lease.backend}`"
            sentence = f"credentials.toml has no longer {what} as it was; put it back until this is over"
            raise CannotDo(Reason.UNAVAILABLE, sentence)
        return one

    def _end(self, lease: Lease, held: Held | None, one: CredentialClass) -> None:
        """In a thread."""
        secret = lease.secret or (held.secret if held is not None else None)
        try:
            if secret is None and (handle := self._escrow.find(lease.name)):
                secret = Secret({}, handle)
            one.broker.revoke(replace(lease, secret=secret))
        except BaseException as error:  # noqa: BLE001 - theirs may hold a secret
            self._answered(held, 0)
            raise translate(error) from None
        self._answered(held, self._holdings.now())

    def _answered(self, held: Held | None, over_at: int) -> None:
        if held is not None:
            with self._holdings.lock:
                held.is_ending, held.over_at = False, over_at
        if not over_at:
            self._holdings.changed()

    def _unanswered(self, lease: Lease, future: Future[None]) -> CannotDo:
        if future.cancel() and (held := self._holdings.by_name.get(lease.name)) is not None:
            held.is_ending = False  # no thread has come to it
        return CannotDo(Reason.UNAVAILABLE, f"the backend of `{lease.credential}` did not answer in time")

    def written(self, name: str) -> None:
        """Its end is in the log."""
        self._holdings.forget(name)
        self._escrow.drop(name)
        self._holdings.close_unused()
