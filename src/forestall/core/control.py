"""What a person, or a signal, orders about tasks: those that are open and those to come.

An order is an entry of the permits stream first; everything else follows from its place in the log. `kill` ends every
open task that its target covers, with all below it. Until `resume` for the same target, `kill` and `suspend` keep new
tasks of an agent, a user, a trust domain, or anybody from being opened; `suspend` keeps open ones from getting permits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from forestall.core.model import Actor, Grant, Risk


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
    """Nothing of another tenant is covered; empty: the tenant of those that have none. Not asked of everything."""

    def covers(self, grant: Grant) -> bool:
        """Is the grant's own task meant? Whatever is below a task goes its way."""
        if self.reach is Reach.EVERYTHING:
            return True
        if self.reach is Reach.TASK:
            return grant.task == self.name
        return grant.tenant == self.tenant and self.bars(grant.chain, grant.user)

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
