"""Times, issuer and audience: what counts to the millisecond, and a fault of its own for whatever does not."""

from __future__ import annotations

from typing import Any

import pytest

from forestall.proof.claims import (
    MAX_AUDIENCES,
    MAX_SKEW_MS,
    MAX_TEXT,
    audiences,
    check_times,
    optional_text,
    optional_time,
    require_audience,
    require_issuer,
    require_members,
    text,
    whole,
)
from forestall.proof.fault import Fault
from tests.tokens import NOW, SECONDS, refused

SKEW = 30_000


def check(claims: dict[str, Any], now: int = NOW, **options: Any) -> Any:
    return check_times(claims, now=now, **{"skew_ms": SKEW, "required": frozenset(), **options})


def test_a_token_ends_when_it_says_and_the_skew_has_passed() -> None:
    end = SECONDS * 1000
    assert check({"exp": SECONDS}, end + SKEW - 1).expires_at == end
    with refused(Fault.EXPIRED):
        check({"exp": SECONDS}, end + SKEW)
    with refused(Fault.EXPIRED):
        check({"exp": SECONDS}, end, skew_ms=0)


def test_a_token_begins_when_it_says_but_for_the_skew() -> None:
    begin = SECONDS * 1000
    for name, fault in (("nbf", Fault.NOT_YET_VALID), ("iat", Fault.CLOCK)):
        check({name: SECONDS}, begin - SKEW)
        with refused(fault):
            check({name: SECONDS}, begin - SKEW - 1)


def test_a_token_has_an_age_and_a_length() -> None:
    age = {"iat": SECONDS - 100}
    check(age, max_age_ms=70_000)
    with refused(Fault.TOO_OLD):
        check(age, max_age_ms=69_999)
    life = {"iat": SECONDS, "exp": SECONDS + 60}
    check(life, max_life_ms=60_000)
    with refused(Fault.TOO_LONG):
        check(life, max_life_ms=59_999)
    with refused(Fault.MALFORMED):
        check({"iat": SECONDS, "exp": SECONDS}, max_life_ms=60_000)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
def test_what_is_required_has_to_be_there(name: str) -> None:
    check({})
    with refused(Fault.MALFORMED):
        check({}, required=frozenset({name}))


@pytest.mark.parametrize(
    ("option", "claims"), [("max_age_ms", {}), ("max_life_ms", {"exp": SECONDS + 1}), ("max_life_ms", {"iat": SECONDS})]
)
def test_what_is_compared_has_to_be_there(option: str, claims: dict[str, Any]) -> None:
    with refused(Fault.MALFORMED):
        check(claims, **{option: 60_000})


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [None, "1795262400", True, [], {}, -1, float("nan"), float("inf"), 1e300, NOW * 1000])
def test_a_time_is_a_number_of_seconds(name: str, value: Any) -> None:
    with refused(Fault.MALFORMED):
        check({name: value})


def test_a_fraction_of_a_second_is_read_to_the_millisecond() -> None:
    for milliseconds in range(0, 1000, 7):
        assert optional_time({"iat": float(f"{SECONDS}.{milliseconds:03}")}, "iat") == NOW + milliseconds
    assert optional_time({}, "iat") is None


@pytest.mark.parametrize("skew", [-1, MAX_SKEW_MS + 1])
def test_nobody_asks_for_a_wider_skew(skew: int) -> None:
    with pytest.raises(ValueError, match="skew"):
        check({}, skew_ms=skew)


def test_an_issuer_is_the_same_byte_for_byte() -> None:
    assert require_issuer({"iss": "https://a.example"}, "https://a.example") == "https://a.example"
    for other in ("https://a.example/", "https://A.example", "https://a.example ", "http://a.example", "ﬃ"):
        with refused(Fault.WRONG_ISSUER):
            require_issuer({"iss": other}, "https://a.example")
    for bad in ({}, {"iss": None}, {"iss": ["https://a.example"]}, {"iss": ""}):
        with refused(Fault.MALFORMED):
            require_issuer(bad, "https://a.example")
    with pytest.raises(ValueError, match="no issuer"):
        require_issuer({"iss": ""}, "")


def test_an_audience_is_one_of_those_named_or_the_only_one() -> None:
    for aud in ("a", ["a"]):
        assert require_audience({"aud": aud}, "a", single=True) == "a"
    assert require_audience({"aud": ["b", "a"]}, "a", single=False) == "a"
    for aud in ("b", ["b"], ["a", "b"], "A", "aa", ["a", "a"]):
        with refused(Fault.WRONG_AUDIENCE):
            require_audience({"aud": aud}, "a", single=True)
    with refused(Fault.WRONG_AUDIENCE):
        require_audience({"aud": ["b", "c"]}, "a", single=False)
    with pytest.raises(ValueError, match="no audience"):
        require_audience({"aud": ""}, "", single=False)


@pytest.mark.parametrize(
    "aud", [None, "", [], [""], 7, {"a": 1}, ["a", 7], ["a"] * (MAX_AUDIENCES + 1), "a" * (MAX_TEXT + 1)]
)
def test_an_audience_is_made_of_strings(aud: Any) -> None:
    with refused(Fault.MALFORMED):
        audiences({"aud": aud})
    with refused(Fault.MALFORMED):
        audiences({})


def test_a_text_is_there_and_not_empty() -> None:
    assert text({"a": "b" * 5}, "a", longest=5) == "bbbbb"
    for bad in ({}, {"a": ""}, {"a": None}, {"a": 7}, {"a": "b" * 6}):
        with refused(Fault.MALFORMED):
            text(bad, "a", longest=5)
    assert optional_text({}, "a") is None
    with refused(Fault.MALFORMED):
        optional_text({"a": None}, "a")


def test_a_whole_number_is_within_its_bounds() -> None:
    assert whole({"a": 3}, "a", least=3, most=3) == 3
    for value in (2, 4, 3.0, True, "3", None):
        with refused(Fault.MALFORMED):
            whole({"a": value}, "a", least=3, most=3)


def test_members_are_those_that_are_known() -> None:
    known: Any = {"required": frozenset({"a"}), "optional": frozenset({"b"})}
    require_members({"a": 1}, **known)
    require_members({"a": 1, "b": 1}, **known)
    for bad in ({}, {"b": 1}, {"a": 1, "c": 1}):
        with refused(Fault.MALFORMED):
            require_members(bad, **known)
