"""What the ledger says beside decisions: tasks that were opened, extended and closed, and orders about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from forestall.adapter.ledger.reader import LogReader
from forestall.core.control import Reach, Target
from forestall.core.entry import Kind, Stream
from forestall.core.grant_json import grant_from_json
from forestall.port import Written

RECORDS = (Kind.OPENED, Kind.EXTENDED, Kind.CLOSED, Kind.ORDERED)
MAX_CHAIN = 32
"""Tasks above one that are looked at; no honest chain is longer."""


def records(reader: LogReader, name: str) -> list[Written]:
    """Those of an order, or of a task with the orders that are about it, by time; none where it is neither."""
    found = [entry for entry in reader.find(name) if entry.body["kind"] in RECORDS]
    opened = next((entry.body for entry in found if entry.body["kind"] == Kind.OPENED), None)
    if opened is not None:
        known = {entry.position.index for entry in found}
        found += [entry for entry in orders_about(reader, opened) if entry.position.index not in known]
    return sorted(found, key=lambda entry: entry.position.index)


def orders_about(reader: LogReader, task: Mapping[str, Any]) -> list[Written]:
    """Every order about the task, or about one above it. `task`: the body of the entry that opened it."""
    grants = [grant_from_json(body) for body in _chain(reader, task)]
    return [
        entry
        for entry in reader.read(Stream.PERMITS)
        if entry.body["kind"] == Kind.ORDERED and any(_target(entry.body).covers(grant) for grant in grants)
    ]


def order_text(body: Mapping[str, Any]) -> str:
    """What was ordered about whom."""
    level = f" {body['level']}" if body.get("level") else ""
    reach = str(body.get("reach", "")).replace("_", " ")
    whom = f"{reach} {body.get('name', '')}".rstrip()
    domain = f" of {body['trust_domain']}" if body.get("trust_domain") else ""
    return f"{body.get('order', '')}{level} {whom}{domain}"


def lines(found: list[Written]) -> Iterator[str]:
    for entry in found:
        body = entry.body
        yield f"{moment(body['at'])}  {body['kind']:<9} {_what(body)}"


def moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _what(body: Mapping[str, Any]) -> str:
    match body["kind"]:
        case Kind.ORDERED:
            return f"{order_text(body)}, by {body['by']}: {body['why'] or 'no reason was given'}"
        case Kind.EXTENDED:
            return f"until {moment(body['expires_at'])}, by {body['subject']['id']}"
        case Kind.CLOSED:
            return str(body["why"])
        case _:
            grant = grant_from_json(body)
            user = f" for {grant.user}" if grant.user else ""
            return f"by {grant.holder}{user}, until {moment(grant.expires_at)}: {grant.purpose!r} ({grant.mandate})"


def _chain(reader: LogReader, task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for _ in range(MAX_CHAIN):
        yield task
        parent = task.get("parent")
        opened = [one.body for one in reader.find(parent) if one.body["kind"] == Kind.OPENED] if parent else []
        if not opened:
            return
        task = opened[0]


def _target(body: Mapping[str, Any]) -> Target:
    return Target(Reach(body["reach"]), str(body["name"]), str(body["trust_domain"]), str(body["tenant"]))
