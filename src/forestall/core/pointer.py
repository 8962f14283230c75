"""The texts of a call's arguments, by where they stand: JSON pointers (RFC 6901)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Texts = Mapping[str, str]
"""By JSON pointer into the arguments: the text that stands there."""


def texts_of(name: str, value: Any) -> Texts | None:
    """The texts of one argument: itself, or each of its array. None where it holds anything else."""
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    if isinstance(value, str):
        return {pointer: value}
    if value is None:
        return {}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return {f"{pointer}/{number}": item for number, item in enumerate(value)}
    return None


def replaced(arguments: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with these values, by pointer, in the place of the texts that stand there."""
    found = dict(arguments)
    for name, value in arguments.items():
        texts = texts_of(name, value) or {}
        if values.keys().isdisjoint(texts):
            continue
        fresh = [values.get(pointer, text) for pointer, text in texts.items()]
        found[name] = fresh if isinstance(value, list) else fresh[0]
    return found
