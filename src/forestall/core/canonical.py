"""JSON that two readers cannot read differently, and its one canonical form (RFC 8785, JCS).

What is decided, digested, recorded and forwarded is always the value that `parse` returned. Refused, because some
reader would see another value: duplicate members, members equal but for case (where asked), NaN and infinities,
numbers that a double cannot hold exactly, lone surrogates, and nesting deeper than a parser may survive.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from forestall.core.compact import encoder
from forestall.core.errors import InvalidInput

MAX_DEPTH = 64
"""Levels of nesting. Deeper than any tool's arguments seen in the wild; shallower than any parser's limit."""

MAX_SAFE_INTEGER = 2**53 - 1
"""RFC 8785 section 3.2.2.3: a larger integer is read as another number by half the world."""

_SPACE = " \t\n\r"
"""RFC 8259 section 2. Python's own notion of white space is wider."""

_PLAIN = encoder(sort_keys=True)


def parse(
    data: bytes | str, *, max_bytes: int, max_depth: int = MAX_DEPTH, fold_case: bool = False, exact: bool = True
) -> Any:
    """The one value that `data` holds. With `fold_case`, members equal but for case are refused too.

    Without `exact`, integers beyond 2^53-1 are let through: for what is carried on as it came, and decided by nobody.

    Raises:
        InvalidInput: too large, too deep, not JSON, or not the same value to every reader.
    """
    if len(data) > max_bytes:
        raise InvalidInput(f"The message is {len(data)} bytes; the limit is {max_bytes}.")
    try:
        text = (data.decode() if isinstance(data, bytes) else data).strip(_SPACE)
        value, end = _DECODERS[fold_case, exact].raw_decode(text)
    except RecursionError:
        raise InvalidInput(f"The message nests deeper than {max_depth} levels.") from None
    except UnicodeDecodeError:
        raise InvalidInput("The message is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"The message is not JSON: {error.msg} at character {error.pos}.") from None
    if end < len(text):
        raise InvalidInput(f"The message is not JSON: it goes on after its end, at character {end}.")
    escapes = "\\u" in text or isinstance(data, str)
    if escapes or text.count("{") + text.count("[") > max_depth:  # else too few open for them to nest too deep
        _check(value, max_depth, escapes)
    return value


def canonical(value: Any) -> bytes:
    """The RFC 8785 form of a value.

    Raises:
        InvalidInput: the value has no canonical form (NaN, an unsafe integer, a lone surrogate, not JSON).
    """
    try:
        return (_PLAIN if _is_plain(value) else _write)(value).encode()
    except RecursionError:
        raise InvalidInput("A value nests too deep, or holds itself.") from None
    except UnicodeEncodeError:
        raise InvalidInput("A string holds half of a surrogate pair, which has no UTF-8 form.") from None


def canonical_plain(value: Any) -> bytes:
    """As `canonical`, for a value that this program made: without floats, with ASCII names and safe integers alone.

    Raises:
        InvalidInput: a string in it holds a lone surrogate.
    """
    try:
        return _PLAIN(value).encode()
    except UnicodeEncodeError:
        raise InvalidInput("A string holds half of a surrogate pair, which has no UTF-8 form.") from None


def digest(value: Any) -> str:
    """`sha256:` and the hex digest of the canonical form."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidInput("A member occurs twice in one object.")
    return members


def _members_fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = _members(pairs)
    if len({name.casefold() for name in members}) != len(members):
        raise InvalidInput("Two members of one object differ only in case.")
    return members


def _refuse_constant(name: str) -> None:
    raise InvalidInput(f"{name} is not a JSON number.")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > MAX_SAFE_INTEGER:
        raise InvalidInput("An integer is beyond 2^53-1; send it as a string.")
    return number


def _any_integer(text: str) -> int | float:
    return int(text) if len(text) <= 40 else _number(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidInput("A number is too large for a double; send it as a string.")
    return number


_DECODERS = {
    (fold_case, exact): json.JSONDecoder(
        object_pairs_hook=_members_fold if fold_case else _members,
        parse_constant=_refuse_constant,
        parse_int=_integer if exact else _any_integer,
        parse_float=_number,
    )
    for fold_case in (False, True)
    for exact in (False, True)
}
"""Made once: making one costs as much as reading a small message."""


def _check(value: Any, depth: int, escapes: bool) -> None:
    """Refuse what nests too deep, and, where the text could hold them, lone surrogates."""
    if escapes and type(value) is str:
        _require_whole(value)
    if type(value) is not dict and type(value) is not list:
        return
    if depth <= 0:
        raise InvalidInput("The message nests too deep.")
    if type(value) is dict and escapes:
        for name in value:
            _require_whole(name)
    for member in value.values() if type(value) is dict else value:
        kind = type(member)
        if kind is dict or kind is list or (escapes and kind is str):
            _check(member, depth - 1, escapes)


def _require_whole(text: str) -> None:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidInput("A string holds half of a surrogate pair.")


_SCALARS = frozenset({str, bool, type(None)})


def _is_plain(value: Any) -> bool:
    """Does `json.dumps` write the canonical form? Not for floats, nor for names outside the BMP, nor the unwritable.

    Scalars are not descended to: this looks at every value of every call, and a call of a function is what costs.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is dict:
        for name, member in value.items():
            if type(name) is not str or not (name.isascii() or max(name) <= "\ud7ff"):
                return False
            if type(member) not in _SCALARS and not _is_plain(member):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(member) in _SCALARS or _is_plain(member) for member in value)
    if issubclass(kind, str):  # a StrEnum is written as the text that it is
        return True
    return kind is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER


def _write(value: Any) -> str:
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise InvalidInput("A member's name is not a string.")
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_write(name)}:{_write(value[name])}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InvalidInput("An integer is beyond 2^53-1; send it as a string.")
        return int.__repr__(value)
    if isinstance(value, float):
        return _ecmascript(value)
    raise InvalidInput(f"{type(value).__name__} is not a JSON type.")


def _ecmascript(number: float) -> str:
    """ECMA-262 Number::toString: the shortest digits, as Python finds them, in JavaScript's layout."""
    if not math.isfinite(number):
        raise InvalidInput("NaN and infinities are not JSON numbers.")
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = f"{abs(float(number))!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"
