"""Patterns in which a wildcard stands for any run of characters, none included, and nothing else is special."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def matches(parts: Sequence[str], text: str) -> bool:
    """Is `text` the parts in their order, with anything between them? One part alone has to be the whole text."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in parts[1:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def covers(wider: Iterable[Sequence[str]], narrower: Sequence[str]) -> bool:
    """Is every text that `narrower` matches matched by one of `wider`? Exact.

    A letter that stands in none of `wider` can only be matched by their wildcards. Put in place of `narrower`'s, it
    makes a text that is matched exactly where every other filling is: what a wildcard takes as one letter, it takes as
    any run.
    """
    wider = [list(parts) for parts in wider]
    used = {letter for parts in wider for part in parts for letter in part}
    fresh = next(letter for letter in map(chr, range(1, 0x110000)) if letter not in used)
    text = fresh.join(narrower)
    return any(matches(parts, text) for parts in wider)
