"""Rows of the index, and what the log says of permits and labels. Whatever does not read raises KeyError, TypeError,
ValueError or AttributeError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from forestall.adapter.store.account import Account
from forestall.adapter.store.orders import Given
from forestall.adapter.store.taken import Taken
from forestall.adapter.store.tree import Task
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.entry import ordered
from forestall.core.grant_json import counted_from_json, effects_from_json, grant_from_json, grant_to_json
from forestall.core.label import Confidentiality, Integrity, Label
from forestall.core.model import Grant, Lease, Permit, Risk, Scope
from forestall.core.place import Place, Where
from forestall.core.quantity import Quantity


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A permit without an outcome."""

    permit: Permit
    body: Mapping[str, Any]
    """Its entry's."""
    index: int

    def row(self) -> dict[str, Any]:
        return {"index": self.index, "body": dict(self.body)}

    @classmethod
    def of(cls, body: Mapping[str, Any], index: int) -> Unsettled:
        return cls(permit_of(body), body, index)

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Unsettled:
        return cls.of(row["body"], int(row["index"]))


@dataclass(frozen=True, slots=True)
class Leased:
    """A credential that nobody has said the end of."""

    lease: Lease
    at: int
    """When it was written down."""
    body: Mapping[str, Any]
    """Its entry's."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Leased:
        return cls(lease_of(body), int(body["at"]), body)


def stream_row(taken: Taken) -> dict[str, Any]:
    return {"count": taken.count, "last": taken.last, "ahead": {str(k): v for k, v in taken.ahead.items()}}


def read_stream(row: Mapping[str, Any]) -> Taken:
    ahead = {int(index): str(name) for index, name in row["ahead"].items()}
    return Taken(int(row["count"]), str(row["last"]), ahead)


def task_row(task: Task) -> dict[str, Any]:
    return {
        **grant_to_json(task.grant),
        "subject": _holder(task.grant),
        "labels": label_row(task.labels),
        "spent": {counted.value: amount for counted, amount in task.account.spent.items()},
        "opened": task.opened,
        "opened_at": task.opened_at,
        "running": task.running,
        "ended": task.ended,
    }


def read_task(row: Mapping[str, Any]) -> Task:
    grant = grant_from_json(row)
    spent = {counted_from_json(name): int(amount) for name, amount in row["spent"].items()}
    ended = None if row["ended"] is None else int(row["ended"])
    labels, account = label_of(row["labels"]), Account(grant.budget, spent)
    return Task(grant, labels, account, int(row["opened"]), int(row["running"]), ended, int(row["opened_at"]))


def _holder(grant: Grant) -> dict[str, str]:
    return {
        "id": grant.holder,
        "instance": grant.instance,
        "tenant": grant.tenant,
        "trust_domain": grant.trust_domain,
    }


def given_of(body: Mapping[str, Any], index: int) -> Given:
    """What the log says of an order."""
    target = Target(Reach(body["reach"]), str(body["name"]), str(body["trust_domain"]), str(body["tenant"]))
    level = Risk(body["level"]) if "level" in body else None
    command = Command(Order(body["order"]), target, str(body["why"]), str(body["by"]), level)
    return Given(index, int(body["at"]), command)


def given_row(given: Given) -> dict[str, Any]:
    return {"index": given.index, **ordered(given.command, "", given.at).body, "at": given.at}


def target_key(target: Target) -> str:
    """Names its row."""
    return json.dumps([target.reach.value, target.name, target.trust_domain, target.tenant])


def label_row(label: Label) -> dict[str, str]:
    return {"integrity": label.integrity.value, "confidentiality": label.confidentiality.value}


def label_of(body: Mapping[str, str]) -> Label:
    return _label(body["integrity"], body["confidentiality"])


def used_of(body: Mapping[str, Any]) -> dict[Quantity, int]:
    """What an outcome says that a call used."""
    used = {Quantity(name): int(amount) for name, amount in body.get("used", {}).items()}
    if any(amount < 0 for amount in used.values()):
        raise ValueError("less than nothing was used")
    return used


def permit_of(body: Mapping[str, Any]) -> Permit:
    """What the log says of a permit. It has no digest of the arguments, so that it is good for nothing but settling."""
    return Permit(
        id=str(body["id"]),
        task=str(body["task"]),
        tool=str(body["tool"]),
        pin=str(body["pin"]),
        digest="",
        effects=effects_from_json(body["effects"]),
        output=label_of(body["output"]),
        policies=tuple(body["policies"]),
        policy_digest=str(body["policy_digest"]),
        expires_at=int(body["expires_at"]),
        credential=body["credential"],
    )


def lease_of(body: Mapping[str, Any]) -> Lease:
    """What the log says of a credential: everything but its secret, and the template that it was put in place with."""
    place = body["place"]
    return Lease(
        name=str(body["id"]),
        credential=str(body["credential"]),
        backend=str(body["backend"]),
        task=str(body["task"]),
        permit=str(body["permit"]),
        scope=Scope(body["scope"]),
        rights=dict(body["rights"]),
        expires_at=int(body["expires_at"]),
        place=None if place is None else Place(Where(place["where"]), str(place["name"]), ""),
        exposed=bool(body["exposed"]),
        standing=bool(body["standing"]),
        words=str(body.get("words", "")),
    )


@lru_cache(maxsize=64)
def _label(integrity: str, confidentiality: str) -> Label:
    return Label(Integrity(integrity), Confidentiality(confidentiality))
