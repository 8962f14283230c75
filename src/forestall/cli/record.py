"""What the ledger says beside decisions: tasks that were opened, extended and closed, orders about them, credentials
from before they were made until nobody can use them any more, what people answered, and tools that changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from forestall.adapter.ledger.reader import LogReader
from forestall.core.control import Reach, Target
from forestall.core.entry import Kind, Stream
from forestall.core.grant_json import grant_from_json
from forestall.port import Written

DECISIONS = (Kind.PERMITTED, Kind.HELD, Kind.DENIED)
LEASES = (Kind.LEASED, Kind.REVOKED)
ANSWERS = (Kind.APPROVED, Kind.DECLINED)
ALONE = (*ANSWERS, Kind.USED, Kind.QUARANTINED, Kind.SUPPRESSED)
"""Entries that say all there is to say."""
RECORDS = (Kind.OPENED, Kind.EXTENDED, Kind.CLOSED, Kind.ORDERED, *LEASES, *ALONE)
MAX_CHAIN = 32
"""Tasks above one that are looked at; no honest chain is longer."""


@dataclass(frozen=True, slots=True)
class Life:
    """A credential, as far as the ledger tells."""

    name: str
    leased: Mapping[str, Any] | None
    """The body that says so; None of an orphan."""
    revoked: Mapping[str, Any] | None
    """None where it may be alive."""

    @property
    def credential(self) -> str:
        return str((self.leased or self.revoked or {})["credential"])

    @property
    def task(self) -> str:
        return str((self.leased or self.revoked or {})["task"])

    @property
    def permit(self) -> str:
        return str((self.leased or self.revoked or {})["permit"])

    @property
    def ended_at(self) -> int | None:
        return None if self.revoked is None else int(self.revoked["at"])

    @property
    def why(self) -> str:
        return "" if self.revoked is None else str(self.revoked["why"])

    @property
    def lived_ms(self) -> int | None:
        """From when it was written down; None where it was not, or has no end."""
        if self.leased is None or self.ended_at is None:
            return None
        return max(0, self.ended_at - int(self.leased["at"]))


def lives(reader: LogReader) -> list[Life]:
    """Every credential that the ledger tells of, by when it ended; last those that may be alive. The last end counts:
    one that its backend did not keep to is found and ended again.
    """
    found: dict[str, Life] = {}
    for entry in reader.read(Stream.PERMITS):
        body = entry.body
        if body["kind"] in LEASES:
            name = str(body["id"])
            known = found.get(name, Life(name, None, None))
            is_leased = body["kind"] == Kind.LEASED
            found[name] = Life(name, body if is_leased else known.leased, known.revoked if is_leased else body)
    return sorted(found.values(), key=lambda life: life.ended_at or 2**53)


def leases_about(reader: LogReader, *, permit: str = "", task: str = "") -> list[Written]:
    """What is said of the credentials of a permit, or of a task."""
    return [
        entry
        for entry in reader.read(Stream.PERMITS)
        if entry.body["kind"] in LEASES
        and ((permit and entry.body["permit"] == permit) or (task and entry.body["task"] == task))
    ]


def records(reader: LogReader, name: str) -> list[Written]:
    """Those of an order, of a credential, of what stands alone, or of a task with its credentials and the orders that
    are about it, by time; none where it is none of these.
    """
    named = reader.find(name)
    decided = any(entry.body["kind"] in DECISIONS for entry in named)
    wanted = frozenset(RECORDS) - frozenset(ALONE if decided else ())
    found = [entry for entry in named if entry.body["kind"] in wanted]
    opened = next((entry.body for entry in found if entry.body["kind"] == Kind.OPENED), None)
    if opened is not None:
        known = {entry.position.index for entry in found}
        more = (*orders_about(reader, opened), *leases_about(reader, task=name))
        found += [entry for entry in more if entry.position.index not in known]
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


def place_text(place: Mapping[str, Any] | None) -> str:
    return "put nowhere" if place is None else f"in the {place['where']} {place['name']}"


def span(milliseconds: int) -> str:
    """Roughly, as a person says it."""
    if milliseconds < 10_000:
        return f"{max(0, milliseconds) / 1000:.1f} s"
    seconds = milliseconds // 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


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
        case Kind.LEASED:
            marks = "".join(f", {mark}" for mark in ("standing", "exposed") if body[mark])
            what = f"{body['credential']} of {body['backend']}, for the {body['scope']}, {place_text(body['place'])}"
            rights = json.dumps(body["rights"], ensure_ascii=False)
            return f"{what}, until {moment(body['expires_at'])}{marks}: {rights} ({body['id']})"
        case Kind.REVOKED:
            return f"{body['credential']}: {body['why']} ({body['id']})"
        case Kind.APPROVED | Kind.DECLINED:
            why = f": {body['why']}" if body.get("why") else ""
            return f"{body['tool']}, by uid {body['uid']}{why}; `forestall explain {body['hold']}` shows the call"
        case Kind.USED:
            return f"{len(body['used'])} of what may be used once"
        case Kind.QUARANTINED:
            kind = "only its wording" if body["change"] == "cosmetic" else "what it takes, gives or hints"
            return (
                f"{body['tool']} changed ({body['change']}: {kind}); reviewed as {body['reviewed_pin']}, seen as "
                f"{body['seen_pin']}. `forestall init` shows what is different."
            )
        case Kind.SUPPRESSED:
            return f"{body['count']} denials beyond the quota, since {moment(body['from'])}: counted, and not kept"
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
