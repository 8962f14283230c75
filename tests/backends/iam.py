"""IAM's rule of evaluation, as far as the policies of a session need it; what it does not know is an error.

An explicit denial wins; else both the role's policies and the session's have to allow (IAM User Guide, "Policy
evaluation logic", "Session policies"). Ours, and no code of Forestall's.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


def allows(
    role: Sequence[Mapping[str, Any]], session: Mapping[str, Any], action: str, resource: str, about: Mapping[str, str]
) -> bool:
    """`about`: `aws:userid` and `aws:TokenIssueTime` of the session."""
    spoken = [_effects(policy, action, resource, about) for policy in (*role, session)]
    if any("Deny" in effects for effects in spoken):
        return False
    return any("Allow" in effects for effects in spoken[:-1]) and "Allow" in spoken[-1]


def _effects(policy: Mapping[str, Any], action: str, resource: str, about: Mapping[str, str]) -> set[str]:
    assert set(policy) <= {"Version", "Statement"}
    assert policy["Version"] == "2012-10-17"
    found = set()
    for one in _list(policy["Statement"]):
        assert set(one) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        speaks = any(_like(each.lower(), action.lower()) for each in _list(one["Action"]))
        speaks = speaks and any(_like(each, resource) for each in _list(one["Resource"]))
        if speaks and all(_holds(*condition, about) for condition in one.get("Condition", {}).items()):
            found.add(one["Effect"])
    return found


def _holds(operator: str, wanted: Mapping[str, Any], about: Mapping[str, str]) -> bool:
    match operator:
        case "StringLike":
            return all(any(_like(each, about[key]) for each in _list(value)) for key, value in wanted.items())
        case "DateLessThan":
            return all(_time(about[key]) < _time(value) for key, value in wanted.items())
    raise AssertionError(operator)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _like(pattern: str, text: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
