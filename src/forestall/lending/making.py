"""A credential is planned, which asks nobody, and then brought into being, which asks its backend."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError as Cancelled
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from forestall.adapter.credential.escrow import Escrow
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.lease import reaches
from forestall.core.model import Action, Grant, Lease, Permit, Scope, Secret
from forestall.core.own import SERVER
from forestall.core.place import fill
from forestall.core.reason import Reason
from forestall.credentials import CredentialClass
from forestall.credentials.words import Words
from forestall.lending.held import Held, Holdings, RiskOf, is_renewed
from forestall.lending.proving import while_it_lives
from forestall.lending.waiting import shielded
from forestall.run import translate

LOST, LATE = "lost", "late"
"""Why a credential is ended that nobody got: its backend did not say that it made it, or not in time."""

LEAST_LEFT_MS = 10_000
"""A task's credential that ends sooner is handed to no more calls, or at a third of its life, where that is less."""


class Making:
    """Safe to use from several threads. `plan` never blocks; the others wait for backends."""

    def __init__(self, holdings: Holdings, escrow: Escrow, words: Words, risk: RiskOf) -> None:
        self._holdings, self._escrow, self._words, self._risk = holdings, escrow, words, risk

    # -- before there is one

    def plan(self, permit: Permit, action: Action) -> Lease:
        """See `core.ask.Plan`. Asks no backend."""
        one, at = self._class_of(permit), self._holdings.now()
        grant = self._holdings.state.find_grant(permit.task)
        if grant is None or at >= grant.expires_at:
            raise CannotDo(Reason.TASK_ENDED)
        self._require_fitting(one, permit, grant, at)
        rights = one.broker.plan(permit, action, _narrowed(grant, one))
        if one.scope is Scope.TASK and (there := self._there(one, grant, rights, at)) is not None:
            return there
        return self._planned(one, permit, grant, rights, at)

    def _class_of(self, permit: Permit) -> CredentialClass:
        one = self._holdings.classes.get(permit.credential or "")
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
        with self._holdings.lock:
            held = self._holdings.of_task.get((grant.task, one.name))
            if held is None or held.made_by is not one or held.lease.rights != rights:
                return None
            if held.until - at <= min(LEAST_LEFT_MS, (held.until - held.since) // 3):
                return None
            return replace(held.lease, secret=held.secret)

    def _planned(self, one: CredentialClass, permit: Permit, grant: Grant, rights: Any, at: int) -> Lease:
        until = min(at + one.lifetime_ms, grant.expires_at)
        lease = Lease(
            name=f"forestall-{self._holdings.owner}-{permit.id}",
            credential=one.name,
            backend=one.backend,
            task=permit.task,
            permit=permit.id,
            scope=one.scope,
            rights=rights,
            expires_at=grant.expires_at if is_renewed(one) else until,
            place=one.place,
            exposed=one.exposed,
            standing=one.broker.traits.standing,
            words=one.digest,
        )
        with self._holdings.lock:
            if self._holdings.classes.get(one.name) is not one:
                raise CannotDo(Reason.UNAVAILABLE, f"`{one.name}` was changed meanwhile")
            self._holdings.by_name[lease.name] = Held(lease, one, until, at)
        return lease

    # -- bringing it into being

    def issue(self, lease: Lease) -> Secret:
        """See `core.ask.Issue`. Blocking."""
        held, future = self._begin(lease)
        try:
            return future.result(self._holdings.patience_s)
        except (TimeoutError, Cancelled):
            raise self._give_up(held, future) from None
        except BaseException:
            self._holdings.condemn(held, LOST)
            raise

    async def issue_async(self, lease: Lease) -> Secret:
        held, future = self._begin(lease)
        try:
            return await asyncio.wait_for(shielded(future), self._holdings.patience_s)
        except TimeoutError:
            raise self._give_up(held, future) from None
        except asyncio.CancelledError:
            self._give_up(held, future)
            raise
        except BaseException:
            self._holdings.condemn(held, LOST)
            raise

    def _begin(self, lease: Lease) -> tuple[Held, Future[Secret]]:
        with self._holdings.lock:
            held = self._holdings.by_name.get(lease.name)
            if held is None or held.is_begun:
                raise CannotDo(Reason.UNAVAILABLE, "A credential is issued once, after its plan.")
            if held.condemned or held.is_given_back:
                raise _ended_meanwhile(held)
            held.is_begun = held.is_asking = True
        try:
            return held, self._holdings.threads_of(held.made_by).making.do(partial(self._make, held))
        except CannotDo:
            self._never_began(held)
            raise

    def _make(self, held: Held) -> Secret:
        """In a thread: ask, and keep what it takes to end it."""
        self._keep_words(held)
        is_good = False
        try:
            lease, broker = replace(held.lease, expires_at=held.until), held.made_by.broker
            secret = broker.issue(lease)
            if (prove := secret.prove) is not None:
                secret = replace(secret, prove=while_it_lives(self._holdings, held, prove))
            with self._holdings.lock:
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
            condemned = self._answered(held, is_good=is_good)
            if condemned == LATE:
                self._end_late(held)
        if condemned:
            raise _ended_meanwhile(held)
        return secret

    def _keep_words(self, held: Held) -> None:
        one = held.made_by
        try:
            self._words.keep(one.digest, one.name, one.settings)
        except BaseException as error:  # noqa: BLE001 - whatever keeps it from that, the backend is not asked
            self._never_began(held)
            raise translate(error) from None

    def _answered(self, held: Held, *, is_good: bool) -> str:
        """Its thread has the backend's answer. Why it is to be ended all the same, if it is.

        What is not good, because it could not be kept or does not fit its place, is handed to nobody.
        """
        with self._holdings.lock:
            held.is_asking = False
            if held.lease.scope is Scope.TASK and is_good and not held.condemned:
                self._holdings.hand_out(held)
            elif held.secret is not None:
                held.secret = replace(held.secret, fields={})
            return held.condemned

    def _end_late(self, held: Held) -> None:
        """By the very thread that made it; its record is for the keeper, which asks once more."""
        with suppress(Exception):  # it is in the log without an end, and so not forgotten
            held.made_by.broker.revoke(replace(held.lease, secret=held.secret))
        self._holdings.changed()

    def _give_up(self, held: Held, future: Future[Secret]) -> CannotDo:
        """Nobody waits any more."""
        if future.cancel():
            self._never_began(held)
        else:
            self._holdings.condemn(held, LATE)
        return CannotDo(Reason.UNAVAILABLE, f"the backend of `{held.made_by.name}` did not answer in time")

    def _never_began(self, held: Held) -> None:
        with self._holdings.lock:
            held.is_begun = held.is_asking = False
            held.condemned = held.condemned or LOST


def _ended_meanwhile(held: Held) -> CannotDo:
    why = held.condemned or "it was given back"
    return CannotDo(Reason.UNAVAILABLE, f"`{held.made_by.name}` was to be ended before it was there: {why}")


def _narrowed(grant: Grant, one: CredentialClass) -> Grant:
    """What a task's credential may be good for: one that is for reads only is for nothing else that the task may do."""
    return replace(grant, effects=grant.effects & {Effect.READ}) if one.reads_only else grant
