"""What a Python value says is found, wherever it stands in it."""

from __future__ import annotations

import io
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Never
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.scrub import Scrubber
from forestall.pep.spoken import MAX_OBJECTS, spoken

SECRET = "correct-horse-battery"
FINDER = Scrubber([SECRET])
Pair = namedtuple("Pair", ["name", "secret"])  # noqa: PYI024 - those without types are to be found as well


@dataclass
class Plain:
    secret: str


@dataclass(frozen=True, slots=True)
class Slotted:
    inner: Any


class Shade(Enum):
    DARK = SECRET


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "nothing"

    __repr__ = __str__


class Noted(Exception):
    def __init__(self) -> None:
        super().__init__("went wrong")
        self.add_note(f"with {SECRET}")


def raised(cause: BaseException | None = None) -> BaseException:
    """One that was raised while another was handled."""
    try:
        try:
            raise ValueError(f"no {SECRET}")  # noqa: TRY301
        except ValueError:
            raise KeyError("x") from cause
    except KeyError as error:
        return error


class Rude(Mapping[str, str]):
    """Asked anything, it raises."""

    def __getitem__(self, key: str) -> Never:
        raise RuntimeError

    def __iter__(self) -> Never:
        raise RuntimeError

    def __len__(self) -> Never:
        raise RuntimeError

    def __getattr__(self, name: str) -> Never:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        Text(SECRET),
        SECRET.encode(),
        bytearray(SECRET.encode()),
        memoryview(SECRET.encode()),
        SECRET.encode("utf-16"),
        b"\xff\xfe" + SECRET.encode() + b"\x00",
        [1, (SECRET,)],
        {SECRET},
        frozenset({SECRET}),
        deque([SECRET]),
        {"a": {"b": SECRET}},
        {SECRET: 1},
        {(1, SECRET): 1},
        {b"key": SECRET.encode()},
        MappingProxyType({"a": SECRET}),
        OrderedDict(a=SECRET),
        UserDict({"a": SECRET}),
        Plain(SECRET),
        Slotted([Slotted(SECRET)]),
        Pair("a", SECRET),
        SimpleNamespace(a=SECRET),
        Shade.DARK,
        Path("/srv") / SECRET,
        ValueError(f"no {SECRET}"),
        Noted(),
        raised(),
        raised(ValueError(SECRET)),
        ExceptionGroup("many", [ValueError(SECRET)]),
        OSError(2, "no", SECRET),
        {"parts": ["correct-horse", "-battery"]},
        ["correct-", [None, ["horse-"]], "battery"],
        {1: SECRET},
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_is_found(value: object) -> None:
    assert FINDER.finds_in(spoken(value))


def test_a_uuid_is_found_as_its_text() -> None:
    secret = UUID(int=0x1234567890ABCDEF1234567890ABCDEF)
    assert Scrubber([str(secret)]).finds_in(spoken({"id": secret}))


class Lazy:
    def __iter__(self) -> Iterator[str]:
        raise AssertionError("asked")


@pytest.mark.parametrize(
    "value",
    [None, 1, 1.5, True, 10**6000, "correct horse", Rude(), Lazy(), iter([SECRET]), io.StringIO(SECRET), Plain, len],
    ids=lambda value: type(value).__name__,
)
def test_it_is_not_there_or_not_asked_for(value: object) -> None:
    assert not FINDER.finds_in(spoken([value]))


def test_what_is_asked_for_is_not_used_up() -> None:
    items = iter([SECRET])
    spoken({"items": items})
    assert list(items) == [SECRET]


def test_what_holds_itself_and_what_is_deep_end() -> None:
    knot: list[Any] = [SECRET]
    knot.append(knot)
    assert FINDER.finds_in(spoken(knot))
    deep: list[Any] = [SECRET]
    for _ in range(100_000):
        deep = [deep]
    assert FINDER.finds_in(spoken(deep))


def test_what_is_held_often_is_heard_once() -> None:
    wide: list[Any] = []
    for _ in range(60):
        wide = [wide, wide]
    assert len(str(spoken(wide))) < 1000


def test_objects_without_end_are_looked_at_in_part() -> None:
    first = last = SimpleNamespace(next=None)
    for _ in range(MAX_OBJECTS):
        last.next = SimpleNamespace(next=None)
        last = last.next
    last.text = SECRET
    assert not FINDER.finds_in(spoken(first))


@given(st.recursive(st.text() | st.binary() | st.integers() | st.floats(), st.lists, max_leaves=20))
def test_the_order_of_what_is_said_is_kept(value: Any) -> None:
    def texts(one: Any) -> list[str]:
        return [text for part in one for text in texts(part)] if isinstance(one, list) else [one]

    def own(one: Any) -> list[str]:
        if isinstance(one, list):
            return [text for part in one for text in own(part)]
        return [one.decode(errors="replace") if isinstance(one, bytes) else str(one)]

    assert texts(spoken(value)) == own(value)
