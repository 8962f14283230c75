"""Kubernetes service accounts, by the projected token of a pod.

The token is good until it expires, whatever became of the pod: only the cluster's TokenReview knows better. So the
pod's uid is among the facts, for who can ask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.proof.claims import text
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.workload import Found, require_path

API_SERVER = frozenset(
    {
        "api",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "https://kubernetes",
        "https://kubernetes.default",
        "https://kubernetes.default.svc",
        "https://kubernetes.default.svc.cluster.local",
    }
)
"""Audiences that API servers have unless they are told otherwise. What names one would open the cluster to us."""

SUBJECT = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")


@dataclass(frozen=True, slots=True)
class ServiceAccounts:
    """The service accounts of one cluster, as `<prefix>/ns/<namespace>/sa/<name>`.

    Two clusters of one trust domain have a prefix each, or their accounts of one name would be one workload.
    """

    prefix: str = ""
    namespaces: frozenset[str] | None = None
    """Those whose accounts count; None for all of the cluster."""

    def __post_init__(self) -> None:
        if self.prefix:
            require_path(self.prefix)

    def find(self, claims: Mapping[str, Any]) -> Found:
        subject = SUBJECT.fullmatch(text(claims, "sub"))
        if subject is None:
            raise InvalidProof(Fault.WRONG_SUBJECT, "not a service account")
        namespace, name = subject.groups()
        bound = _object(claims, "kubernetes.io")
        account = _object(bound, "serviceaccount")
        if (bound.get("namespace"), account.get("name")) != (namespace, name):
            raise InvalidProof(Fault.WRONG_SUBJECT, "`sub` and `kubernetes.io` name two accounts")
        if self.namespaces is not None and namespace not in self.namespaces:
            raise InvalidProof(Fault.WRONG_SUBJECT, "a namespace that does not count")
        known = {"namespace": namespace, "serviceaccount": name, "serviceaccount_uid": text(account, "uid")}
        for kind in ("pod", "node"):
            if kind in bound:
                item = _object(bound, kind)
                known |= {kind: text(item, "name"), f"{kind}_uid": text(item, "uid")}
        return Found(f"{self.prefix}/ns/{namespace}/sa/{name}", known)


def _object(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    member = value.get(name)
    if not isinstance(member, dict):
        raise InvalidProof(Fault.WRONG_SUBJECT, f"`{name}` is missing: not a projected token")
    return member
