"""What a security event makes us do: the orders that follow from it.

- The session of a user was revoked, or a credential revoked or deleted: every open task that was opened in it ends,
  and sign-ins from before count no more. Nothing stands in the way of a new one: the user may sign in and open tasks.
- The session of an agent was revoked: a workload does not sign in, so nothing would be left to wait for. It is killed,
  and opens no task until somebody resumes it. Of an agent's credential only the open tasks end: it may come with
  another.
- Risk is high: that is said of it, and it is suspended, unless an order stands already. Medium: that is said of it.
  Low: that is said of it, and the suspension ends if it is this transmitter's own and nobody has ordered since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from forestall.core.control import Command, Order, Reach, Target
from forestall.core.model import Grant, Risk
from forestall.identities import Signal
from forestall.proof.set import Change, CredentialChange, Event, Level, RiskLevelChange, SecurityEvent, SessionRevoked
from forestall.server.signals.about import About

LOOKS = 8
"""How often it is looked for tasks that were opened while others were being ended."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What is asked of the decision point."""

    order: Callable[[Command], Awaitable[object]]
    """Once it is answered, the order is on disk and in force."""
    grants: Callable[[], Sequence[Grant]]
    """Of the open tasks."""
    standing: Callable[[Target], Command | None]
    """The kill or suspension that stands for exactly this target, and the last of its kind; None where none does."""


def signal_of(event: Event) -> Signal | None:
    """None: nothing that acts on tasks."""
    match event:
        case SessionRevoked():
            return Signal.SESSION_REVOKED
        case CredentialChange():
            return Signal.CREDENTIAL_CHANGE
        case RiskLevelChange():
            return Signal.RISK_LEVEL_CHANGE
        case _:
            return None


def signs_out(event: Event) -> bool:
    """Do a user's sign-ins from before count no more?"""
    ends = isinstance(event, CredentialChange) and event.change in {Change.REVOKE, Change.DELETE}
    return ends or isinstance(event, SessionRevoked)


async def react(event: SecurityEvent, about: About, hands: Hands) -> None:
    """Give the orders. Giving them again does no harm.

    Raises:
        Unavailable: one of them was not recorded.
    """
    match event.event:
        case SessionRevoked() if about.agent and not (about.user or about.task):
            await hands.order(_command(Order.KILL, about.target, event))
        case SessionRevoked() | CredentialChange(change=Change.REVOKE | Change.DELETE):
            await _end_tasks(event, about, hands)
        case RiskLevelChange(current=level):
            await _set_risk(event, level, about.target, hands)
        case _:
            pass


async def _end_tasks(event: SecurityEvent, about: About, hands: Hands) -> None:
    for _ in range(LOOKS):
        fitting = {grant.task: grant for grant in hands.grants() if about.fits(grant)}
        highest = [grant for grant in fitting.values() if grant.parent not in fitting]
        if not highest:
            return
        targets = [Target(Reach.TASK, grant.task, tenant=about.tenant) for grant in highest]
        await asyncio.gather(*(hands.order(_command(Order.KILL, target, event)) for target in targets))


async def _set_risk(event: SecurityEvent, level: Level, target: Target, hands: Hands) -> None:
    standing = hands.standing(target)
    if level is Level.HIGH and standing is None:
        await hands.order(_command(Order.SUSPEND, target, event))
    await hands.order(_command(Order.RISK, target, event, Risk(level.lower())))
    if level is Level.LOW and standing and standing.order is Order.SUSPEND and standing.by == event.issuer:
        await hands.order(_command(Order.RESUME, target, event))


def _command(order: Order, target: Target, event: SecurityEvent, level: Risk | None = None) -> Command:
    signal = signal_of(event.event)
    assert signal is not None
    return Command(order, target, f"{signal.value}, event {event.id!r:.100}", event.issuer, level)
