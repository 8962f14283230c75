"""Reading Cedar's JSON form of a policy (EST): what it looks at, and how large its numbers can get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from forestall.core.canonical import MAX_SAFE_INTEGER

Path = tuple[str, ...]

APPROVAL = "approval"

LEAVES = frozenset({"Value", "Var"})
"""Operators whose operand is no expression."""

LEFT_ALONE = frozenset({".", "has", "like"})
"""Operators of whose operands the left alone is an expression."""

_LONG = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Use:
    """One place where an expression reads an attribute of a variable."""

    variable: str
    path: Path
    tested: bool
    """By `has`, so that the validator takes any name."""


def bodies(tree: Mapping[str, Any]) -> Iterator[Any]:
    for condition in tree["conditions"]:
        yield condition["body"]


def nodes(expression: Any) -> Iterator[tuple[str, Any]]:
    """Every operator of an expression with its operand, outermost first."""
    waiting = [expression]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting.extend(reversed(here))
        elif isinstance(here, dict):
            for name, operand in here.items():
                yield name, operand
                waiting += operands(name, operand)


def operands(name: str, operand: Any) -> list[Any]:
    """The expressions within an operator's operand. The names of a record are not operators, nor is a literal's
    form.
    """
    if name in LEAVES:
        return []
    if name in LEFT_ALONE:
        return [operand["left"]]
    return list(operand.values()) if isinstance(operand, dict) else [operand]


def uses(expression: Any) -> Iterator[Use]:
    """Attributes of variables that are read or tested, every prefix of a path included."""
    for name, operand in nodes(expression):
        if name in (".", "has") and (rooted := attribute(operand["left"])) is not None:
            variable, path = rooted
            yield Use(variable, (*path, operand["attr"]), name == "has")


def entities(tree: Mapping[str, Any], kind: str) -> frozenset[str]:
    """The ids of this type that a policy names, in its scope and in its conditions."""
    scope = (tree[part].get("entity") for part in ("principal", "resource"))
    literals = (operand for body in bodies(tree) for name, operand in nodes(body) if name == "Value")
    written = (one["__entity"] for one in literals if isinstance(one, Mapping) and "__entity" in one)
    return frozenset(one["id"] for one in (*scope, *written) if one and one["type"] == kind)


def attribute(expression: Any) -> tuple[str, Path] | None:
    """`context.a.b` as ("context", ("a", "b")); None for anything else."""
    path: list[str] = []
    while isinstance(expression, Mapping) and "." in expression:
        path.append(expression["."]["attr"])
        expression = expression["."]["left"]
    if isinstance(expression, Mapping) and "Var" in expression:
        return expression["Var"], tuple(reversed(path))
    return None


def looks(tree: Mapping[str, Any]) -> frozenset[Path]:
    """The parts of the context that a policy looks at, two names deep: ("labels", "integrity"). ("args",) is all of
    `context.args`, and () the whole context.
    """
    return frozenset(path[:2] for body in bodies(tree) for path in _chains(body, "context"))


def _chains(expression: Any, variable: str) -> Iterator[Path]:
    """The longest run of attributes at every place where the variable stands."""
    waiting = [expression]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting.extend(here)
            continue
        if not isinstance(here, dict):
            continue
        for name, operand in here.items():
            rooted = _rooted(name, operand)
            if rooted is None:
                waiting += operands(name, operand)
            elif rooted[0] == variable:
                yield rooted[1]


def _rooted(name: str, operand: Any) -> tuple[str, Path] | None:
    if name == "Var":
        return operand, ()
    if name in (".", "has") and (base := attribute(operand["left"])) is not None:
        return base[0], (*base[1], operand["attr"])
    return None


def mentions_approval(looked_at: frozenset[Path]) -> bool:
    """Could an approval change what a policy that looks at this says?"""
    return any(path[:1] in ((), (APPROVAL,)) for path in looked_at)


def may_overflow(expression: Any) -> bool:
    """Can arithmetic in it leave 64 bits? Arguments and counts are at most 2^53-1 either way."""
    arithmetic = ("+", "-", "*", "neg")
    return any(_bounds({name: operand}) is None for name, operand in nodes(expression) if name in arithmetic)


def _bounds(expression: Any) -> tuple[int, int] | None:
    """The least and the greatest value of an arithmetic expression; None where it can overflow on the way."""
    ((name, operand),) = expression.items()
    if name == "Value" and isinstance(operand, int):
        return operand, operand
    if name == "neg":
        inner = _bounds(operand["arg"])
        return _in_range((-inner[1], -inner[0])) if inner else None
    if name in ("+", "-", "*"):
        left, right = _bounds(operand["left"]), _bounds(operand["right"])
        return _combine(name, left, right) if left and right else None
    if name == ".":
        return -MAX_SAFE_INTEGER, MAX_SAFE_INTEGER
    if name == "if-then-else":
        one, other = _bounds(operand["then"]), _bounds(operand["else"])
        return (min(one[0], other[0]), max(one[1], other[1])) if one and other else None
    return None


def _combine(name: str, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int] | None:
    if name == "+":
        return _in_range((left[0] + right[0], left[1] + right[1]))
    if name == "-":
        return _in_range((left[0] - right[1], left[1] - right[0]))
    products = [one * other for one in left for other in right]
    return _in_range((min(products), max(products)))


def _in_range(bounds: tuple[int, int]) -> tuple[int, int] | None:
    return bounds if bounds[0] >= -_LONG - 1 and bounds[1] <= _LONG else None


def conjuncts(expression: Any) -> list[Any]:
    """`a && b && c` as [a, b, c]."""
    if isinstance(expression, Mapping) and "&&" in expression:
        operand = expression["&&"]
        return conjuncts(operand["left"]) + conjuncts(operand["right"])
    return [expression]
