"""A credential that came with a permit, or with the leave to start a server: where it goes, and what must not come
back of it. It is held no longer than it is used, and shown to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.errors import InvalidInput
from forestall.core.place import AT_START, Placed, Where

MAX_PLACED = 16
MAX_SECRETS = 64
"""Of one credential."""


@dataclass(frozen=True, slots=True)
class Lent:
    placed: tuple[Placed, ...] = ()
    scrub: tuple[str, ...] = field(default=(), repr=False)
    bound: str = ""
    """Its name, where it is bound to a key and goes with a proof of each request; the decision point has the key."""
    until: int | None = None
    """When a task's is over, in milliseconds since the epoch; None of one that is over with its call."""

    @property
    def arguments(self) -> Mapping[str, str]:
        return {one.name: one.value for one in self.placed if one.where is Where.ARGUMENT}

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return tuple((one.name, one.value) for one in self.placed if one.where is Where.HEADER)

    @property
    def at_start(self) -> tuple[Placed, ...]:
        return tuple(one for one in self.placed if one.where in AT_START)


NOTHING_LENT = Lent()

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_OURS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "te", "upgrade", "trailer"}
    | {"dpop"}
)


def is_free(name: str) -> bool:
    """May a credential be in this header: one that frames no message, and is not the protocol's own?"""
    return _HEADER.fullmatch(name) is not None and name.lower() not in _OURS and not name.lower().startswith("mcp-")


def read_lent(frame: Mapping[str, Any]) -> Lent:
    """Of a frame of the decision point; nothing where it has no `credential`.

    Raises:
        InvalidInput: what it has is not one. The message holds no value.
    """
    if "credential" not in frame:
        return NOTHING_LENT
    credential = frame["credential"]
    if not isinstance(credential, dict):
        raise InvalidInput("`credential` is not an object.")
    placed, scrub = credential.get("placed"), credential.get("scrub")
    if not isinstance(placed, list) or not 0 < len(placed) <= MAX_PLACED:
        raise InvalidInput("`placed` is not a list.")
    if not isinstance(scrub, list) or len(scrub) > MAX_SECRETS or not all(isinstance(one, str) for one in scrub):
        raise InvalidInput(f"`scrub` is not a list of at most {MAX_SECRETS} texts.")
    until = credential.get("until")
    if until is not None and type(until) is not int:
        raise InvalidInput("`until` is not a time.")
    lent = Lent(tuple(_placed(one) for one in placed), tuple(scrub), _bound(credential), until)
    if lent.bound and [name.lower() for name, _ in lent.headers] != ["authorization"]:
        raise InvalidInput("What is bound to a key goes into `Authorization`, and nowhere else.")
    return lent


def _bound(credential: Mapping[str, Any]) -> str:
    bound = credential.get("bound", "")
    if not isinstance(bound, str) or ("bound" in credential and not bound):
        raise InvalidInput("`bound` is not a name.")
    return bound


def _placed(value: Any) -> Placed:
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("where", "name", "value")):
        raise InvalidInput("`placed` holds what is no place.")
    try:
        return Placed(Where(value["where"]), value["name"], value["value"])
    except ValueError:
        raise InvalidInput("`placed` names a place that there is not.") from None
