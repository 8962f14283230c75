"""Arguments that a credential fills in: who calls neither sees nor gives them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def without(schema: Mapping[str, Any], hidden: Collection[str]) -> Mapping[str, Any]:
    """An input schema as who calls may know it: at its top, these arguments are not there."""
    if not hidden:
        return schema
    less = dict(schema)
    if isinstance(properties := schema.get("properties"), dict):
        less["properties"] = {name: value for name, value in properties.items() if name not in hidden}
    if isinstance(required := schema.get("required"), list):
        less["required"] = [name for name in required if name not in hidden]
    return less


def given_though_hidden(hidden: Collection[str], arguments: Collection[str]) -> str:
    """The hidden argument that a caller gave, in whatever case; empty where there is none."""
    if not hidden:
        return ""
    given = {name.casefold() for name in arguments}
    return next((name for name in sorted(hidden) if name.casefold() in given), "")
