"""Which credentials live, until when, which of them are over, and which are to be renewed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from forestall.adapter.credential.escrow import Escrow
from forestall.core.lease import Around, over
from forestall.core.model import Grant, Lease, Risk
from forestall.lending.held import CLASS_CHANGED, RECORDING_MS, Held, Holdings, RiskOf, is_renewed
from forestall.run import translate


class Living:
    """Safe to use from several threads. Nothing here waits for a backend."""

    def __init__(self, holdings: Holdings, escrow: Escrow, risk: RiskOf) -> None:
        self._holdings, self._escrow, self._risk = holdings, escrow, risk

    # -- what is over

    def due(self) -> list[tuple[Lease, str]]:
        """Those that the log has no end of and that are over, each with why."""
        leases = self._holdings.state.leases()
        if not leases:
            return []
        at, running = self._holdings.now(), self._running()
        found = ((lease, self._over(lease, at, running)) for _, lease in leases)
        return [(lease, why) for lease, why in found if why]

    def why_over(self, lease: Lease) -> str:
        """Why it is to be ended; empty while it may live."""
        return self._over(lease, self._holdings.now(), self._running())

    def _running(self) -> set[str]:
        return {permit.id for permit in self._holdings.state.unsettled()}

    def _over(self, lease: Lease, at: int, running: set[str]) -> str:
        state, held = self._holdings.state, self._holdings.by_name.get(lease.name)
        if held is not None and (held.is_asking or held.is_ending or at < held.over_at + RECORDING_MS):
            return ""  # who asked has the answer first
        one, grant = self._holdings.maker_of(lease), state.find_grant(lease.task)
        level = one.revoke_at if one is not None else None
        around = Around(
            at,
            grant,
            state.stopped(lease.task),
            settled=lease.permit not in running,
            risk=self._risk_of(grant, at) if grant is not None and level is not None else None,
            revoke_at=level,
            until=held.until if held is not None else 0,
            is_ours=held is not None,
            condemned=held.condemned if held is not None else self._changed(lease),
        )
        return over(lease, around)

    def _changed(self, lease: Lease) -> str:
        return "" if self._holdings.is_of_now(lease) else CLASS_CHANGED

    def _risk_of(self, grant: Grant, at: int) -> Risk | None:
        """A source that fails in a way of its own keeps no credential alive."""
        try:
            return self._risk(grant, at)
        except Exception:  # noqa: BLE001 - whatever it is, and with it all others would live on
            return Risk.HIGH

    # -- what lives, and for how long

    def alive(self) -> Sequence[tuple[int, Lease]]:
        """Those that the log has no end of, with when each was written down."""
        return self._holdings.state.leases()

    def is_ending(self, name: str) -> bool:
        """Is its backend asked to end it just now?"""
        held = self._holdings.by_name.get(name)
        return held is not None and held.is_ending

    def until(self, lease: Lease) -> int:
        """When its backend ends it, as far as is known."""
        held = self._holdings.by_name.get(lease.name)
        return lease.expires_at if held is None else held.until

    def ends_alone_at(self, lease: Lease) -> int | None:
        """Until when it lives, where nobody can end it before; None where its backend can be told to."""
        one = self._holdings.maker_of(lease)
        if one is None or one.broker.traits.standing:
            return None
        traits = one.broker.traits
        if traits.revocable and (traits.by_name or self._is_told(lease.name)):
            return None
        since = next((at for at, known in self.alive() if known.name == lease.name), 0)
        return max(self.until(lease), since + traits.shortest_ms)

    def _is_told(self, name: str) -> bool:
        """Is there what an answer alone tells?"""
        held = self._holdings.by_name.get(name)
        return (held is not None and held.secret is not None) or self._escrow.has(name)

    # -- what lives on

    def renewable(self) -> dict[str, int]:
        """By name: when two thirds of the life have passed of each that could live longer."""
        with self._holdings.lock:
            return {
                held.lease.name: held.since + (held.until - held.since) * 2 // 3
                for held in self._holdings.of_task.values()
                if is_renewed(held.made_by) and held.until < held.lease.expires_at
            }

    def begin_renewal(self, name: str) -> Future[None] | None:
        """None where it is not there any more."""
        held = self._holdings.by_name.get(name)
        if held is None:
            return None
        return self._holdings.threads_of(held.made_by).ending.do(partial(self._renew, held))

    def _renew(self, held: Held) -> None:
        """In a thread."""
        at = self._holdings.now()
        wanted = min(at + held.made_by.lifetime_ms, held.lease.expires_at)
        lease = replace(held.lease, expires_at=held.until, secret=held.secret)
        try:
            until = held.made_by.broker.renew(lease, wanted)
        except BaseException as error:  # noqa: BLE001 - theirs may hold a secret
            raise translate(error) from None
        with self._holdings.lock:
            held.since, held.until = at, min(until, wanted)
