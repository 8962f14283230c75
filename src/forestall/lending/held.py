"""The credentials of this process, and the classes that make them: what making, ending and looking have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from forestall.adapter.credential.work import Workers
from forestall.core.ask import CannotDo
from forestall.core.model import Grant, Lease, Permit, Risk, Scope, Secret
from forestall.core.reason import Reason
from forestall.credentials import CredentialClass, Credentials, close_all

MAKING, ENDING = 8, 4
"""Threads of one class that make credentials, and that end them: neither waits for the other."""

PATIENCE = 1.25
"""A backend's own time is what its broker keeps to; so many times of it are waited for, a free thread included."""

RECORDING_MS = 2_000
"""How long whoever ended a credential has to write that down, before it is ended, and that written, once more."""

CLASS_CHANGED = "class_changed"
"""Why a task's credential is ended whose class says something else by now, or is gone."""

RiskOf = Callable[[Grant, int], Risk | None]
"""Of a task, at this time; None where nobody tells."""


class Known(Protocol):
    """What is asked of the state."""

    def find_grant(self, task: str) -> Grant | None: ...
    def stopped(self, task: str) -> Reason | None: ...
    def leases(self) -> Sequence[tuple[int, Lease]]: ...
    def unsettled(self) -> Sequence[Permit]: ...


@dataclass(slots=True)
class Held:
    """A credential of this process, from its plan until its end is written."""

    lease: Lease
    made_by: CredentialClass
    until: int
    """When the backend ends it, unless it is renewed."""
    since: int
    secret: Secret | None = field(default=None, repr=False)
    """Whole for a task's; of another, what it takes to end it."""
    is_begun: bool = False
    """Its backend was asked for it, or is about to be."""
    is_asking: bool = False
    """A thread waits for the backend's answer."""
    condemned: str = ""
    """Why it is to be ended, whatever its task is doing."""
    is_ending: bool = False
    """A thread asks the backend to end it."""
    is_given_back: bool = False
    """Its end was asked for, whatever the backend said: no request is proven with it any more."""
    over_at: int = 0
    """When the backend said that it is over, or nobody had to ask it; 0 before."""


@dataclass(frozen=True, slots=True)
class Threads:
    making: Workers
    ending: Workers


class Holdings:
    """Safe to use from several threads. Nothing here waits for a backend."""

    def __init__(
        self,
        state: Known,
        *,
        owner: str,
        now: Callable[[], int],
        timeout_s: float,
        classes: Credentials,
        former: Sequence[CredentialClass],
    ) -> None:
        self.state, self.owner, self.now = state, owner, now
        self.classes = classes
        self.patience_s = timeout_s * PATIENCE
        """From when a backend is asked until nobody waits for it any more."""
        self.on_change: list[Callable[[], None]] = []
        self.lock = threading.Lock()
        """Of what a `Held` says, and of what is here."""
        self.by_name: dict[str, Held] = {}
        self.of_task: dict[tuple[str, str], Held] = {}
        """By task and class: what is handed to the next call."""
        self.orphans: dict[str, str] = {}
        """That no record knows, while they are ended: by name, what their class says."""
        self._former = list(former)
        """Of which something may still be alive, though the settings say otherwise by now."""
        self._threads: dict[str, Threads] = {}
        self._closer = Workers("closing", 1)
        self._closing: Future[None] | None = None
        """The last of what it was told."""

    def names(self) -> frozenset[str]:
        """Of those that the log has no end of."""
        return frozenset(lease.name for _, lease in self.state.leases())

    def changed(self) -> None:
        """Something may have to be ended."""
        for callback in self.on_change:
            callback()

    def condemn(self, held: Held, why: str) -> None:
        """It is to be ended, whatever its task is doing. The first reason stands."""
        with self.lock:
            held.condemned = held.condemned or why
            self.hand_out_no_more(held)

    def hand_out(self, held: Held) -> None:
        """To the next calls of its task. The lock is held."""
        self.of_task[held.lease.task, held.made_by.name] = held

    def hand_out_no_more(self, held: Held) -> None:
        """The lock is held."""
        key = held.lease.task, held.made_by.name
        if self.of_task.get(key) is held:
            del self.of_task[key]

    def forget(self, name: str) -> None:
        """It is over, and that is written."""
        with self.lock:
            self.by_name.pop(name, None)
            self.orphans.pop(name, None)

    # -- the classes

    def maker_of(self, lease: Lease) -> CredentialClass | None:
        """Who made it; of another process's, who says the same; of one that nobody wrote down, who is called so."""
        if (held := self.by_name.get(lease.name)) is not None:
            return held.made_by
        if (now := self.classes.get(lease.credential)) is not None and lease.words in {"", now.digest}:
            return now
        return next((one for one in self._former if one.digest == lease.words), None)

    def is_of_now(self, lease: Lease) -> bool:
        """Does its class say what it said when it made this?"""
        now = self.classes.get(lease.credential)
        return not lease.words or (now is not None and now.digest == lease.words)

    def take(self, classes: Credentials) -> None:
        """From now on these are what policy can name. What tasks have of others ends, by who made it."""
        kept = set(map(id, classes.values()))
        with self.lock:
            gone = [one for one in self.classes.values() if id(one) not in kept]
            self._former += gone
            self.classes = classes
            ids = set(map(id, gone))
            of_tasks = [held for held in self.by_name.values() if held.lease.scope is Scope.TASK]
        for held in of_tasks:
            if id(held.made_by) in ids:
                self.condemn(held, CLASS_CHANGED)
        self.close_unused()
        self.changed()

    def close_unused(self) -> None:
        """Those that policy cannot name any more, and of which nothing is alive. Does not wait for their brokers, which
        may have a login to give back.
        """
        if not self._former:
            return
        leases = self.state.leases()
        with self.lock:
            makers = {id(held.made_by) for held in self.by_name.values()}
            others = {lease.words for _, lease in leases if lease.name not in self.by_name} | set(self.orphans.values())
            used = [one for one in self._former if id(one) in makers or one.digest in others]
            unused = [one for one in self._former if one not in used]
            self._former = used
            for one in unused:
                self._threads.pop(one.digest, None)
        brokers = {id(one.broker) for one in (*self.classes.values(), *self._former)}
        if gone := [one for one in unused if id(one.broker) not in brokers]:
            with suppress(CannotDo):
                self._closing = self._closer.do(partial(close_all, gone))

    def threads_of(self, one: CredentialClass) -> Threads:
        with self.lock:
            found = self._threads.get(one.digest)
            if found is None:
                found = Threads(Workers(f"making-{one.name}", MAKING), Workers(f"ending-{one.name}", ENDING))
                self._threads[one.digest] = found
            return found

    def close(self) -> None:
        if self._closing is not None:
            wait([self._closing], self.patience_s)
        close_all((*self.classes.values(), *self._former))


def is_renewed(one: CredentialClass) -> bool:
    return one.scope is Scope.TASK and one.broker.traits.renewable
