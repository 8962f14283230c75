"""Does an argument lie within what a task is bound to; and is one bound within another?

Where a wildcard takes part, a value is read as a path as well, since no pattern tells which arguments are paths: it
must not lead upwards, however that is spelt, and where the facts say that links lead it elsewhere, that place has to
match too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forestall.core.model import Json, RealPath, Resource
from forestall.core.wildcard import covers, matches

MAX_VALUES = 256
"""Values of one bound argument that is a list. More are refused."""

_MAX_DECODING = 4
"""Times that a value may be percent-encoded. What is encoded more often is refused."""


def objected_argument(
    resources: Sequence[Resource],
    tool: str,
    arguments: Mapping[str, Json],
    paths: Mapping[str, tuple[RealPath, ...]],
) -> str | None:
    """The name of the first bound argument of this call that is missing or does not match; None where all do."""
    for resource in resources:
        if matches(resource.tool.split("*"), tool) and not _within(resource, arguments, paths):
            return resource.argument
    return None


def is_narrower(child: Sequence[Resource], parent: Sequence[Resource]) -> bool:
    """Does every call that keeps the bounds of `child` keep those of `parent`? Sound: never a wrong yes."""
    return all(any(implies(mine, bound) for mine in child) for bound in parent)


def implies(mine: Resource, bound: Resource) -> bool:
    """Is every call that keeps `mine` one that keeps `bound`?"""
    if mine.argument != bound.argument or not covers((mine.tool.split("*"),), bound.tool.split("*")):
        return False
    return covers((bound.value,), mine.value)


def _within(resource: Resource, arguments: Mapping[str, Json], paths: Mapping[str, tuple[RealPath, ...]]) -> bool:
    value = arguments.get(resource.argument)
    values = value if isinstance(value, list) else [value]
    known = paths.get(resource.argument, ())
    if not 0 < len(values) <= MAX_VALUES or (known and len(known) != len(values)):
        return False
    leads = known or (None,) * len(values)
    return all(_matches(resource.value, _text(one), lead) for one, lead in zip(values, leads, strict=True))


def _text(value: Json) -> str | None:
    """The one spelling of a value that can be bound; None for what cannot."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def _matches(parts: tuple[str, ...], text: str | None, lead: RealPath | None) -> bool:
    if text is None or not matches(parts, text):
        return False
    if len(parts) > 1 and _leads_up(text):
        return False
    return lead is None or _stays(text, lead) or matches(parts, lead.real) or _inside(parts, lead)


def _inside(parts: tuple[str, ...], lead: RealPath) -> bool:
    return lead.inside is not None and matches(parts, lead.inside)


def _stays(text: str, lead: RealPath) -> bool:
    """Does the path lead where its text says?"""
    said = _segments(text)
    return said == _segments(lead.real) or (lead.inside is not None and said == _segments(lead.inside))


def _segments(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _leads_up(text: str) -> bool:
    """Could some reader find a `..`, or an end of the text before its end, in it?"""
    for _ in range(_MAX_DECODING):
        if any(letter < " " or letter == "\x7f" for letter in text) or ".." in text.replace("\\", "/").split("/"):
            return True
        decoded = _decoded(text)
        if decoded == text:
            return False
        text = decoded
    return True


def _decoded(text: str) -> str:
    """Percent-encoded ASCII, once: no other letter has a part in leading upwards."""
    first, *rest = text.split("%")
    done = [first]
    for part in rest:
        code = part[:2]
        known = len(code) == 2 and code.isascii() and all(digit in "0123456789abcdefABCDEF" for digit in code)
        letter = chr(int(code, 16)) if known and int(code, 16) < 0x80 else ""
        done.append(letter + part[2:] if letter else "%" + part)
    return "".join(done)
