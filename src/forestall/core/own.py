"""What Forestall itself is asked for, as tools: policy decides about tasks in the words that it decides calls in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from forestall.core.effects import Confidence, Effect
from forestall.core.label import CLEAN
from forestall.core.model import Json, Tool

SERVER = "forestall"
"""No server of tools may be called this."""


def own_tool(
    name: str, properties: Mapping[str, Json], required: tuple[str, ...], effect: Effect = Effect.PRIVILEGE
) -> Tool:
    """A request that changes what an agent may do. Its arguments are text to be compared, and name no files."""
    return Tool(
        SERVER,
        name,
        pin="",
        effects=frozenset({effect}),
        confidence=Confidence.DECLARED,
        content=frozenset(properties),
        output=CLEAN,
        output_confidence=Confidence.DECLARED,
        input_schema=MappingProxyType(
            {
                "type": "object",
                "properties": properties,
                "required": list(required),
                "additionalProperties": False,
            }
        ),
    )
