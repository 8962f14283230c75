"""What the server says its tools are: the pin of each, how old that knowledge is, and which of them the client sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import is_
from typing import Any

from forestall.core.errors import InvalidInput
from forestall.core.hide import without
from forestall.core.pin import as_doubles, definition_digest
from forestall.pep.mcp.message import encode

MAX_AGE_MS = 60_000
"""Milliseconds after which the definitions are asked for again before a call is decided."""

MAX_PAGES = 100
"""Pages of one listing; a server whose pages never end is not asked further."""

MAX_TOOLS = 4096
"""Definitions of one server, as many as the decision point takes in one frame."""

NO_PIN = ""
"""Of a tool that the server does not list, or lists twice. No permit is for it."""


class Definitions:
    """The server's tools as they were last listed. Times are milliseconds of a steady clock."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._pins: dict[str, str] = {}
        self._described: frozenset[str] = frozenset()
        self._listed_at: int | None = None
        self.generation = 0
        """Counts the times that the server, or a lost decision point, made what was known worthless."""

    def fresh(self, now: int) -> bool:
        return self._listed_at is not None and 0 <= now - self._listed_at < MAX_AGE_MS

    def changed(self) -> None:
        """What is known is not to be decided on any more."""
        self._listed_at = None
        self.generation += 1

    def replace(self, definitions: Iterable[Any], asked_at: int, generation: int) -> None:
        """The server's whole list, asked for at `asked_at`. Not fresh if it changed while it was read."""
        whole = list(definitions)
        self._pins, self._described = self._digest(whole), describing(whole)
        if generation == self.generation:
            self._listed_at = asked_at

    def learn(self, page: Iterable[Any]) -> None:
        """A part of the list, as the client was about to see it."""
        part = list(page)
        self._pins.update(self._digest(part))
        self._described |= describing(part)

    def pin(self, tool: str) -> str:
        return self._pins.get(tool, NO_PIN)

    def describes_output(self, tool: str) -> bool:
        """Does the tool say what its structured output is like?"""
        return tool in self._described

    def _digest(self, definitions: Iterable[Any]) -> dict[str, str]:
        pins: dict[str, str] = {}
        for definition in definitions:
            if name := name_of(definition):
                pins[name] = NO_PIN if name in pins else self._pin(definition)
        return pins

    def _pin(self, definition: Mapping[str, Any]) -> str:
        try:
            return definition_digest(self._server, definition)
        except InvalidInput:
            return NO_PIN


def describing(definitions: Iterable[Any]) -> frozenset[str]:
    """Names of those that say what their structured output is like."""
    return frozenset(name for one in definitions if (name := name_of(one)) and one.get("outputSchema") is not None)


def name_of(definition: Any) -> str:
    """The tool's name; empty where it has none."""
    name = definition.get("name") if isinstance(definition, dict) else None
    return name if isinstance(name, str) else ""


def require_listing(result: Mapping[str, Any]) -> list[Any]:
    """The definitions in the result of `tools/list`.

    Raises:
        InvalidInput: there are none.
    """
    tools = result.get("tools")
    if not isinstance(tools, list):
        raise InvalidInput("The server's answer to tools/list holds no list of tools.")
    if len(tools) > MAX_TOOLS:
        raise InvalidInput(f"The server lists {len(tools)} tools; {MAX_TOOLS} are looked at.")
    return tools


def well_formed(tools: Iterable[Any]) -> list[dict[str, Any]]:
    """The definitions that the decision point can look at: objects with a name."""
    return [as_doubles(tool) for tool in tools if name_of(tool)]


def filtered(
    line: bytes, answer: Mapping[str, Any], verdicts: Sequence[Any], definitions: Definitions, *, modern: bool
) -> bytes:
    """The answer to `tools/list` without the tools, and the arguments, that are not shown; as it came, if all are.

    `verdicts` is in the order of `well_formed`. Not shown is also what has no name, no pin, or no verdict of its own.
    """
    result = answer["result"]
    remaining = iter(verdicts)
    shown = [
        _as_shown(tool, verdict)
        for tool in result["tools"]
        if (name := name_of(tool))
        and _shows(verdict := next(remaining, None), name)
        and definitions.pin(name) != NO_PIN
    ]
    if len(shown) == len(result["tools"]) and all(map(is_, shown, result["tools"])):
        return line
    result = {**result, "tools": shown}
    if modern:
        result["cacheScope"] = "private"
    return encode({**answer, "result": result})


def _shows(verdict: Any, name: str) -> bool:
    return isinstance(verdict, dict) and verdict.get("show") is True and verdict.get("name") == name


def _as_shown(tool: Mapping[str, Any], verdict: Any) -> Mapping[str, Any]:
    """The definition as the client may know it: the same object where nothing of it is hidden."""
    hidden, schema = verdict.get("hide"), tool.get("inputSchema")
    if not isinstance(hidden, list) or not isinstance(schema, dict):
        return tool
    return {**tool, "inputSchema": without(schema, hidden)}
