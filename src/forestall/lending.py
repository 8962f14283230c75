"""Credentials, from their plan to their end: what `core.lend` asks for, carried out.

The rules, each with a test in tests/unit/test_lending.py or tests/unit/server/test_leases.py:

- A backend is asked in a thread of its own, and waited for no longer than its time. One that answers later is told to
  end what it made, and until its thread has ended nobody is told that the credential is over.
- Of a task's credential the secret is kept in memory, and handed to the task's next calls for as long as it is good for
  them. Calls that need the first at the same time each get their own; all of them end with the task.
- What an answer alone told is on disk before the secret goes anywhere.
- A credential that its backend was certainly never asked for is over without asking it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError as Cancelled
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from forestall.adapter.credential.escrow import Escrow
from forestall.adapter.credential.work import Workers
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.lease import Around, over, reaches
from forestall.core.model import Action, Grant, Lease, Permit, Risk, Scope, Secret
from forestall.core.own import SERVER
from forestall.core.place import fill
from forestall.core.reason import Reason
from forestall.credentials import CredentialClass, Credentials, close_all
from forestall.run import translate

MAKING, ENDING = 8, 4
"""Threads of one class that make credentials, and that end them: neither waits for the other."""

PATIENCE = 1.25
"""A backend's own time is what its broker keeps to; so many times of it are waited for, a free thread included."""

LOST, LATE = "lost", "late"
"""Why a credential is ended that nobody got: its backend did not say that it made it, or not in time."""

RECORDING_MS = 2_000
"""How long whoever ended a credential has to write that down, before it is ended, and that written, once more."""

STRAY_MS = 600_000
"""How long a plan is remembered that no record came of."""

LEAST_LEFT_MS = 10_000
"""A task's credential that ends sooner is handed to no more calls, or at a third of its life, where that is less."""


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
    over_at: int = 0
    """When the backend said that it is over; 0 before."""


@dataclass(frozen=True, slots=True)
class Threads:
    making: Workers
    ending: Workers


class Lending:
    """Safe to use from several threads. `plan` and what only looks never block; the others wait for backends."""

    def __init__(
        self,
        state: Known,
        escrow: Escrow,
        *,
        owner: str,
        now: Callable[[], int],
        risk: Callable[[Grant, int], Risk | None],
        timeout_s: float,
        classes: Credentials,
    ) -> None:
        self.owner = owner
        self.classes = classes
        self.on_change: list[Callable[[], None]] = []
        """Called, on any thread, when something may have to be ended."""
        self._state, self._escrow, self._now, self._risk = state, escrow, now, risk
        self._patience_s = timeout_s * PATIENCE
        self.patience_ms = round(self._patience_s * 1000)
        """From when a backend is asked until nobody waits for it any more."""
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        """By the credential's name."""
        self._of_task: dict[tuple[str, str], Held] = {}
        """By task and class: what is handed to the next call."""
        self._orphans: set[str] = set()
        """That no record knows, by name, while they are ended."""
        self._former: list[CredentialClass] = []
        """Of which something may still be alive, though the settings say otherwise by now."""
        self._threads: dict[str, Threads] = {}

    # -- before there is one

    def plan(self, permit: Permit, action: Action) -> Lease:
        """See `core.ask.Plan`. Asks no backend."""
        one, at = self._class_of(permit), self._now()
        grant = self._state.find_grant(permit.task)
        if grant is None or at >= grant.expires_at:
            raise CannotDo(Reason.TASK_ENDED)
        self._require_fitting(one, permit, grant, at)
        rights = one.broker.plan(permit, action, _narrowed(grant, one))
        if one.scope is Scope.TASK and (there := self._there(one, grant, rights, at)) is not None:
            return there
        return self._planned(one, permit, grant, rights, at)

    def _class_of(self, permit: Permit) -> CredentialClass:
        one = self.classes.get(permit.credential or "")
        if one is None:
            raise CannotDo(Reason.UNAVAILABLE, f"credentials.toml has no class `{permit.credential}`")
        return one

    def _require_fitting(self, one: CredentialClass, permit: Permit, grant: Grant, at: int) -> None:
        if one.reads_only and permit.effects - {Effect.READ}:
            raise CannotDo(Reason.OUT_OF_SCOPE, f"`{one.name}` is for reads only")
        if one.place is not None and one.place.at_start and not permit.tool.startswith(f"{SERVER}/"):
            raise CannotDo(Reason.UNAVAILABLE, f"`{one.name}` is there from a server's start, and put into no call")
        if one.server and permit.tool.partition("/")[0] not in {one.server, SERVER}:
            raise CannotDo(Reason.OUT_OF_SCOPE, f"`{one.name}` is for the server {one.server} alone")
        if one.revoke_at is not None and reaches(self._risk(grant, at), one.revoke_at):
            raise CannotDo(Reason.FORBIDDEN, f"at this risk nobody is given `{one.name}`")

    def _there(self, one: CredentialClass, grant: Grant, rights: Any, at: int) -> Lease | None:
        """The task's own, if there is one that is good for what is planned now."""
        with self._lock:
            held = self._of_task.get((grant.task, one.name))
            if held is None or held.made_by is not one or held.lease.rights != rights:
                return None
            if held.until - at <= min(LEAST_LEFT_MS, (held.until - held.since) // 3):
                return None
            return replace(held.lease, secret=held.secret)

    def _planned(self, one: CredentialClass, permit: Permit, grant: Grant, rights: Any, at: int) -> Lease:
        until = min(at + one.lifetime_ms, grant.expires_at)
        lease = Lease(
            name=f"forestall-{self.owner}-{permit.id}",
            credential=one.name,
            backend=one.backend,
            task=permit.task,
            permit=permit.id,
            scope=one.scope,
            rights=rights,
            expires_at=grant.expires_at if _is_renewed(one) else until,
            place=one.place,
            exposed=one.exposed,
            standing=one.broker.traits.standing,
        )
        with self._lock:
            self._held[lease.name] = Held(lease, one, until, at)
        return lease

    # -- bringing it into being

    def issue(self, lease: Lease) -> Secret:
        """See `core.ask.Issue`. Blocking."""
        held, future = self._begin(lease)
        try:
            return future.result(self._patience_s)
        except (TimeoutError, Cancelled):
            raise self._give_up(held, future) from None
        except BaseException:
            self._condemn(held, LOST)
            raise

    async def issue_async(self, lease: Lease) -> Secret:
        held, future = self._begin(lease)
        try:
            return await asyncio.wait_for(_shielded(future), self._patience_s)
        except TimeoutError:
            raise self._give_up(held, future) from None
        except asyncio.CancelledError:
            self._give_up(held, future)
            raise
        except BaseException:
            self._condemn(held, LOST)
            raise

    def _begin(self, lease: Lease) -> tuple[Held, Future[Secret]]:
        with self._lock:
            held = self._held.get(lease.name)
            if held is None or held.is_begun:
                raise CannotDo(Reason.UNAVAILABLE, "A credential is issued once, after its plan.")
            held.is_begun = held.is_asking = True
        try:
            return held, self._threads_of(held.made_by).making.do(partial(self._make, held))
        except CannotDo:
            self._never_began(held)
            raise

    def _make(self, held: Held) -> Secret:
        """In a thread: ask, and keep what it takes to end it."""
        is_good = False
        try:
            lease, broker = replace(held.lease, expires_at=held.until), held.made_by.broker
            secret = broker.issue(lease)
            with self._lock:
                held.secret = secret
                held.until = min(held.until, secret.expires_at or held.until)
            if secret.handle:
                self._escrow.keep(lease.name, secret.handle)
            if lease.place is not None:
                fill(lease.place, secret.fields)
            is_good = True
        except BaseException as error:  # noqa: BLE001 - theirs may hold a secret
            raise translate(error) from None
        finally:
            if self._answered(held, is_good=is_good) == LATE:
                self._end_late(held)
        return secret

    def _answered(self, held: Held, *, is_good: bool) -> str:
        """Its thread has the backend's answer. Why it is to be ended all the same, if it is.

        What is not good, because it could not be kept or does not fit its place, is handed to nobody.
        """
        with self._lock:
            held.is_asking = False
            if held.lease.scope is Scope.TASK and is_good and not held.condemned:
                self._of_task[held.lease.task, held.made_by.name] = held
            elif held.secret is not None:
                held.secret = replace(held.secret, fields={})
            return held.condemned

    def _end_late(self, held: Held) -> None:
        """By the very thread that made it; its record is for the keeper, which asks once more."""
        with suppress(Exception):  # it is in the log without an end, and so not forgotten
            held.made_by.broker.revoke(replace(held.lease, secret=held.secret))
        self._changed()

    def _give_up(self, held: Held, future: Future[Secret]) -> CannotDo:
        """Nobody waits any more."""
        if future.cancel():
            self._never_began(held)
        else:
            self._condemn(held, LATE)
        return CannotDo(Reason.UNAVAILABLE, f"the backend of `{held.made_by.name}` did not answer in time")

    def _never_began(self, held: Held) -> None:
        with self._lock:
            held.is_begun = held.is_asking = False
            held.condemned = held.condemned or LOST

    def _condemn(self, held: Held, why: str) -> None:
        with self._lock:
            held.condemned = held.condemned or why
            self._hand_out_no_more(held)

    def condemn(self, names: Collection[str], why: str) -> None:
        """They are to be ended soon, whatever their tasks are doing."""
        for name in names:
            if (held := self._held.get(name)) is not None:
                self._condemn(held, why)
        self._changed()

    def condemn_task(self, task: str, why: str) -> None:
        """All that the task has: one of them was seen where it must not be."""
        self.condemn([lease.name for _, lease in self._state.leases() if lease.task == task], why)

    def _hand_out_no_more(self, held: Held) -> None:
        """The lock is held."""
        key = held.lease.task, held.made_by.name
        if self._of_task.get(key) is held:
            del self._of_task[key]

    # -- ending it

    def revoke(self, lease: Lease) -> None:
        """See `core.ask.Revoke`. Blocking."""
        future = self._begin_end(lease)
        if future is None:
            return
        try:
            future.result(self._patience_s)
        except TimeoutError:
            raise self._unanswered(lease, future) from None

    async def revoke_async(self, lease: Lease) -> None:
        future = self._begin_end(lease)
        if future is None:
            return
        try:
            await asyncio.wait_for(_shielded(future), self._patience_s)
        except TimeoutError:
            raise self._unanswered(lease, future) from None

    def _begin_end(self, lease: Lease) -> Future[None] | None:
        """None where there is nothing to end: its backend was certainly never asked for it."""
        known = self._names() if lease.name not in self._held else frozenset({lease.name})
        with self._lock:
            held = self._held.get(lease.name)
            if held is None and lease.name not in known | self._orphans:
                raise CannotDo(Reason.UNAVAILABLE, "it has ended already")
            if held is not None:
                self._hand_out_no_more(held)
                if held.is_asking or held.is_ending:
                    raise CannotDo(Reason.UNAVAILABLE, f"the backend of `{lease.credential}` has not answered yet")
                if not held.is_begun:
                    return None
                held.is_ending = True
        try:
            one = self._maker_of(lease, held)
            return self._threads_of(one).ending.do(partial(self._end, lease, held, one))
        except CannotDo:
            if held is not None:
                held.is_ending = False
            raise

    def _end(self, lease: Lease, held: Held | None, one: CredentialClass) -> None:
        """In a thread."""
        secret = lease.secret or (held.secret if held is not None else None)
        try:
            if secret is None and (handle := self._escrow.find(lease.name)):
                secret = Secret({}, handle)
            one.broker.revoke(replace(lease, secret=secret))
        except BaseException as error:  # noqa: BLE001 - theirs may hold a secret
            self._end_answered(held, 0)
            raise translate(error) from None
        self._end_answered(held, self._now())

    def _end_answered(self, held: Held | None, over_at: int) -> None:
        if held is not None:
            with self._lock:
                held.is_ending, held.over_at = False, over_at
        if not over_at:
            self._changed()

    def _maker_of(self, lease: Lease, held: Held | None) -> CredentialClass:
        if held is not None:
            return held.made_by
        one = self.classes.get(lease.credential)
        if one is None or (lease.backend and one.backend != lease.backend):
            what = f"a class `{lease.credential}` of the backend `{lease.backend}`"
            raise CannotDo(Reason.UNAVAILABLE, f"credentials.toml has no longer {what}; put it back until this is over")
        return one

    def _unanswered(self, lease: Lease, future: Future[None]) -> CannotDo:
        if future.cancel() and (held := self._held.get(lease.name)) is not None:
            held.is_ending = False  # no thread has come to it
        return CannotDo(Reason.UNAVAILABLE, f"the backend of `{lease.credential}` did not answer in time")

    def ended(self, name: str) -> None:
        """Its end is written."""
        with self._lock:
            held = self._held.pop(name, None)
            self._orphans.discard(name)
        self._escrow.drop(name)
        if held is not None and held.made_by in self._former:
            self._close_unused()

    # -- renewing it

    def renewable(self) -> dict[str, int]:
        """By name: when two thirds of the life have passed of each that could live longer."""
        with self._lock:
            return {
                held.lease.name: held.since + (held.until - held.since) * 2 // 3
                for held in self._of_task.values()
                if _is_renewed(held.made_by) and held.until < held.lease.expires_at
            }

    def begin_renewal(self, name: str) -> Future[None] | None:
        """None where it is not there any more."""
        held = self._held.get(name)
        if held is None:
            return None
        return self._threads_of(held.made_by).ending.do(partial(self._renew, held))

    def _renew(self, held: Held) -> None:
        """In a thread."""
        at = self._now()
        wanted = min(at + held.made_by.lifetime_ms, held.lease.expires_at)
        lease = replace(held.lease, expires_at=held.until, secret=held.secret)
        try:
            until = held.made_by.broker.renew(lease, wanted)
        except BaseException as error:  # noqa: BLE001 - theirs may hold a secret
            raise translate(error) from None
        with self._lock:
            held.since, held.until = at, min(until, wanted)

    # -- what lives, and what has to end

    def due(self) -> list[tuple[Lease, str]]:
        """Those that the log has no end of and that are over, each with why."""
        leases = self._state.leases()
        if not leases:
            return []
        at, running = self._now(), {permit.id for permit in self._state.unsettled()}
        found = ((lease, self._over(lease, at, running)) for _, lease in leases)
        return [(lease, why) for lease, why in found if why]

    def _over(self, lease: Lease, at: int, running: set[str]) -> str:
        held, grant = self._held.get(lease.name), self._state.find_grant(lease.task)
        if held is not None and (held.is_asking or held.is_ending or at < held.over_at + RECORDING_MS):
            return ""  # who asked has the answer first
        one = held.made_by if held is not None else self.classes.get(lease.credential)
        level = one.revoke_at if one is not None else None
        around = Around(
            at,
            grant,
            self._state.stopped(lease.task),
            settled=lease.permit not in running,
            risk=self._risk_of(grant, at) if grant is not None and level is not None else None,
            revoke_at=level,
            until=held.until if held is not None else 0,
            is_ours=held is not None,
            condemned=held.condemned if held is not None else "",
        )
        return over(lease, around)

    def _risk_of(self, grant: Grant, at: int) -> Risk | None:
        """A source that fails in a way of its own keeps no credential alive."""
        try:
            return self._risk(grant, at)
        except Exception:  # noqa: BLE001 - whatever it is, and with it all others would live on
            return Risk.HIGH

    def is_ending(self, name: str) -> bool:
        """Is its backend asked to end it just now?"""
        held = self._held.get(name)
        return held is not None and held.is_ending

    def alive(self) -> Sequence[tuple[int, Lease]]:
        """Those that the log has no end of, with when each was written down."""
        return self._state.leases()

    def why_over(self, lease: Lease) -> str:
        """Why it is to be ended; empty while it may live."""
        return self._over(lease, self._now(), {permit.id for permit in self._state.unsettled()})

    def until(self, lease: Lease) -> int:
        """When its backend ends it, as far as is known."""
        held = self._held.get(lease.name)
        return lease.expires_at if held is None else held.until

    def ends_alone_at(self, lease: Lease) -> int | None:
        """Until when it lives, where nobody can end it before; None where its backend can be told to."""
        held = self._held.get(lease.name)
        one = held.made_by if held is not None else self.classes.get(lease.credential)
        if one is None or one.broker.traits.standing:
            return None
        traits = one.broker.traits
        is_known = traits.by_name or (held is not None and held.secret is not None) or self._escrow.has(lease.name)
        if traits.revocable and is_known:
            return None
        since = next((at for at, known in self._state.leases() if known.name == lease.name), 0)
        return max(self.until(lease), since + traits.shortest_ms)

    def condemn_all(self, why: str) -> None:
        """This process ends, and with it what it knows of them."""
        self.condemn([lease.name for _, lease in self._state.leases() if not self.why_over(lease)], why)

    def begin_listing(self, one: CredentialClass) -> Future[Sequence[Lease]]:
        """What lives at the backend, is ours, and no record knows. From now on each can be ended."""
        return self._threads_of(one).ending.do(partial(self._list, one))

    def _list(self, one: CredentialClass) -> list[Lease]:
        """In a thread. Asked twice, since what was made in between was not known when it was asked the first time."""
        try:
            found = set(one.broker.list_orphans(self._names()))
            found = found & set(one.broker.list_orphans(self._names())) if found else found
        except BaseException as error:  # noqa: BLE001 - theirs may hold a secret
            raise translate(error) from None
        ours = sorted(name for name in found if name.startswith(f"forestall-{self.owner}-"))
        with self._lock:
            self._orphans.update(ours)
        return [self._orphan(one, name) for name in ours]

    def _orphan(self, one: CredentialClass, name: str) -> Lease:
        """What can be told of it by its name."""
        return Lease(
            name=name,
            credential=one.name,
            backend=one.backend,
            task="",
            permit=name.removeprefix(f"forestall-{self.owner}-"),
            scope=one.scope,
            rights={},
            expires_at=0,
            standing=False,
        )

    def forget_stray(self) -> None:
        """What was planned, and never written down, is nothing."""
        at, known = self._now(), self._names()
        with self._lock:
            stray = [
                name
                for name, held in self._held.items()
                if name not in known and not held.is_begun and at - held.since > STRAY_MS
            ]
            for name in stray:
                del self._held[name]

    def _names(self) -> frozenset[str]:
        return frozenset(lease.name for _, lease in self._state.leases())

    # -- the classes

    def take(self, classes: Credentials) -> None:
        """From now on these are what policy can name. What others made is ended by who made it."""
        kept = set(map(id, classes.values()))
        self._former += [one for one in self.classes.values() if id(one) not in kept]
        self.classes = classes
        self._close_unused()

    def _close_unused(self) -> None:
        with self._lock:
            used = {id(held.made_by) for held in self._held.values()}
            unused = [one for one in self._former if id(one) not in used]
            self._former = [one for one in self._former if id(one) in used]
        brokers = {id(one.broker) for one in (*self.classes.values(), *self._former)}
        close_all(one for one in unused if id(one.broker) not in brokers)

    def keep_only_known(self) -> None:
        """At a start: what was kept of credentials that are over is not needed any more."""
        self._escrow.keep_only(self._names())

    def close(self) -> None:
        close_all((*self.classes.values(), *self._former))

    def _threads_of(self, one: CredentialClass) -> Threads:
        with self._lock:
            found = self._threads.get(one.name)
            if found is None:
                found = Threads(Workers(f"making-{one.name}", MAKING), Workers(f"ending-{one.name}", ENDING))
                self._threads[one.name] = found
            return found

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()


def _narrowed(grant: Grant, one: CredentialClass) -> Grant:
    """What a task's credential may be good for: one that is for reads only is for nothing else that the task may do."""
    return replace(grant, effects=grant.effects & {Effect.READ}) if one.reads_only else grant


def _is_renewed(one: CredentialClass) -> bool:
    return one.scope is Scope.TASK and one.broker.traits.renewable


def _shielded(future: Future[Any]) -> asyncio.Future[Any]:
    """To be awaited; who stops waiting does not stop the thread."""
    return asyncio.shield(asyncio.wrap_future(future))
