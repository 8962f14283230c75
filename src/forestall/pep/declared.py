"""What a decorator says of its tool: the same facts as a catalogue's file, declared in code by its author."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from forestall.catalogue.statement import Statement, argument_names
from forestall.core.effects import Confidence, Effect
from forestall.core.errors import SetupError
from forestall.core.label import WORST, Confidentiality, Integrity, Label

E = TypeVar("E", bound=StrEnum)


def declared(
    effects: Collection[str],
    control: Collection[str],
    content: Collection[str],
    opaque: Collection[str],
    output: tuple[str, str] | None,
    *,
    reversible: bool,
) -> Statement:
    """What was said is declared; what was not said stays assumed, and so at its worst.

    Raises:
        SetupError: a word is not known.
    """
    said = {
        "effects": bool(effects),
        "arguments": bool(control or content),
        "output": output is not None,
        "reversible": reversible,
    }
    return Statement(
        effects=frozenset(_word(Effect, effect, "an effect") for effect in _names(effects)),
        control=_names(control),
        content=_names(content),
        output=_label(output),
        origin=MappingProxyType({fact: Confidence.DECLARED for fact, given in said.items() if given}),
        reversible=reversible,
        opaque=_names(opaque),
    )


def require_fit(said: Statement, definition: dict[str, Any]) -> None:
    """Every argument that is spoken of has to exist.

    Raises:
        SetupError: one does not, or is said to be both control and content.
    """
    name, known = definition["name"], argument_names(definition)
    for stray in sorted({*said.control, *said.content, *said.opaque} - known):
        raise SetupError(f"{name} has no argument {stray!r}; it has {', '.join(sorted(known)) or 'none'}.")
    for both in sorted(set(said.control) & set(said.content)):
        raise SetupError(
            f"Argument {both!r} of {name} is in both `control` and `content`; `control` is the safe choice."
        )


def _names(given: Collection[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _label(output: tuple[str, str] | None) -> Label:
    if output is None:
        return WORST
    if isinstance(output, str) or len(output) != 2:
        raise SetupError('`output` is a pair: its integrity and its confidentiality, such as ("trusted", "internal").')
    integrity, confidentiality = output
    return Label(
        _word(Integrity, integrity, "an integrity"), _word(Confidentiality, confidentiality, "a confidentiality")
    )


def _word(kind: type[E], word: object, what: str) -> E:
    try:
        return kind(word)  # type: ignore[arg-type]  # anything but a known word is the error below
    except ValueError:
        known = ", ".join(item.value for item in kind)
        raise SetupError(f"{word!r} is not {what}; it is one of {known}.") from None
