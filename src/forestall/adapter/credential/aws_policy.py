"""The two policies of a session: what it may do, and that it may do nothing any more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from forestall.adapter.credential.need import Template
from forestall.core.canonical import canonical, parse
from forestall.core.effects import Effect
from forestall.core.errors import InvalidInput
from forestall.core.model import Action, Grant, Json

VERSION = "2012-10-17"
MAX_SESSION_POLICY = 2048
"""Characters of AssumeRole's `Policy`. What it comes to when it is packed with the tags has a limit of its own."""

MAX_ROLE_POLICY = 10_240
"""Characters of all inline policies of one role together, white space apart."""

VALUE = re.compile(r"[A-Za-z0-9_=@+-][A-Za-z0-9._=@+-]{0,127}")
"""What a parameter or an argument may put into a resource: nothing that is special in an ARN or in a pattern."""

_STAMP = re.compile(r"At([0-9]{10})Until([0-9]{10})")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a call or a task with this effect may do."""

    effect: Effect
    actions: tuple[str, ...]
    resources: tuple[Template, ...]


def statements(allow: Sequence[Allowed], effects: frozenset[Effect], grant: Grant, action: Action) -> list[Json]:
    """Raises CannotDo, as `Template.fill` does."""
    return [
        {
            "Effect": "Allow",
            "Action": list(one.actions),
            "Resource": [r.fill(grant, action, VALUE) for r in one.resources],
        }
        for one in allow
        if one.effect in effects
    ]


def document(statements: Sequence[Json]) -> str:
    return canonical({"Version": VERSION, "Statement": list(statements)}).decode()


def end_of_one(session: str, at: int, until: int) -> str:
    """No session of this name may do anything, one that begins later included. `at`, `until`: seconds since the epoch:
    when it was written, and when the last such session has ended by itself.
    """
    return _denial({"StringLike": {"aws:userid": f"*:{session}"}}, at, until)


def end_of_all(at: int, until: int) -> str:
    """No session of the role that began before `at`, as an ISO time of whole seconds says it."""
    return _denial({"DateLessThan": {"aws:TokenIssueTime": _iso(at)}}, at, until)


def stamp_of(text: str) -> tuple[int, int] | None:
    """When one of ours was written, and until when it is needed; None for one that is not ours."""
    try:
        value = parse(text, max_bytes=MAX_ROLE_POLICY)
    except InvalidInput:
        return None
    found = value.get("Statement") if isinstance(value, dict) else None
    one: Any = found[0] if isinstance(found, list) and len(found) == 1 else None
    sid = one.get("Sid") if isinstance(one, Mapping) else None
    matched = _STAMP.fullmatch(sid) if isinstance(sid, str) else None
    return (int(matched[1]), int(matched[2])) if matched else None


def _denial(condition: Json, at: int, until: int) -> str:
    stamp = f"At{at:010d}Until{until:010d}"
    return document([{"Sid": stamp, "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}])


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
