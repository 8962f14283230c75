"""How a tool's definition differs from the one that was reviewed, and how grave that is.

Either way the tool is quarantined: new wording can carry an instruction to the model. The class tells the reviewer
whether the tool also *takes or does* something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from forestall.catalogue.statement import Definition
from forestall.core.canonical import canonical, digest
from forestall.core.pin import PINNED

Change = Literal["cosmetic", "authority"]

_WORDING = frozenset({"title", "description", "$comment", "examples"})
"""JSON Schema keywords that only speak to a reader (2020-12, validation, section 9)."""

_OF_NAMES = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_OF_SCHEMAS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_A_SCHEMA = frozenset(
    {
        "additionalProperties",
        "items",
        "contains",
        "not",
        "if",
        "then",
        "else",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)

SHOWN = 100
"""Characters of a value that a difference shows."""


def classify_change(old: Definition, new: Definition) -> Change:
    """`cosmetic` where only wording differs; `authority` where arguments, defaults, results or hints do."""
    return "cosmetic" if canonical(_shape(old)) == canonical(_shape(new)) else "authority"


def shape_digest(definition: Definition) -> str:
    """The digest of what the tool takes, gives and hints, without its wording: equal where a change is cosmetic."""
    return digest(_shape(definition))


def _shape(definition: Definition) -> dict[str, Any]:
    shape = {name: definition[name] for name in PINNED if name in definition and name not in _WORDING}
    shape |= {name: _without_wording(shape[name]) for name in ("inputSchema", "outputSchema") if name in shape}
    if isinstance(hints := shape.get("annotations"), dict):
        shape["annotations"] = {name: hint for name, hint in hints.items() if name != "title"}
    return shape


def _without_wording(schema: Any) -> Any:
    """Follows the keywords that hold schemas, so that an argument named `title` stays and a default stays whole."""
    if not isinstance(schema, dict):
        return schema
    return {keyword: _kept(keyword, value) for keyword, value in schema.items() if keyword not in _WORDING}


def _kept(keyword: str, value: Any) -> Any:
    if keyword in _OF_NAMES and isinstance(value, dict):
        return {name: _without_wording(inner) for name, inner in value.items()}
    if keyword in _OF_SCHEMAS and isinstance(value, list):
        return [_without_wording(inner) for inner in value]
    if keyword in _A_SCHEMA:
        return _without_wording(value)
    return value


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two definitions differ. `str()` of it is one line that is safe to show on a terminal."""

    path: str
    """Members from the definition down, joined by dots."""
    old: str | None
    """The value as ASCII JSON, shortened; None where it was absent."""
    new: str | None

    def __str__(self) -> str:
        if self.old is None:
            return f"+ {self.path}: {self.new}"
        if self.new is None:
            return f"- {self.path}: {self.old}"
        return f"~ {self.path}: {self.old} -> {self.new}"


def differences(old: Definition, new: Definition) -> tuple[Difference, ...]:
    """Every place where the pinned parts of two definitions differ, in the order of the members' names."""
    pinned_old, pinned_new = ({name: item[name] for name in PINNED if name in item} for item in (old, new))
    return tuple(_differences((), pinned_old, pinned_new))


def _differences(path: tuple[str, ...], old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({**old, **new}):
            yield from _member((*path, name), name, old, new)
    elif canonical(old) != canonical(new):
        yield Difference(_dotted(path), *_side_by_side(old, new))


def _member(path: tuple[str, ...], name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    if name not in old:
        yield Difference(_dotted(path), None, _show(new[name]))
    elif name not in new:
        yield Difference(_dotted(path), _show(old[name]), None)
    else:
        yield from _differences(path, old[name], new[name])


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(name if name.isascii() and name.isidentifier() else _show(name) for name in path)


def _side_by_side(old: Any, new: Any) -> tuple[str, str]:
    """Both values; of two long texts, from a little before the place where they part."""
    if isinstance(old, str) and isinstance(new, str):
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
        skip = max(0, same - 20) if max(len(old), len(new)) > SHOWN else 0
        return _show(old[skip:], "..." * bool(skip)), _show(new[skip:], "..." * bool(skip))
    return _show(old), _show(new)


def _show(value: Any, before: str = "") -> str:
    """ASCII JSON, so that what is invisible or turns text around shows as an escape."""
    text = before + json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
