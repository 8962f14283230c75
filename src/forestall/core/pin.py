"""A tool's pin: the digest of the definition that a person reviewed. A server that sends another is quarantined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forestall.core.canonical import MAX_SAFE_INTEGER, digest

PINNED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""What a client or a model may act on. Icons and `_meta` are not: they change without changing what the tool does."""


def definition_digest(server: str, definition: Mapping[str, Any]) -> str:
    """`sha256:` over the RFC 8785 form of the server's name and the pinned members; absent members are left out.

    Raises:
        InvalidInput: the definition has no canonical form.
    """
    pinned = {name: as_doubles(definition[name]) for name in PINNED if name in definition}
    return digest({"server": server, **pinned})


def as_doubles(value: Any) -> Any:
    """The value with the integers that no double holds as the doubles that RFC 8785 takes them for (int64 limits)."""
    if isinstance(value, dict):
        return {name: as_doubles(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_doubles(member) for member in value]
    if type(value) is int and abs(value) > MAX_SAFE_INTEGER:
        return float(value)
    return value
