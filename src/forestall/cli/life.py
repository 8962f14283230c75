"""One credential, as `forestall explain` tells it: why there was one, for how long, and that it is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from forestall.adapter.ledger.reader import LogReader
from forestall.cli.record import LEASES, Life, leases_about, lines, moment, place_text, span
from forestall.core.entry import Kind
from forestall.core.model import Scope
from forestall.port import Written

WHY = {
    "done": "its call is over, and was done",
    "failed": "its call is over, and failed",
    "not_started": "its call was not started",
    "ambiguous": "nobody knows what became of its call",
    "swept": "another process had made it: a crash, or a restart",
    "lost": "its backend did not say that it made it",
    "late": "its backend said too late that it made it",
    "leaked": "it, or another of its task, was seen in an output",
    "killed": "its task was killed, or everything was",
    "suspended": "its task was suspended, or one above it",
    "class_changed": "credentials.toml says something else of its class now, or has it no more",
    "task_ended": "its task is over",
    "settled": "its call is over; it could not be ended at once",
    "expired": "its time was over, or it could not be renewed",
    "risk": "the risk of its task rose to what its class says",
    "stopped": "the decision point, or the program, was stopped",
    "orphan": "it lived at its backend, and no record knew it",
}
"""What the ledger says of an end, in words. The first four are what `core.fate.Fate` says of a call."""


@dataclass(frozen=True, slots=True)
class Story:
    """A credential, and what it was for. Empty is what the ledger does not tell."""

    life: Life
    permit: Mapping[str, Any]
    outcome: Mapping[str, Any]
    """Of the permit's call."""
    task: Mapping[str, Any]
    """The body of the entry that opened it."""
    entries: tuple[Written, ...]
    """Of the credential itself. An end that its backend did not keep to is written again when it is found out."""


def story_of(reader: LogReader, name: str) -> Story | None:
    """None where the ledger knows no credential of this name."""
    entries = [entry for entry in reader.find(name) if entry.body["kind"] in LEASES]
    if not entries:
        return None
    leased = [entry.body for entry in entries if entry.body["kind"] == Kind.LEASED]
    revoked = [entry.body for entry in entries if entry.body["kind"] == Kind.REVOKED]
    life = Life(name, leased[-1] if leased else None, revoked[-1] if revoked else None)
    permit = _first(reader, life.permit, Kind.PERMITTED)
    task = _first(reader, life.task or str(permit.get("task", "")), Kind.OPENED)
    return Story(life, permit, _first(reader, life.permit, Kind.SETTLED), task, tuple(entries))


def handed_on(reader: LogReader, permit: Written) -> list[Written]:
    """What is said of the task's credentials that a permit without one of its own could be lent: of its class, written
    down before its call was over, and not over before it was asked for. Several where calls needed the first together.
    """
    of_task = leases_about(reader, task=permit.body["task"])
    end = next((one.position.index for one in reader.find(permit.body["id"]) if one.body["kind"] == Kind.SETTLED), None)
    gone = {
        one.body["id"]
        for one in of_task
        if one.body["kind"] == Kind.REVOKED and one.position.index < permit.position.index
    }
    names = {
        one.body["id"]
        for one in of_task
        if one.body["kind"] == Kind.LEASED
        and (one.body["credential"], one.body["scope"]) == (permit.body["credential"], Scope.TASK)
        and (end is None or one.position.index < end)
    }
    return [one for one in of_task if one.body["id"] in names - gone]


def _first(reader: LogReader, name: str, kind: Kind) -> Mapping[str, Any]:
    found = reader.find(name) if name else []
    return next((entry.body for entry in found if entry.body["kind"] == kind), {})


# -- for people


def story_text(story: Story) -> Iterator[str]:
    yield _verdict(story.life)
    yield ""
    yield from _what(story.life)
    yield from _what_for(story)
    yield from _from_when_to_when(story.life)
    yield ""
    yield from lines(list(story.entries))


def _verdict(life: Life) -> str:
    if life.ended_at is None:
        return (
            f"{life.name} may be alive: the ledger has no end of it; `forestall leases` shows what is known of it now"
        )
    lived = "" if life.lived_ms is None else f", after {span(life.lived_ms)}"
    return f"{life.name} is over{lived}: {WHY.get(life.why, life.why)} ({life.why})"


def _what(life: Life) -> Iterator[str]:
    leased = life.leased
    if leased is None:
        yield f"credential {life.credential}; no record says that it was to be made"
        return
    whose = f"{life.credential} of {leased['backend']}, for the {leased['scope']}"
    yield f"credential {whose}, {place_text(leased['place'])}"
    yield f"rights     {json.dumps(leased['rights'], ensure_ascii=False)}"
    if leased["standing"]:
        yield "standing   the secret was there before, and is there after: this end ended nothing"
    if leased["exposed"]:
        yield "exposed    the user that the server runs as could read it where it was put"


def _what_for(story: Story) -> Iterator[str]:
    permit, task = story.permit, story.task
    if not permit:
        yield f"permit     {story.life.permit}, which the ledger does not know"
    else:
        fate = f"; {story.outcome['fate']}" if story.outcome else "; its call has no outcome"
        yield f"permit     {permit['id']}, by {', '.join(permit['policies'])}; `forestall explain {permit['id']}`"
        yield f"call       {permit['tool']} ({', '.join(permit['effects'])}){fate}"
        yield f"agent      {permit['subject']['id']} (assurance {permit['subject']['assurance']})"
    if task:
        yield f"task       {task['id']}: {task['purpose']!r}"
        yield f"mandate    {task['mandate']}"
        if task.get("user"):
            yield f"user       {task['user']}"


def _from_when_to_when(life: Life) -> Iterator[str]:
    if life.leased is not None:
        until = moment(life.leased["expires_at"])
        yield f"since      {moment(life.leased['at'])}, when it was written down; until {until} at most"
    if life.ended_at is not None:
        yield f"ended      {moment(life.ended_at)}"


# -- for programs


def story_json(story: Story) -> dict[str, Any]:
    life = story.life
    return {
        "credential": {
            "name": life.name,
            "class": life.credential,
            "state": "open" if life.ended_at is None else "over",
            "since": None if life.leased is None else life.leased["at"],
            "ended": life.ended_at,
            "lived_ms": life.lived_ms,
            "why": life.why,
        },
        "permit": dict(story.permit) or None,
        "outcome": dict(story.outcome) or None,
        "task": dict(story.task) or None,
        "records": [dict(entry.body) for entry in story.entries],
    }
