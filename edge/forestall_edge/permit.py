"""What a permit says, once its signature has been checked (docs/edge.md, "The token")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall_edge.refusal import Reason, Refused

TYPE = "forestall-permit+jwt"

MAX_PERMIT = 8192
"""Bytes. One has about 1,200; half of what servers take as one header line."""

MAX_LIFE_S = 60
"""Seconds. Forestall's live for ten; one that lives for minutes is not one of its."""

MAX_TEXT = 2048
"""Characters of a claim. The longest that a standard allows is a SPIFFE ID."""

MAX_LIST = 64

_REQUIRED = frozenset(
    {"iss", "aud", "sub", "jti", "iat", "exp", "task", "tool", "pin", "arguments", "policy", "epoch", "effects", "cnf"}
)
_KNOWN = _REQUIRED | {"nbf", "instance", "refs"}


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to do one thing, once. Times are seconds since the epoch."""

    issuer: str
    audience: str
    subject: str
    """Who asked: the workload, as Forestall verified it."""
    id: str
    """Names the decision in Forestall's ledger."""
    issued_at: int
    not_before: int
    expires_at: int
    task: str
    tool: str
    """`server/tool`."""
    pin: str
    arguments: str
    """`sha256:` over their RFC 8785 form."""
    refs: Mapping[str, str]
    """By argument: `sha256:` over the content that it refers to."""
    policy: str
    epoch: int
    effects: tuple[str, ...]
    key: str
    """Thumbprint of the one key that may present it."""
    instance: str


def read_permit(claims: Mapping[str, Any]) -> Permit:
    """Raises Refused: malformed; a claim is missing, of another type, or one that has no meaning here."""
    if not _REQUIRED <= claims.keys() <= _KNOWN:
        raise Refused(Reason.MALFORMED, "a claim is missing, or unknown")
    return Permit(
        issuer=_text(claims["iss"]),
        audience=_text(claims["aud"]),
        subject=_text(claims["sub"]),
        id=_text(claims["jti"]),
        issued_at=_whole(claims["iat"]),
        not_before=_whole(claims.get("nbf", claims["iat"])),
        expires_at=_whole(claims["exp"]),
        task=_text(claims["task"]),
        tool=_text(claims["tool"]),
        pin=_text(claims["pin"]),
        arguments=_text(claims["arguments"]),
        refs=_refs(claims.get("refs", {})),
        policy=_text(claims["policy"]),
        epoch=_whole(claims["epoch"]),
        effects=_effects(claims["effects"]),
        key=_thumbprint(claims["cnf"]),
        instance=_text(claims["instance"]) if "instance" in claims else "",
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise Refused(Reason.MALFORMED, "a claim is not a text")
    return value


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise Refused(Reason.MALFORMED, "a claim is not a whole number")
    return value


def _refs(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_LIST:
        raise Refused(Reason.MALFORMED, "`refs` is not an object")
    return {_text(name): _text(digest) for name, digest in value.items()}


def _effects(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len(value) > MAX_LIST:
        raise Refused(Reason.MALFORMED, "`effects` is not a list")
    return tuple(_text(each) for each in value)


def _thumbprint(value: object) -> str:
    if not isinstance(value, dict) or value.keys() != {"jkt"}:
        raise Refused(Reason.MALFORMED, "it is bound to no key")
    return _text(value["jkt"])
