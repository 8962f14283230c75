"""What one slice asks Cedar about a call: a flat context that holds what its policies look at, and nothing else.

Turning JSON into Cedar values is most of what a decision costs, nested records most of that, and an answer can be
remembered only for what is asked again. So a slice has a vocabulary of its own, one attribute for each of

- a value that is read: `context.task.depth`;
- a mark, whether something is there: `context.paths has path`;
- a test of a text against what the policy spells out: `== "a"`, `like "work/*"`, `["a", "b"].contains(...)`. The answer
  is sent, not the text: two calls that no policy can tell apart are then one question.

Policies are rewritten to it when the slice is cut, and nobody sees that: what is written, explained, digested and
signed is the policy as its owner wrote it. The rewritten policy says what the first one did, errors included: a read
or a test of what is missing fails, and so does `has` below a record that is missing. What cannot be laid flat, because
it is used as a whole or not as what the schema says it is, is sent as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from forestall.core.wildcard import matches
from forestall.policy.expression import LEAVES, LEFT_ALONE, Path, attribute, bodies, operands
from forestall.policy.shape import BOOL, STRING, Type

_CONTEXT = "context"


class _Plain(Enum):
    VALUE = "value"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class Like:
    """A text against a pattern; equality is a pattern without a wildcard."""

    parts: tuple[str, ...]
    """What stands between the wildcards."""

    def holds(self, text: str) -> bool:
        return matches(self.parts, text)


@dataclass(frozen=True, slots=True)
class Among:
    """A text against several."""

    texts: tuple[str, ...]

    def holds(self, text: str) -> bool:
        return text in self.texts


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that a policy wants to know of the context."""

    path: Path
    what: _Plain | Like | Among

    @property
    def order(self) -> tuple[Any, ...]:
        """The same in every process, so that a slice's digest is."""
        match self.what:
            case Like(parts):
                return self.path, "like", parts
            case Among(texts):
                return self.path, "among", texts
            case plain:
                return self.path, plain.value


@dataclass(frozen=True, slots=True)
class Attribute:
    """What is sent for one look."""

    key: str
    rest: Path
    """The way from the member of the context that it is part of."""
    what: _Plain | Like | Among
    type: Type


@dataclass(frozen=True, slots=True)
class Flat:
    """The vocabulary of some policies over one tool's context."""

    members: Mapping[str, tuple[Attribute, ...]]
    """By member of the whole context: what is sent of it."""
    _keys: Mapping[Look, str]

    @property
    def types(self) -> dict[str, Type]:
        """For the schema: the type of each attribute."""
        return {one.key: one.type for attributes in self.members.values() for one in attributes}

    def context(self, value_of: Callable[[str], Any]) -> dict[str, Any]:
        """What is sent. `value_of` a member of the whole context: its Cedar value, None where it has none."""
        found: dict[str, Any] = {}
        for member, attributes in self.members.items():
            value = value_of(member)
            if value is not None:
                _send(value, attributes, found)
        return found

    def values(self, member: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """What is sent of one member, such as {"granted": True} of `approval`."""
        found: dict[str, Any] = {}
        _send(dict(value), self.members.get(member, ()), found)
        return found

    def rewrite(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The policy in this vocabulary. Its scope stays as it is."""
        conditions = [{**condition, "body": self._rewrite(condition["body"])} for condition in tree["conditions"]]
        return {**tree, "conditions": conditions}

    def _rewrite(self, here: Any) -> Any:
        if isinstance(here, list):
            return [self._rewrite(one) for one in here]
        if not isinstance(here, dict):
            return here
        look = _look(here)
        if look is not None and look in self._keys:
            return self._replaced(look, here)
        return {name: self._operand(name, operand) for name, operand in here.items()}

    def _operand(self, name: str, operand: Any) -> Any:
        if name in LEAVES:
            return operand
        if name in LEFT_ALONE:
            return {**operand, "left": self._rewrite(operand["left"])}
        if isinstance(operand, dict):
            return {part: self._rewrite(inner) for part, inner in operand.items()}
        return self._rewrite(operand)

    def _replaced(self, look: Look, here: Mapping[str, Any]) -> dict[str, Any]:
        key = self._keys[look]
        if look.what is not _Plain.MARK:
            read = _read(key)
            return {"!": {"arg": read}} if "!=" in here else read
        there = {"has": {"left": {"Var": _CONTEXT}, "attr": key}}
        above = self._keys.get(Look(look.path[:-1], _Plain.MARK))
        return there if above is None else {"&&": {"left": _read(above), "right": there}}


def lay(trees: Iterable[Mapping[str, Any]], context: Mapping[str, Type]) -> Flat:
    """The vocabulary of these policies. `context`: the type of each member of the tool's whole context."""
    looks = {look for tree in trees for body in bodies(tree) for look in _looks(body)}
    whole = {"type": "Record", "attributes": dict(context)}
    upright = {look.path[0] for look in looks if look.path and not _fits(look, whole)}
    if any(not look.path for look in looks):
        upright = set(context)
    laid = {look for look in looks if look.path and look.path[0] not in upright}
    laid |= {above for look in laid if (above := _above(look, whole)) is not None}
    keys = {Look((name,), _Plain.VALUE): name for name in upright}
    keys |= {look: str(number) for number, look in enumerate(sorted(laid, key=lambda look: look.order))}
    members: dict[str, tuple[Attribute, ...]] = {}
    for look, key in keys.items():
        sent = _attribute(look, key, whole)
        if sent is not None:
            members[look.path[0]] = (*members.get(look.path[0], ()), sent)
    return Flat(members, keys | {Look((name,), _Plain.MARK): name for name in upright})


def _attribute(look: Look, key: str, whole: Type) -> Attribute | None:
    """None for what the schema does not have: it is never sent, and reading it fails as it did."""
    kind, required = _kind(look.path, whole)
    if kind is None:
        return None
    bare = {name: value for name, value in kind.items() if name != "required"} if look.what is _Plain.VALUE else BOOL
    return Attribute(key, look.path[1:], look.what, bare if required else {**bare, "required": False})


def _kind(path: Path, whole: Type) -> tuple[Type | None, bool]:
    """The type at a path, and whether every context has it."""
    here, required = whole, True
    for name in path:
        inner = here["attributes"].get(name) if here["type"] == "Record" else None
        if inner is None:
            return None, False
        here, required = inner, required and inner.get("required", True)
    return here, required


def _fits(look: Look, whole: Type) -> bool:
    """Is every step above it a record, and is it no record that is read, and a text that is tested?"""
    for length in range(1, len(look.path)):
        kind, _ = _kind(look.path[:length], whole)
        if kind is not None and kind["type"] != "Record":
            return False
    kind, _ = _kind(look.path, whole)
    if kind is None or look.what is _Plain.MARK:
        return True
    name: str = kind["type"]
    return name != "Record" if look.what is _Plain.VALUE else name == STRING["type"]


def _above(look: Look, whole: Type) -> Look | None:
    """For a test whether something is there: the record above it, where a context may lack that."""
    if look.what is not _Plain.MARK or len(look.path) < 2 or _kind(look.path[:-1], whole)[1]:
        return None
    return Look(look.path[:-1], _Plain.MARK)


def _looks(body: Any) -> Iterator[Look]:
    """Everything that an expression looks at, each at the highest place where it is understood."""
    waiting = [body]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting.extend(here)
        elif isinstance(here, dict):
            look = _look(here)
            if look is not None:
                yield look
            else:
                waiting += [inner for name, operand in here.items() for inner in operands(name, operand)]


def _look(here: Mapping[str, Any]) -> Look | None:
    """What a single expression looks at, if that is all it does. The path () is the context itself."""
    if len(here) != 1:
        return None
    ((name, operand),) = here.items()
    match name:
        case "Var" | ".":
            path = _path(here)
            return None if path is None else Look(path, _Plain.VALUE)
        case "has":
            path = _path(operand["left"])
            return None if path is None else Look((*path, operand["attr"]), _Plain.MARK)
        case "like":
            path = _path(operand["left"])
            return Look(path, Like(_parts(operand["pattern"]))) if path else None
        case "==" | "!=":
            return _compared(operand["left"], operand["right"]) or _compared(operand["right"], operand["left"])
        case "contains":
            path, texts = _path(operand["right"]), _texts(operand["left"])
            return Look(path, Among(texts)) if path and texts is not None else None
    return None


def _compared(read: Any, literal: Any) -> Look | None:
    path, text = _path(read), _text(literal)
    return Look(path, Like((text,))) if path and text is not None else None


def _path(expression: Any) -> Path | None:
    rooted = attribute(expression)
    return rooted[1] if rooted is not None and rooted[0] == _CONTEXT else None


def _text(expression: Any) -> str | None:
    value = expression.get("Value") if isinstance(expression, dict) and len(expression) == 1 else None
    return value if isinstance(value, str) else None


def _texts(expression: Any) -> tuple[str, ...] | None:
    elements = expression.get("Set") if isinstance(expression, dict) and len(expression) == 1 else None
    if not isinstance(elements, list):
        return None
    texts = [_text(one) for one in elements]
    return None if None in texts else tuple(sorted({text for text in texts if text is not None}))


def _parts(pattern: list[Any]) -> tuple[str, ...]:
    """Of Cedar's pattern, which spells out one character at a time."""
    parts = [""]
    for piece in pattern:
        if piece == "Wildcard":
            parts.append("")
        else:
            parts[-1] += piece["Literal"]
    return tuple(parts)


def _read(key: str) -> dict[str, Any]:
    return {".": {"left": {"Var": _CONTEXT}, "attr": key}}


def _send(value: Any, attributes: tuple[Attribute, ...], found: dict[str, Any]) -> None:
    for one in attributes:
        here = value
        for name in one.rest:
            if name not in here:
                break
            here = here[name]
        else:
            if one.what is _Plain.VALUE:
                found[one.key] = here
            else:
                found[one.key] = True if one.what is _Plain.MARK else _tested(one.what, here)


def _tested(test: Like | Among, text: str) -> bool:
    """Raises UnicodeEncodeError for half of a surrogate pair: Cedar, which is not asked here, has no value for it."""
    if not text.isascii():
        text.encode()
    return test.holds(text)
