"""What a policy's annotations say: whose approval it waits for, which credential it brings, what its writer accepts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from forestall.core.effects import Effect
from forestall.core.grant import MAX_DEPTH
from forestall.core.model import Approval, Narrowing

NARROWING = ("only_effects", "lifetime_minutes", "max_depth")

KNOWN = frozenset(
    {
        "id",
        "description",
        "approvers",
        "quorum",
        "expires",
        "credential",
        "reaches",
        "raw",
        "without",
        "after_upstream",
        *NARROWING,
    }
)

MAY_BE_MISSING = frozenset({"risk", "posture"})
"""Facts that come from elsewhere, and may not have come."""

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_APPROVER = re.compile(r"local|uid:(?:0|[1-9][0-9]{0,9})|(?:user|group):[^\s:]{1,128}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


@dataclass(frozen=True, slots=True)
class Annotations:
    approval: Approval | None = None
    credential: str | None = None
    reaches: frozenset[str] = frozenset()
    raw: frozenset[str] = frozenset()
    """Arguments that the writer knows are no paths."""
    without: frozenset[str] = frozenset()
    """Facts that the writer says may be missing: `risk`, or `posture`."""
    narrowing: Narrowing | None = None
    """What the permit leaves of a task that is opened or delegated."""
    after_upstream: bool = False
    """What it says counts once nothing above the task is undecided or held."""


def read(annotations: Mapping[str, str]) -> Annotations:
    """Raises ValueError with (name, what is wrong with it)."""
    approval = _approval(annotations)
    credential = annotations.get("credential")
    if credential is not None and not _CREDENTIAL.fullmatch(credential):
        raise ValueError("credential", "has to be a class of credential, such as `github-write`")
    reaches = frozenset(_list(annotations.get("reaches", "")))
    if unknown := reaches - frozenset(Effect):
        raise ValueError("reaches", f"`{min(unknown)}` is not an effect")
    without = frozenset(_list(annotations.get("without", "")))
    if "without" in annotations and (not without or not without <= MAY_BE_MISSING):
        raise ValueError("without", f"names facts that may be missing: {', '.join(sorted(MAY_BE_MISSING))}")
    if annotations.get("after_upstream"):
        raise ValueError("after_upstream", "stands alone: `@after_upstream`")
    return Annotations(
        approval,
        credential,
        reaches,
        frozenset(_list(annotations.get("raw", ""))),
        without,
        _narrowing(annotations),
        "after_upstream" in annotations,
    )


def _approval(annotations: Mapping[str, str]) -> Approval | None:
    if "approvers" not in annotations:
        for name in ("quorum", "expires"):
            if name in annotations:
                raise ValueError(name, "says nothing without `@approvers`")
        return None
    approvers = tuple(dict.fromkeys(_list(annotations["approvers"])))
    if not approvers:
        raise ValueError("approvers", "names nobody")
    quorum = annotations.get("quorum", "1")
    if not re.fullmatch(r"[1-9][0-9]{0,2}", quorum):
        raise ValueError("quorum", "has to be a whole number from 1")
    if int(quorum) > len(approvers) and not any(map(_many, approvers)):
        raise ValueError("quorum", f"asks for {quorum} of {len(approvers)} approvers")
    expires = _DURATION.fullmatch(annotations.get("expires", "10m"))
    if not expires:
        raise ValueError("expires", "has to be a duration such as `30s`, `10m`, `2h` or `1d`")
    return Approval(approvers, int(quorum), int(expires[1]) * _UNITS[expires[2]])


def _narrowing(annotations: Mapping[str, str]) -> Narrowing | None:
    if not any(name in annotations for name in NARROWING):
        return None
    effects, minutes, depth = (annotations.get(name) for name in NARROWING)
    if minutes is not None and not re.fullmatch(r"[1-9][0-9]{0,5}", minutes):
        raise ValueError("lifetime_minutes", "has to be a whole number of minutes from 1")
    if depth is not None and (not re.fullmatch(r"[0-9]", depth) or int(depth) > MAX_DEPTH):
        raise ValueError("max_depth", f"has to be a whole number from 0 to {MAX_DEPTH}")
    return Narrowing(
        None if effects is None else _only(effects),
        None if minutes is None else int(minutes) * _UNITS["m"],
        None if depth is None else int(depth),
    )


def _only(text: str) -> frozenset[Effect]:
    words = _list(text)
    if unknown := set(words) - frozenset(Effect):
        raise ValueError("only_effects", f"`{min(unknown)}` is not an effect")
    if not words:
        raise ValueError("only_effects", "names no effect")
    return frozenset(map(Effect, words))


def _many(name: str) -> bool:
    """May several persons have this name?"""
    return name == "local" or name.startswith("group:")


def nobody(approvers: str) -> list[str]:
    """Names in `@approvers` that no person at a command line can have."""
    return [name for name in _list(approvers) if not _APPROVER.fullmatch(name)]


def _list(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]
