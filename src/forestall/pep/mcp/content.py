"""What a call refers to, between the ask and the deed: which texts name it, and what the server gets in their place.

A permit says which content it is for. What it names, the server gets as the copy whose digest that is; of everything
else it gets the name that the client gave.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.pointer import replaced, texts_of

MAX_REFS = 64
"""Files that one call refers to. Of a call with more, none is bound."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that nobody but the gateway changes any more."""

    digest: str
    """`sha256:` over its bytes."""
    real: str
    """Where the content was read."""
    path: str = field(repr=False)
    """Where the copy is."""


Copies = Mapping[str, Copy]
"""By JSON pointer into the arguments."""

NO_COPIES: Copies = {}


def named(names: Collection[str], arguments: Mapping[str, Any]) -> dict[str, str]:
    """The texts in these arguments that name files, by pointer."""
    found: dict[str, str] = {}
    for name in names:
        found |= texts_of(name, arguments.get(name)) or {}
    return found if len(found) <= MAX_REFS else {}


def told(copies: Copies) -> dict[str, Any]:
    """Members of the ask."""
    refs = {pointer: {"digest": copy.digest, "path": copy.real} for pointer, copy in copies.items()}
    return {"refs": refs} if refs else {}


def chosen(copies: Copies, refs: Any) -> Copies | None:
    """The copies that a permit is for; None where it is for content that is not here."""
    if refs == {}:
        return NO_COPIES
    if not isinstance(refs, dict):
        return None
    if any(pointer not in copies or copies[pointer].digest != digest for pointer, digest in refs.items()):
        return None
    return {pointer: copies[pointer] for pointer in refs}


def with_copies(arguments: Mapping[str, Any], copies: Copies) -> Mapping[str, Any]:
    """The arguments that name the copies."""
    return replaced(arguments, {pointer: copy.path for pointer, copy in copies.items()}) if copies else arguments


def references_of(welcome: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Which arguments of which tools refer to content. What is not understood is bound by nobody, and so is held."""
    found = welcome.get("references")
    if not isinstance(found, dict):
        return {}
    return {tool: tuple(names) for tool, names in found.items() if _are_texts(names)}


def _are_texts(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
