"""Whom a security event is about, in our own words: a user, an agent, a task, or nobody that we know.

A transmitter speaks for its tenant alone: whoever is of another is nobody that we know. Of a complex subject all parts
hold at once. What a part says that we cannot tell apart, such as a device, narrows nothing: more is ended rather than
less.
"""

from __future__ import annotations

from dataclasses import dataclass

from forestall.core.control import Reach, Target
from forestall.core.model import Actor, Grant
from forestall.identities import Identities
from forestall.proof.fault import InvalidProof
from forestall.proof.kubernetes import SUBJECT, ServiceAccounts
from forestall.proof.spiffe_id import parse_workload_id
from forestall.proof.subject import Complex, IssuerSubject, Opaque, SimpleSubject, SubjectId, Uri
from forestall.proof.user import user_id
from forestall.proof.workload import Listed


@dataclass(frozen=True, slots=True)
class About:
    """At least one of the three."""

    tenant: str
    user: str = ""
    agent: Actor | None = None
    task: str = ""

    def __post_init__(self) -> None:
        if not (self.user or self.agent or self.task):
            raise ValueError("about nobody")

    def fits(self, grant: Grant) -> bool:
        """Is the grant's own task among what is meant?"""
        return (
            grant.tenant == self.tenant
            and self.user in {"", grant.user}
            and (self.agent is None or self.agent in grant.chain)
            and self.task in {"", grant.task, grant.tree}
        )

    @property
    def target(self) -> Target:
        """What an order that stands can be about: the task, else the user, else the agent."""
        if self.task:
            return Target(Reach.TASK, self.task, tenant=self.tenant)
        if self.user:
            return Target(Reach.USER, self.user, tenant=self.tenant)
        assert self.agent is not None
        return Target(Reach.AGENT, self.agent[1], self.agent[0], self.tenant)


def find(subject: SubjectId, tenant: str, identities: Identities, issuer: str) -> About | None:
    """None: nobody that we know, or of another tenant. `issuer`: ours, of which registered clients are subjects."""
    if not isinstance(subject, Complex):
        user, agent = _user(subject, tenant, identities), _agent(subject, tenant, identities, issuer)
        return About(tenant, user, agent) if user or agent else None
    parts = subject.members
    user = _user(parts["user"], tenant, identities) if "user" in parts else ""
    agent = _agent(parts["application"], tenant, identities, issuer) if "application" in parts else None
    session = parts.get("session")
    task = session.id if isinstance(session, Opaque) else ""
    if ("user" in parts and not user) or ("application" in parts and agent is None):
        return None  # of somebody else, whom we do not know
    return About(tenant, user, agent, task) if user or agent or task else None


def _user(subject: SimpleSubject, tenant: str, identities: Identities) -> str:
    """An address is not a user: it is given to somebody else one day."""
    if not isinstance(subject, IssuerSubject):
        return ""
    tenants = {each.rule.issuer: each.rule.tenant for each in identities.users}
    tenants |= {each.rule.issuer: each.rule.tenant for each in identities.grants}
    return user_id(subject.issuer, subject.subject) if tenants.get(subject.issuer) == tenant else ""


def _agent(subject: SimpleSubject, tenant: str, identities: Identities, issuer: str) -> Actor | None:
    if isinstance(subject, Uri):
        try:
            found = parse_workload_id(subject.uri)
        except InvalidProof:
            return None
        return _of_tenant(found.trust_domain, str(found), tenant, identities)
    if not isinstance(subject, IssuerSubject):
        return None
    if subject.issuer == issuer:
        client = next((each for each in identities.clients if each.id == subject.subject), None)
        return None if client is None else _of_tenant(client.trust_domain, client.id, tenant, identities)
    known = next((each.rule for each in identities.issuers if each.rule.issuer == subject.issuer), None)
    path = None if known is None else _path(known.rule, subject.subject)
    if known is None or path is None:
        return None
    return _of_tenant(known.trust_domain, f"spiffe://{known.trust_domain}{path}", tenant, identities)


def _path(rule: object, subject: str) -> str | None:
    """The workload that an issuer's subject is, where its rule tells that by the subject alone."""
    if isinstance(rule, ServiceAccounts):
        found = SUBJECT.fullmatch(subject)
        if found is None or (rule.namespaces is not None and found[1] not in rule.namespaces):
            return None
        return f"{rule.prefix}/ns/{found[1]}/sa/{found[2]}"
    if isinstance(rule, Listed):
        paths = [each.path for each in rule.workloads if each.equal.get("sub") == subject]
        return paths[0] if len(paths) == 1 else None
    return None


def _of_tenant(trust_domain: str, name: str, tenant: str, identities: Identities) -> Actor | None:
    return (trust_domain, name) if identities.tenant(trust_domain) == tenant else None
