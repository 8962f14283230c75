"""What a person, or a signal, orders about tasks: those that are open and those to come.

An order is an entry of the permits stream first; everything else follows from its place in the log. `kill` ends every
open task that its target covers, with all below it. Until `resume` for the same target, `kill` and `suspend` keep new
tasks of an agent, a user, a trust domain, or anybody from being opened; `suspend` keeps open ones from getting permits,
and ends their credentials.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from forestall.core.model import Actor, Grant, Risk

FORESTALL = "forestall"
"""Who gives an order against a runaway."""


class Order(StrEnum):
    KILL = "kill"
    SUSPEND = "suspend"
    RESUME = "resume"
    RISK = "risk"


class Reach(StrEnum):
    """What an order is about."""

    TASK = "task"
    AGENT = "agent"
    USER = "user"
    TRUST_DOMAIN = "trust_domain"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Target:
    reach: Reach
    name: str = ""
    """The task, the agent's id, the user, or the trust domain; empty for everything."""
    trust_domain: str = ""
    """Of an agent, whose id alone is nobody's."""
    tenant: str = ""
    """Nothing of another tenant is covered; empty: the tenant of those that have none. Not asked of everything, nor of
    a task where it is empty: an operator is one of the machine, on which a task's id is one task's.
    """

    def covers(self, grant: Grant) -> bool:
        """Is the grant's own task meant? Whatever is below a task goes its way."""
        if self.reach is Reach.EVERYTHING:
            return True
        if self.reach is Reach.TASK:
            return grant.task == self.name and self.tenant in {"", grant.tenant}
        return grant.tenant == self.tenant and self.bars(grant.chain, grant.user)

    def plain(self) -> Target:
        """Without what is not asked of its reach: two orders about the same are about equal targets."""
        match self.reach:
            case Reach.EVERYTHING:
                return EVERYTHING
            case Reach.AGENT:
                return self
            case _:
                return Target(self.reach, self.name, tenant=self.tenant)

    def bars(self, chain: Iterable[Actor], user: str) -> bool:
        """Would a task of this chain, opened for this user, be covered? Tenants are the caller's to compare."""
        match self.reach:
            case Reach.EVERYTHING:
                return True
            case Reach.TASK:
                return False
            case Reach.USER:
                return bool(self.name) and user == self.name
            case Reach.AGENT:
                return (self.trust_domain, self.name) in chain
            case Reach.TRUST_DOMAIN:
                return any(domain == self.name for domain, _ in chain)


EVERYTHING = Target(Reach.EVERYTHING)


def barring(tenant: str, chain: Iterable[Actor], user: str) -> list[Target]:
    """Every plain target that bars a task of this chain from being opened for this user."""
    targets = [EVERYTHING]
    for domain, who in chain:
        targets.append(Target(Reach.AGENT, who, domain, tenant))
        targets.append(Target(Reach.TRUST_DOMAIN, domain, tenant=tenant))
    if user:
        targets.append(Target(Reach.USER, user, tenant=tenant))
    return targets


def covering(grant: Grant) -> list[Target]:
    """Every plain target that covers the grant: a look at each of them is a look at all orders that there are."""
    own = [Target(Reach.TASK, grant.task)]
    if grant.tenant:
        own.append(Target(Reach.TASK, grant.task, tenant=grant.tenant))
    return own + barring(grant.tenant, grant.chain, grant.user)


@dataclass(frozen=True, slots=True)
class Command:
    """An order as it was given."""

    order: Order
    target: Target
    why: str
    """One line, for the ledger and the operator."""
    by: str
    """Who gave it, as verified: `uid/1000`, the issuer of a signal, or `forestall` for a runaway."""
    level: Risk | None = None
    """Of `risk` alone."""


def leaked(task: str, tenant: str, why: str) -> Command:
    """Forestall's own order about a task in which a credential came back, until a person lowers its risk again."""
    return Command(Order.RISK, Target(Reach.TASK, task, tenant=tenant), why, FORESTALL, Risk.HIGH)


def out_of_hand(task: str, tenant: str, why: str) -> Command:
    """Forestall's own order against a runaway, until a person resumes the task."""
    return Command(Order.SUSPEND, Target(Reach.TASK, task, tenant=tenant), why, FORESTALL)
