"""Where a credential is put so that the tool has it and the model does not: a template, filled in when it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

from forestall.core.errors import InvalidInput

_PART = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]{0,63})(\|url)?\}|[{}]")


class Where(StrEnum):
    HEADER = "header"  # of each message to a remote server, or of an HTTP call
    ARGUMENT = "argument"  # of the tool; the model neither sees it nor may give it
    ENVIRONMENT = "environment"  # of the server's process, from its start
    DESCRIPTOR = "descriptor"  # a pipe that the server inherits; its number is in the environment variable of the name
    COMMAND = "command"  # a word of the server's command line: every user of the machine can read it


AT_START = frozenset({Where.ENVIRONMENT, Where.DESCRIPTOR, Where.COMMAND})
"""Only a credential of a task can be there: the server has it from its start."""


@dataclass(frozen=True, slots=True)
class Place:
    where: Where
    name: str
    """Of the header, the argument or the variable; of a command line, the word that is replaced."""
    template: str
    """Text with `{field}` for what the backend gave out, `{field|url}` percent-encoded; `{{` and `}}` are braces."""

    @property
    def at_start(self) -> bool:
        return self.where in AT_START


@dataclass(frozen=True, slots=True)
class Placed:
    """A credential, ready to be put where it belongs."""

    where: Where
    name: str
    value: str = field(repr=False)


def fields_of(template: str) -> frozenset[str]:
    """What a template needs. Raises InvalidInput where it is not one."""
    found = set()
    for part in _PART.finditer(template):
        if part[0] in "{}":
            raise InvalidInput("A brace stands alone; write `{{` or `}}` for one that is meant, `{name}` for a field.")
        if part[1]:
            found.add(part[1])
    return frozenset(found)


def fill(place: Place, fields: Mapping[str, str]) -> Placed:
    """Raises InvalidInput where the template names what is not there; the message holds no value."""

    def value(part: re.Match[str]) -> str:
        if not part[1]:
            return part[0][0]
        found = fields.get(part[1])
        if found is None:
            raise InvalidInput(f"The credential has no `{part[1]}`; it has {', '.join(sorted(fields)) or 'nothing'}.")
        return quote(found, safe="") if part[2] else found

    fields_of(place.template)
    return Placed(place.where, place.name, _PART.sub(value, place.template))
