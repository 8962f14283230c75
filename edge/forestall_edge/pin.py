"""The digest of a tool's definition, as a permit names it: what was reviewed, and not what the server has become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forestall_edge.canonical import MAX_SAFE, digest

PINNED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""Members of a definition that a client or a model may act on."""


def pin(server: str, definition: Mapping[str, Any]) -> str:
    """`sha256:` over the RFC 8785 form of the server's name and the pinned members; absent members are left out.

    Args:
        server: as Forestall's catalogue calls it.
        definition: one of `tools/list`, as it goes over the wire.

    Raises:
        NotJson: it has no canonical form.
    """
    return digest({"server": server, **{name: _doubles(definition[name]) for name in PINNED if name in definition}})


def _doubles(value: Any) -> Any:
    """Integers that no double holds are read as doubles (RFC 8785, appendix D)."""
    if isinstance(value, dict):
        return {name: _doubles(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_doubles(member) for member in value]
    return float(value) if type(value) is int and abs(value) > MAX_SAFE else value
