"""Claims that every kind of token has (RFC 7519, 4.1): read in one way, each refusal with its own fault.

Times in tokens are seconds since the epoch, maybe with a fraction; everything here is whole milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.proof.fault import Fault, InvalidProof

MAX_SKEW_MS = 60_000
"""The most that two clocks may differ. A machine whose clock is further off has to be mended, not believed."""

MAX_TEXT = 2048
"""Characters of a claim that names something; a SPIFFE ID may have as many (SPIFFE ID, 2.4)."""

MAX_AUDIENCES = 32

LATEST = 253_402_300_799
"""Seconds: the end of the year 9999, beyond which no library agrees on anything."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a token counts, as it says itself. None for a claim that is not there."""

    expires_at: int | None
    issued_at: int | None
    not_before: int | None


def check_times(
    claims: Mapping[str, Any],
    *,
    now: int,
    skew_ms: int,
    required: frozenset[str],
    max_age_ms: int | None = None,
    max_life_ms: int | None = None,
) -> Lifetime:
    """The token's times, if it counts `now`.

    Args:
        claims: of a verified token.
        now: milliseconds since the epoch.
        skew_ms: how far the issuer's clock may be off, at most `MAX_SKEW_MS`.
        required: which of `exp`, `iat` and `nbf` have to be there.
        max_age_ms: refuse what was issued longer ago. Needs `iat`.
        max_life_ms: refuse what lives longer than this after it was issued. Needs `exp` and `iat`.

    Raises:
        InvalidProof: MALFORMED, CLOCK (issued in the future), NOT_YET_VALID, EXPIRED, TOO_OLD, TOO_LONG.
    """
    if not 0 <= skew_ms <= MAX_SKEW_MS:
        raise ValueError(f"a skew has 0 to {MAX_SKEW_MS} ms")
    needed = required | ({"iat"} if max_age_ms is not None else set())
    needed |= {"exp", "iat"} if max_life_ms is not None else set()
    expires_at, issued_at, not_before = (_time(claims, name, required=name in needed) for name in ("exp", "iat", "nbf"))
    if issued_at is not None and issued_at > now + skew_ms:
        raise InvalidProof(Fault.CLOCK)
    if not_before is not None and not_before > now + skew_ms:
        raise InvalidProof(Fault.NOT_YET_VALID)
    if expires_at is not None and expires_at <= now - skew_ms:
        raise InvalidProof(Fault.EXPIRED)
    if max_age_ms is not None and issued_at is not None and issued_at < now - max_age_ms - skew_ms:
        raise InvalidProof(Fault.TOO_OLD)
    if max_life_ms is not None and expires_at is not None and issued_at is not None:
        if expires_at <= issued_at:
            raise InvalidProof(Fault.MALFORMED, "it ends before it begins")
        if expires_at - issued_at > max_life_ms:
            raise InvalidProof(Fault.TOO_LONG)
    return Lifetime(expires_at, issued_at, not_before)


def require_issuer(claims: Mapping[str, Any], issuer: str) -> str:
    """`iss`, byte for byte. Raises InvalidProof: MALFORMED, WRONG_ISSUER."""
    if not issuer:
        raise ValueError("no issuer to compare with")
    if text(claims, "iss") != issuer:
        raise InvalidProof(Fault.WRONG_ISSUER)
    return issuer


def require_audience(claims: Mapping[str, Any], audience: str, *, single: bool) -> str:
    """`aud` holds `audience`; with `single`, it is that string and nothing else.

    A token for two audiences lets either of them play it to the other: only issuers that cannot do better get leave.

    Raises:
        InvalidProof: MALFORMED, WRONG_AUDIENCE.
    """
    if not audience:
        raise ValueError("no audience to compare with")
    given = audiences(claims)
    if audience not in given or (single and len(given) != 1):
        raise InvalidProof(Fault.WRONG_AUDIENCE)
    return audience


def audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """`aud`, a string or a list of them. Raises InvalidProof: MALFORMED, also where it is missing or empty."""
    value = claims.get("aud")
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not 0 < len(given) <= MAX_AUDIENCES:
        raise InvalidProof(Fault.MALFORMED, f"`aud` is not one to {MAX_AUDIENCES} strings")
    if not all(isinstance(each, str) and 0 < len(each) <= MAX_TEXT for each in given):
        raise InvalidProof(Fault.MALFORMED, "`aud` holds what is not a string, is empty, or is too long")
    return tuple(given)


def text(claims: Mapping[str, Any], name: str, *, longest: int = MAX_TEXT) -> str:
    """A claim that has to be there, a string that is neither empty nor too long. Raises InvalidProof: MALFORMED."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise InvalidProof(Fault.MALFORMED, f"`{name}` is not a string of 1 to {longest} characters")
    return value


def optional_text(claims: Mapping[str, Any], name: str, *, longest: int = MAX_TEXT) -> str | None:
    """As `text`, of a claim that may be missing; one that is there and null is refused."""
    return text(claims, name, longest=longest) if name in claims else None


def whole(claims: Mapping[str, Any], name: str, *, least: int, most: int) -> int:
    """A claim that has to be there, a whole number within bounds. Raises InvalidProof: MALFORMED."""
    value = claims.get(name)
    if type(value) is not int or not least <= value <= most:
        raise InvalidProof(Fault.MALFORMED, f"`{name}` is not a whole number from {least} to {most}")
    return value


def optional_time(claims: Mapping[str, Any], name: str) -> int | None:
    """A time in milliseconds, of a claim that may be missing. Raises InvalidProof: MALFORMED."""
    return _time(claims, name, required=False)


def require_members(value: Mapping[str, Any], *, required: frozenset[str], optional: frozenset[str]) -> None:
    """Nothing is missing, and nothing is there that nobody here would look at. Raises InvalidProof: MALFORMED."""
    if not required.issubset(value):
        raise InvalidProof(Fault.MALFORMED, "a member is missing")
    if not (required | optional).issuperset(value):
        raise InvalidProof(Fault.MALFORMED, "a member that has no meaning here")


def _time(claims: Mapping[str, Any], name: str, *, required: bool) -> int | None:
    if name not in claims:
        if required:
            raise InvalidProof(Fault.MALFORMED, f"`{name}` is missing")
        return None
    value = claims[name]
    if type(value) not in {int, float} or not math.isfinite(value) or not 0 <= value <= LATEST:
        raise InvalidProof(Fault.MALFORMED, f"`{name}` is not a time")
    milliseconds: int = round(value * 1000)  # the nearest: a fraction of a second is seldom exact in a double
    return milliseconds
