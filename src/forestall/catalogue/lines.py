"""On which line of a TOML file something stands, so that an error can say it. `tomllib` does not keep lines."""

from __future__ import annotations

import re
import tomllib
from typing import Any

_HEADER = re.compile(r"\s*(\[{1,2}[^\[\]].*?\]{1,2})\s*(#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'))*)\s*="""
)


def find_line(text: str, *path: str) -> int:
    """The line (from 1) where the key at `path` is set, or the nearest table around it; 1 where neither is found.

    Multi-line strings that look like keys may mislead it; it is for messages to people, nothing decides by it.
    """
    table: tuple[str, ...] = ()
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            here = table = _path(header[1])
        elif key := _KEY.match(line):
            here = (*table, *_path(f"{key[1]} = 0"))
        else:
            continue
        if depth < len(here) <= len(path) and path[: len(here)] == here:
            best, depth = number, len(here)
    return best


def _path(fragment: str) -> tuple[str, ...]:
    """The names that one header or key descends through."""
    try:
        value: Any = tomllib.loads(fragment)
    except tomllib.TOMLDecodeError:
        return ()
    names = []
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        names.append(name)
        value = value[0] if isinstance(value, list) and value else value
    return tuple(names)
