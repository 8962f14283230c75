"""Patterns in which a wildcard stands for any run of characters, none included, and nothing else is special."""

from __future__ import annotations

from collections.abc import Sequence


def matches(parts: Sequence[str], text: str) -> bool:
    """Is `text` the parts in their order, with anything between them? One part alone has to be the whole text."""
    first, *rest = parts
    if not rest:
        return text == first
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
