"""Which of a server's tools a client may see, and which may be called at all.

A tool whose definition is not the reviewed one is quarantined: hidden, and denied whatever pin a later call names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from forestall.catalogue.change import Change, classify_change
from forestall.core.errors import InvalidInput
from forestall.core.model import Tool
from forestall.core.pin import definition_digest
from forestall.core.reason import Reason
from forestall.port import Catalogue, Engine

MAX_NAME = 256
"""Characters of a tool's name. Longer ones are unknown, whatever they say."""


class Reviewed(Catalogue, Protocol):
    """A catalogue that kept what was reviewed."""

    def definition(self, tool: str) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one definition of a server's list."""

    name: str
    show: bool
    pin: str
    reason: Reason | None = None
    change: Change | None = None
    reviewed: str = ""
    """The pin that the catalogue has."""
    hide: tuple[str, ...] = ()
    """Arguments that the client does not see: a credential fills them in."""

    def frame(self) -> dict[str, Any]:
        frame: dict[str, Any] = {"name": self.name, "show": self.show, "pin": self.pin}
        if self.reason is not None:
            frame["reason"] = self.reason.value
        if self.change is not None:
            frame["change"] = self.change
        if self.hide:
            frame["hide"] = list(self.hide)
        return frame


@dataclass(slots=True)
class Quarantine:
    """Tools of one connection that changed: by id, the reviewed pin that they did not match.

    A reload that brings another reviewed pin lifts it, because a person has looked again; the server's own return to
    the old definition does not.
    """

    tools: dict[str, str] = field(default_factory=dict)

    def holds(self, tool: Tool) -> bool:
        return self.tools.get(tool.id) == tool.pin

    def add(self, tool: str, reviewed: str) -> bool:
        """Was it not there before?"""
        fresh = self.tools.get(tool) != reviewed
        self.tools[tool] = reviewed
        return fresh


def judge(definitions: Sequence[Any], server: str, catalogue: Reviewed, engine: Engine) -> list[Verdict]:
    """One verdict for each definition, in their order. Names that occur twice in the list are all duplicates."""
    names = [_name(definition) for definition in definitions]
    count = Counter(names)
    return [
        _judge(definition, name, server, catalogue, engine, twice=count[name] > 1)
        for definition, name in zip(definitions, names, strict=True)
    ]


def _judge(definition: Any, name: str, server: str, catalogue: Reviewed, engine: Engine, *, twice: bool) -> Verdict:
    pin = _pin(server, definition)
    if not name or not pin:
        return Verdict(name, show=False, pin=pin, reason=Reason.UNKNOWN_TOOL)
    tool = catalogue.find(f"{server}/{name}")
    if tool is None:
        return Verdict(name, show=False, pin=pin, reason=Reason.UNKNOWN_TOOL)
    if tool.pin != pin:
        change = _change(catalogue.definition(tool.id), definition)
        return Verdict(name, show=False, pin=pin, reason=Reason.TOOL_CHANGED, change=change, reviewed=tool.pin)
    if twice or tool.id in catalogue.duplicates():
        return Verdict(name, show=False, pin=pin, reason=Reason.DUPLICATE_TOOL)
    if not engine.could_permit(tool):
        return Verdict(name, show=False, pin=pin, reason=Reason.NO_POLICY)
    return Verdict(name, show=True, pin=pin, hide=tuple(sorted(tool.hidden)))


def _name(definition: Any) -> str:
    name = definition.get("name") if isinstance(definition, dict) else None
    return name if isinstance(name, str) and len(name) <= MAX_NAME else ""


def _pin(server: str, definition: Any) -> str:
    """Empty where the definition has no digest, and so can never match a reviewed one."""
    if not isinstance(definition, dict):
        return ""
    try:
        return definition_digest(server, definition)
    except InvalidInput:
        return ""


def _change(reviewed: Mapping[str, Any] | None, seen: Mapping[str, Any]) -> Literal["cosmetic", "authority"]:
    """What cannot be told counts as a change of authority."""
    if reviewed is None:
        return "authority"
    try:
        return classify_change(reviewed, seen)
    except (InvalidInput, TypeError, ValueError, RecursionError):
        return "authority"
