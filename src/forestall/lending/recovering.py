"""What a crash, or a backend that lied, left: found by asking the backends; and what is kept of what is over."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from forestall.adapter.credential.escrow import Escrow
from forestall.core.model import Lease
from forestall.credentials import CredentialClass
from forestall.credentials.words import Words
from forestall.lending.held import Holdings
from forestall.run import translate

STRAY_MS = 600_000
"""How long a plan is remembered that no record came of."""


class Recovering:
    """Safe to use from several threads."""

    def __init__(self, holdings: Holdings, escrow: Escrow, words: Words) -> None:
        self._holdings, self._escrow, self._words = holdings, escrow, words

    def begin_listing(self, one: CredentialClass) -> Future[Sequence[Lease]]:
        """What lives at the backend, is ours, and no record knows. From now on each can be ended."""
        return self._holdings.threads_of(one).ending.do(partial(self._list, one))

    def _list(self, one: CredentialClass) -> list[Lease]:
        """In a thread. Asked twice, since what was made in between was not known when it was asked the first time."""
        names = self._holdings.names
        try:
            found = set(one.broker.list_orphans(names()))
            found = found & set(one.broker.list_orphans(names())) if found else found
        except BaseException as error:  # noqa: BLE001 - theirs may hold a secret
            raise translate(error) from None
        ours = sorted(name for name in found if name.startswith(self._prefix))
        with self._holdings.lock:
            self._holdings.orphans.update(dict.fromkeys(ours, one.digest))
        return [self._orphan(one, name) for name in ours]

    @property
    def _prefix(self) -> str:
        return f"forestall-{self._holdings.owner}-"

    def _orphan(self, one: CredentialClass, name: str) -> Lease:
        """What can be told of it by its name."""
        return Lease(
            name=name,
            credential=one.name,
            backend=one.backend,
            task="",
            permit=name.removeprefix(self._prefix),
            scope=one.scope,
            rights={},
            expires_at=0,
            standing=False,
            words=one.digest,
        )

    def forget_stray(self) -> None:
        """What was planned, and never written down, is nothing."""
        at, known = self._holdings.now(), self._holdings.names()
        with self._holdings.lock:
            stray = [
                name
                for name, held in self._holdings.by_name.items()
                if name not in known and not held.is_begun and at - held.since > STRAY_MS
            ]
            for name in stray:
                del self._holdings.by_name[name]
        self._holdings.close_unused()

    def keep_only_known(self) -> None:
        """At a start: what was kept of credentials that are over is not needed any more."""
        leases = [lease for _, lease in self._holdings.state.leases()]
        self._escrow.keep_only({lease.name for lease in leases})
        now = {one.digest for one in self._holdings.classes.values()}
        self._words.keep_only({lease.words for lease in leases} | now)
