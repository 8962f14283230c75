"""One agent, one identity: which identities several workloads act under at the same time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from forestall.core.model import Grant


def shared(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Of open tasks: whose holder's tasks are of different instances, or bound to different keys.

    A workload that makes a new key while a task of its old one is open looks the same; so it is told, and not refused.
    """
    found: dict[tuple[str, str, str], set[tuple[str, str]]] = {}
    for grant in grants:
        if grant.key:
            found.setdefault((grant.tenant, grant.trust_domain, grant.holder), set()).add((grant.instance, grant.key))
    return [
        {"tenant": tenant, "trust_domain": trust_domain, "id": holder, "workloads": len(several)}
        for (tenant, trust_domain, holder), several in sorted(found.items())
        if len(several) > 1
    ]
