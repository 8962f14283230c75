"""JSON with one meaning, and its one canonical form (RFC 8785): from the standard, and no code of Forestall's.

Refused, because two readers would see two values: duplicate members, NaN and infinities, integers beyond 2^53-1, halves
of surrogate pairs, and nesting that some parser does not survive.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 64
"""Levels of nesting; as many as Forestall decides on."""

MAX_SAFE = 2**53 - 1
"""RFC 8785, 3.2.2.3."""


class NotJson(ValueError):
    """Not one value to every reader. The message holds nothing of it."""


def parse(data: bytes, *, max_bytes: int) -> Any:
    """The one value that `data` holds. Raises NotJson."""
    if len(data) > max_bytes:
        raise NotJson(f"more than {max_bytes} bytes")
    try:
        text = data.decode().strip(" \t\n\r")
        value, end = _DECODER.raw_decode(text)
    except NotJson:
        raise
    except (ValueError, RecursionError):
        raise NotJson("not JSON") from None
    if end != len(text):
        raise NotJson("more than one value")
    return value


def canonical(value: Any) -> bytes:
    """The RFC 8785 form. Raises NotJson: there is none, or it nests too deep."""
    try:
        return _text(value, MAX_DEPTH + 1).encode()
    except UnicodeEncodeError:
        raise NotJson("half of a surrogate pair") from None


def digest(value: Any) -> str:
    """`sha256:` and the hex digest of the canonical form. Raises NotJson."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotJson("a member occurs twice")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise NotJson("a number that is none")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > MAX_SAFE:
        raise NotJson("an integer beyond 2^53-1")
    return number


def _double(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotJson("a number beyond a double")
    return number


_string = json.JSONEncoder(ensure_ascii=False).encode
"""Of a string: RFC 8785, 3.2.2.2."""

_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_no_constant, parse_int=_integer, parse_float=_double
)


def _text(value: Any, depth: int) -> str:
    if depth <= 0:
        raise NotJson("it nests too deep")
    if isinstance(value, str):
        return _string(value)
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        if abs(value) > MAX_SAFE:
            raise NotJson("an integer beyond 2^53-1")
        return int.__repr__(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        names = sorted(value, key=_utf16)
        return "{" + ",".join(f"{_string(name)}:{_text(value[name], depth - 1)}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(member, depth - 1) for member in value) + "]"
    raise NotJson("not a JSON type")


def _utf16(name: object) -> bytes:
    """RFC 8785, 3.2.3: names are sorted by their UTF-16 code units. Raises NotJson: it is no name."""
    if not isinstance(name, str):
        raise NotJson("a member's name is not a string")
    return name.encode("utf-16-be", "surrogatepass")


def _number(value: float) -> str:
    """ECMA-262, Number::toString, with the digits that Python finds shortest."""
    if not math.isfinite(value):
        raise NotJson("a number that is none")
    if value == 0:
        return "0"
    sign, digits, exponent = _digits(value)
    if 0 < exponent <= 21:
        if len(digits) <= exponent:
            return sign + digits.ljust(exponent, "0")
        return f"{sign}{digits[:exponent]}.{digits[exponent:]}"
    if -6 < exponent <= 0:
        return f"{sign}0.{'0' * -exponent}{digits}"
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{sign}{mantissa}e{exponent - 1:+d}"


def _digits(value: float) -> tuple[str, str, int]:
    """Sign, digits and n of ECMA-262: the value is 0.DIGITS times ten to the n."""
    text = repr(abs(value))
    mantissa, _, power = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    exponent = len(whole) + int(power or 0)
    stripped = digits.lstrip("0")
    exponent -= len(digits) - len(stripped)
    return ("-" if value < 0 else ""), stripped.rstrip("0"), exponent
