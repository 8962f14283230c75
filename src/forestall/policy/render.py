"""An expression of Cedar's JSON form as the text that a person would have written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INFIX = {"||": 1, "&&": 2, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3, "+": 4, "-": 4, "*": 5}
_TIGHT = 9
_RESERVED = frozenset({"true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"})
_CONSTRUCTORS = frozenset({"ip", "decimal", "datetime", "duration"})


def render(expression: Any) -> str:
    return _write(expression)[0]


def _write(expression: Mapping[str, Any]) -> tuple[str, int]:
    """The text, and how tightly its outermost operator binds."""
    ((name, operand),) = expression.items()
    if name in _INFIX:
        rank = _INFIX[name]
        return f"{_within(operand['left'], rank)} {name} {_within(operand['right'], rank + 1)}", rank
    if name in ("has", "like", "is"):
        return f"{_within(operand['left'], 4)} {name} {_right(name, operand)}", 3
    if name in ("!", "neg"):
        return f"{'!' if name == '!' else '-'}{_within(operand['arg'], 6)}", 6
    if name == "if-then-else":
        return f"if {render(operand['if'])} then {render(operand['then'])} else {render(operand['else'])}", 0
    return _primary(name, operand), _TIGHT


def _within(expression: Any, rank: int) -> str:
    text, own = _write(expression)
    return text if own >= rank else f"({text})"


def _right(name: str, operand: Mapping[str, Any]) -> str:
    if name == "has":
        attribute = operand["attr"]
        return attribute if _plain(attribute) else json.dumps(attribute, ensure_ascii=False)
    if name == "is":
        inside = f" in {_within(operand['in'], 4)}" if operand.get("in") else ""
        return f"{operand['entity_type']}{inside}"
    return _pattern(operand["pattern"])


def _pattern(parts: Sequence[Any]) -> str:
    literals = ("*" if part == "Wildcard" else part["Literal"].replace("*", "\\*") for part in parts)
    return f'"{"".join(literals)}"'


def _primary(name: str, operand: Any) -> str:
    if name == "Var":
        return str(operand)
    if name == "Value":
        return _value(operand)
    if name == ".":
        attribute = operand["attr"]
        access = f".{attribute}" if _plain(attribute) else f"[{json.dumps(attribute, ensure_ascii=False)}]"
        return _within(operand["left"], _TIGHT) + access
    if name == "Set":
        return f"[{', '.join(map(render, operand))}]"
    if name == "Record":
        members = (f"{json.dumps(key, ensure_ascii=False)}: {render(value)}" for key, value in operand.items())
        return f"{{{', '.join(members)}}}"
    if isinstance(operand, Mapping):
        return f"{_within(operand.get('left', operand.get('arg')), _TIGHT)}.{name}({_argument(operand)})"
    if name in _CONSTRUCTORS:
        return f"{name}({', '.join(map(render, operand))})"
    return f"{_within(operand[0], _TIGHT)}.{name}({', '.join(map(render, operand[1:]))})"


def _plain(attribute: str) -> bool:
    return _NAME.fullmatch(attribute) is not None and attribute not in _RESERVED


def _argument(operand: Mapping[str, Any]) -> str:
    return render(operand["right"]) if "right" in operand else ""


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and "__entity" in value:
        entity = value["__entity"]
        return f"{entity['type']}::{json.dumps(entity['id'], ensure_ascii=False)}"
    return json.dumps(value, ensure_ascii=False)
