"""JSON with the place of each value, so that a file is changed where it has to be and nowhere else.

Strict: comments, trailing commas and members that occur twice are refused with their line, because a client may read
another meaning into them than we do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any, NoReturn

from forestall.core.errors import InvalidInput

MAX_DEPTH = 64

_STRINGS = JSONDecoder(strict=True)
_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands: `text[start:end]`."""

    start: int
    end: int
    value: Any
    """A scalar; None for an object or a list."""
    members: Mapping[str, Member] | None = None
    items: Sequence[Node] | None = None

    @property
    def plain(self) -> Any:
        """The value as `json.loads` gives it."""
        if self.members is not None:
            return {name: member.node.plain for name, member in self.members.items()}
        return [item.plain for item in self.items] if self.items is not None else self.value


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object: where its name stands, and its value."""

    start: int
    node: Node


def parse(text: str) -> Node:
    """The document.

    Raises:
        InvalidInput: not JSON; `LINE: sentence`.
    """
    return _Reader(text).document()


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


@dataclass(frozen=True, slots=True)
class _Reader:
    text: str

    def document(self) -> Node:
        node = self.value(self.skip(0), MAX_DEPTH)
        end = self.skip(node.end)
        if end != len(self.text):
            self.fail(end, "something follows the end of the JSON")
        return node

    def fail(self, position: int, sentence: str) -> NoReturn:
        hint = ""
        if self.text.startswith(("//", "/*"), position):
            sentence, hint = "a comment", ", which JSON does not have; remove it"
        raise InvalidInput(f"{line_of(self.text, position)}: {sentence}{hint}.")

    def skip(self, position: int) -> int:
        match = _SPACE.match(self.text, position)
        return match.end() if match else position

    def value(self, start: int, depth: int) -> Node:
        if depth <= 0:
            self.fail(start, f"nests deeper than {MAX_DEPTH} levels")
        first = self.text[start : start + 1]
        if first == "{":
            return self.object(start, depth)
        if first == "[":
            return self.list(start, depth)
        if first == '"':
            value, end = self.string(start)
            return Node(start, end, value)
        if not (match := _SCALAR.match(self.text, start)):
            self.fail(start, "not a JSON value")
        return Node(start, match.end(), json.loads(match[0]))

    def string(self, start: int) -> tuple[str, int]:
        try:
            value, end = _STRINGS.raw_decode(self.text, start)
        except JSONDecodeError as error:
            self.fail(error.pos, f"not a JSON string: {error.msg}")
        return value, end

    def object(self, start: int, depth: int) -> Node:
        members: dict[str, Member] = {}
        at = self.skip(start + 1)
        while self.text[at : at + 1] != "}":
            at = self.comma(at, "}") if members else at
            if self.text[at : at + 1] != '"':
                self.fail(at, "a member's name in double quotes, or '}', is expected here")
            name, end = self.string(at)
            if name in members:
                self.fail(at, f"the member {name!r} occurs twice; clients would take one or the other")
            colon = self.skip(end)
            if self.text[colon : colon + 1] != ":":
                self.fail(colon, "':' is expected here")
            node = self.value(self.skip(colon + 1), depth - 1)
            members[name] = Member(at, node)
            at = self.skip(node.end)
        return Node(start, at + 1, None, members)

    def list(self, start: int, depth: int) -> Node:
        items: list[Node] = []
        at = self.skip(start + 1)
        while self.text[at : at + 1] != "]":
            at = self.comma(at, "]") if items else at
            node = self.value(at, depth - 1)
            items.append(node)
            at = self.skip(node.end)
        return Node(start, at + 1, None, None, items)

    def comma(self, at: int, end: str) -> int:
        if self.text[at : at + 1] != ",":
            self.fail(at, f"',' or {end!r} is expected here")
        after = self.skip(at + 1)
        if self.text[after : after + 1] == end:
            self.fail(after, f"a comma stands before {end!r}, which JSON does not have; remove it")
        return after
