"""Mandates: reviewed templates for tasks, one TOML file each (docs/settings.md). An unknown key is an error.

Every error is a `SetupError` of one sentence that names the file, the line where there is one, and what to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from forestall.core.effects import Effect
from forestall.core.errors import SetupError
from forestall.core.grant import MAX_DEPTH
from forestall.core.label import Confidentiality
from forestall.core.mandate import MAX_LENGTH, is_name, places, require_pattern
from forestall.core.model import Counted, Mandate, Parameter, Resource
from forestall.core.quantity import Quantity
from forestall.core.wanted import MAX_ENTRIES
from forestall.core.wildcard import covers
from forestall.home import Home
from forestall.source import Source

DEFAULT_MANDATE = "default"

MAX_CALLS = 2**31
"""Calls or tasks of a budget."""

MAX_AMOUNT = 2**53 - 1
"""The largest whole number that every reader of JSON reads alike."""

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REQUIRED = ("purpose", "tools", "effects", "lifetime_minutes")
_OPTIONAL = ("budget", "parameters", "resources", "confidentiality", "depth")
_COUNTED: tuple[Counted, ...] = (*Effect, *Quantity)


def load_mandates(home: Home) -> dict[str, Mandate]:
    """Every mandate in `policy/mandates/*.toml`, by name; the name is the file's."""
    if not home.mandates.is_dir():
        return {}
    return {file.stem: _mandate(file) for file in sorted(home.mandates.glob("*.toml"))}


def _mandate(file: Path) -> Mandate:
    if not _FILE_NAME.fullmatch(file.stem):
        raise SetupError(f"{file}: a mandate's file is named in small letters, digits, `-` and `_`; rename it.")
    source = Source.read(file)
    source.require_known(source.table, _REQUIRED + _OPTIONAL, "key")
    for name in _REQUIRED:
        if name not in source.table:
            raise SetupError(f"{file}: `{name}` is missing; a mandate says {', '.join(_REQUIRED)}.")
    tools, parameters = source.texts("tools"), dict(_parameters(source))
    budget, per_call = _budget(source)
    depth = source.integer("depth", 0, MAX_DEPTH) if "depth" in source.table else 0
    if depth and Quantity.FAN_OUT not in budget:
        raise SetupError(f"{source.at('depth')}: `depth` wants to know how often; put `fan_out = 4` under [budget].")
    return Mandate(
        name=file.stem,
        purpose=source.text("purpose"),
        tools=tools,
        effects=frozenset(source.word(name, Effect, "effect", "effects") for name in source.texts("effects")),
        lifetime_ms=source.integer("lifetime_minutes", 1, 60 * 24 * 366) * 60_000,
        budget=budget,
        per_call=per_call,
        parameters=parameters,
        resources=tuple(_resources(source, tools, parameters)),
        ceiling=_ceiling(source),
        depth=depth,
    )


def _ceiling(source: Source) -> Confidentiality | None:
    if "confidentiality" not in source.table:
        return None
    return source.word(source.text("confidentiality"), Confidentiality, "level", "confidentiality")


# -- budgets


def _budget(source: Source) -> tuple[dict[Counted, int], dict[Quantity, int]]:
    """How much the tree of tasks may use, and how much of it one call."""
    inside = source.inside("budget", "effects, and how many calls of each.")
    budget: dict[Counted, int] = {}
    per_call: dict[Quantity, int] = {}
    for key in inside.table:
        counted = source.word(key, _COUNTED, "effect", key, "budget")
        if isinstance(counted, Effect) or counted is Quantity.FAN_OUT:
            budget[counted] = inside.integer(key, 0, MAX_CALLS, "budget")
        else:
            budget[counted], per_call[counted] = _amount(inside, key)
    return budget, per_call


def _amount(budget: Source, key: str) -> tuple[int, int]:
    """`{ total = 10_000, call = 500 }`. Without the second, a call would have to reserve all that there is."""
    value = budget.table[key]
    if not isinstance(value, dict) or set(value) != {"total", "call"}:
        at = budget.at(key, "budget")
        raise SetupError(
            f"{at}: `{key}` says how much in all and for one call: {key} = {{ total = 1000, call = 100 }}."
        )
    inside = Source(budget.file, budget.text_, value)
    total = inside.integer("total", 0, MAX_AMOUNT, f"budget.{key}")
    return total, inside.integer("call", 0, total, f"budget.{key}")


# -- parameters


def _parameters(source: Source) -> Iterator[tuple[str, Parameter]]:
    table = source.inside("parameters", "one [parameters.NAME] for each.")
    for name in table.table:
        section = f"parameters.{name}"
        if not is_name(name):
            at = source.at(section)
            raise SetupError(f"{at}: a parameter is named in small letters, digits and `_`; rename `{name}`.")
        yield name, _parameter(table.inside(name, "`pattern`, or `values`."), name, section)


def _parameter(inside: Source, name: str, section: str) -> Parameter:
    inside.require_known(inside.table, ("pattern", "values", "max_length"), "key", section)
    if ("pattern" in inside.table) == ("values" in inside.table):
        at = inside.at(section)
        raise SetupError(
            f"{at}: the parameter `{name}` has either a `pattern` or a list of `values`; write one of them."
        )
    longest = inside.integer("max_length", 1, MAX_LENGTH, section) if "max_length" in inside.table else 128
    if "pattern" in inside.table:
        return Parameter(_pattern(inside, section), max_length=longest)
    values = inside.texts("values", section)
    if not values or not all(0 < len(value) <= longest and value.isprintable() for value in values):
        at = inside.at("values", section)
        raise SetupError(f"{at}: `values` are printable texts of 1 to {longest} characters, and at least one.")
    return Parameter(values=values, max_length=longest)


def _pattern(inside: Source, section: str) -> str:
    try:
        return require_pattern(inside.text("pattern", section))
    except ValueError as error:
        raise SetupError(
            f"{inside.at('pattern', section)}: `pattern` is not of the kind that is taken; {error}."
        ) from None


# -- resources


def _resources(source: Source, tools: tuple[str, ...], parameters: Mapping[str, Parameter]) -> Iterator[Resource]:
    table = source.inside("resources", 'one [resources."server/tool"] for each tool or pattern.')
    if sum(len(bounds) for bounds in table.table.values() if isinstance(bounds, dict)) > MAX_ENTRIES:
        raise SetupError(f"{source.at('resources')}: more than {MAX_ENTRIES} resources; divide the mandate.")
    for tool in table.table:
        section = f'resources."{tool}"'
        _require_meant(source, tool, tools, section)
        bounds = table.inside(tool, "control arguments, and what their values have to be.")
        for argument in bounds.table:
            value = bounds.text(argument, section)
            _require_places(bounds, argument, value, parameters, section)
            yield Resource(tool, argument, tuple(value.split("*")))


def _require_meant(source: Source, tool: str, tools: tuple[str, ...], section: str) -> None:
    """A slip in a tool's name would bind nothing, and nobody would see it."""
    part = tool.split("*")
    if not any(covers([part], one.split("*")) or covers([one.split("*")], part) for one in tools):
        raise SetupError(f"{source.at(section)}: `{tool}` is none of this mandate's `tools`; write one of them.")


def _require_places(
    source: Source, argument: str, value: str, parameters: Mapping[str, Parameter], section: str
) -> None:
    at, known = source.at(argument, section), places(value)
    if known is None:
        raise SetupError(f"{at}: the braces in `{argument}` name no parameter; write `{{name}}`.")
    unknown = sorted(known - set(parameters))
    if unknown:
        raise SetupError(f"{at}: `{argument}` speaks of `{unknown[0]}`; write [parameters.{unknown[0]}].")
