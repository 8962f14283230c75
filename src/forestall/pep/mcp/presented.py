"""A permitted call as a server gets it that demands permits: the permit and its proof beside the arguments.

They travel in `_meta` (MCP, "General fields", which leaves names with a prefix to whoever owns the prefix). What a
client writes there itself is taken away, with or without such a server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

PERMIT, PROOF = "forestall/permit", "forestall/proof"

OURS = frozenset({PERMIT, PROOF})

Sign = Callable[[str], str]
"""Of a permit, the proof for one use."""


def without(params: Mapping[str, Any]) -> dict[str, Any]:
    """The params without anything that passes for a permit."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or OURS.isdisjoint(meta):
        return dict(params)
    return {**params, "_meta": {name: value for name, value in meta.items() if name not in OURS}}


def present(permit: str, sign: Sign) -> dict[str, str]:
    """Members of `_meta`: the permit, and a fresh proof."""
    return {PERMIT: permit, PROOF: sign(permit)}
