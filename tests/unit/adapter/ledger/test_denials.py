"""Denials, as a conversation with the book of what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from forestall.adapter.ledger.denials import MAX_IDS, WINDOW_MS, Denials, Quota
from forestall.core.entry import Entry, Kind
from forestall.core.errors import Unavailable
from tests.ledgers import denied

SIZE = 100


@dataclass
class Book:
    """Writes what it is told to, as a ledger does."""

    quota: Quota = field(default_factory=Quota)
    now: int = 1_000_000
    written: list[Entry] = field(default_factory=list)
    full: bool = False

    def __post_init__(self) -> None:
        self.denials = Denials(self.quota)

    def write(self, entry: Entry) -> None:
        if self.full:
            raise Unavailable("full")
        self.written.append(entry)

    def deny(self, name: str, fingerprint: str = "") -> None:
        entry = denied(name, at=self.now, fingerprint=fingerprint)
        self.denials.close_due(self.now, self.write)
        if self.denials.repeats(entry) is None and self.denials.admits(SIZE, SIZE * len(self.written)):
            self.write(entry)
            self.denials.placed(entry, len(self.written) - 1, self.now, self.write)

    def close_due(self, *, everything: bool = False) -> None:
        self.denials.close_due(self.now, self.write, everything=everything)

    def seen(self) -> list[tuple[str, str]]:
        return [(entry.kind.value, entry.id) for entry in self.written]


def test_identical_denials_within_a_minute_are_one_entry_and_a_count() -> None:
    book = Book()
    book.deny("a", "same")
    for step in range(5):
        book.now += 1000
        book.deny(f"again{step}", "same")
    assert book.seen() == [("denied", "a")]
    book.now += WINDOW_MS
    book.deny("b", "same")
    assert book.seen() == [("denied", "a"), ("repeated", "a"), ("denied", "b")]
    assert book.written[1].body == {
        "first": "a",
        "of": "denied",
        "count": 5,
        "last_at": 1_005_000,
        "ids": [f"again{step}" for step in range(5)],
        "task": "t1",
        "tool": "git/push",
        "reason": "forbidden",
    }
    assert not book.written[1].durable


def test_a_denial_that_did_not_come_again_leaves_no_count() -> None:
    book = Book()
    book.deny("a", "one")
    book.deny("b", "two")
    book.now += WINDOW_MS
    book.close_due()
    assert book.seen() == [("denied", "a"), ("denied", "b")]


def test_denials_without_a_fingerprint_are_never_the_same() -> None:
    book = Book()
    book.deny("a")
    book.deny("b")
    assert book.seen() == [("denied", "a"), ("denied", "b")]


def test_a_repetition_stands_where_its_first_stands() -> None:
    book = Book()
    book.deny("x", "other")
    book.deny("a", "same")
    assert book.denials.repeats(denied("b", fingerprint="same")) == 1


def test_a_count_names_only_some_ids() -> None:
    book = Book()
    for number in range(MAX_IDS + 10):
        book.deny(str(number), "same")
    book.close_due(everything=True)
    assert book.written[-1].body["count"] == MAX_IDS + 9
    assert len(book.written[-1].body["ids"]) == MAX_IDS


@pytest.mark.parametrize(
    "quota", [Quota(entries=8), Quota(bytes=8 * SIZE), Quota(total=8 * SIZE)], ids=["entries", "bytes", "total"]
)
def test_a_flood_of_denials_leaves_room_for_holds(quota: Quota) -> None:
    denials, size = Denials(quota), 0
    denials.close_due(1_000_000, lambda _: None)
    admitted = []
    for held in (*[False] * 10, True, True, False):
        admitted.append(denials.admits(SIZE, size, held=held))
        size += SIZE * admitted[-1]
    assert admitted == [*[True] * 8, False, False, True, False, False], "and no more than that"


@pytest.mark.parametrize(
    "quota", [Quota(entries=3), Quota(bytes=3 * SIZE), Quota(total=3 * SIZE)], ids=["entries", "bytes", "total"]
)
def test_beyond_the_quota_denials_are_counted_once_a_minute(quota: Quota) -> None:
    book = Book(quota)
    for number in range(10):
        book.deny(str(number), f"print{number}")
    assert book.seen() == [("denied", "0"), ("denied", "1"), ("denied", "2")]
    book.now += WINDOW_MS
    book.close_due()
    assert book.seen()[3:] == [("suppressed", "suppressed-1000000")]
    assert book.written[3].body == {"count": 7, "from": 1_000_000, "until": 1_060_000}


def test_the_next_minute_has_a_quota_of_its_own() -> None:
    book = Book(Quota(entries=1))
    book.deny("a")
    book.deny("b")
    book.now += WINDOW_MS
    book.deny("c")
    assert [name for _, name in book.seen()] == ["a", "suppressed-1000000", "c"]


def test_a_suppressed_denial_is_not_the_first_of_repetitions() -> None:
    book = Book(Quota(entries=1))
    book.deny("a", "one")
    book.deny("b", "two")
    book.deny("c", "two")
    book.close_due(everything=True)
    assert book.written[-1].body["count"] == 2


def test_a_clock_that_steps_back_ends_the_windows() -> None:
    book = Book(Quota(entries=2))
    book.deny("a", "same")
    book.deny("b", "same")
    book.deny("c")
    book.deny("d")
    book.now -= 3_600_000
    book.deny("e", "same")
    assert book.seen() == [
        ("denied", "a"),
        ("denied", "c"),
        ("repeated", "a"),
        ("suppressed", "suppressed-1000000"),
        ("denied", "e"),
    ]


def test_memory_is_bounded_and_the_oldest_count_is_closed_early() -> None:
    book = Book(Quota(repetitions=2))
    book.deny("a", "one")
    book.deny("a2", "one")
    book.deny("b", "two")
    book.deny("c", "three")
    assert book.seen() == [("denied", "a"), ("denied", "b"), ("denied", "c"), ("repeated", "a")]
    assert len(book.denials._repetitions) == 2


def test_a_count_that_could_not_be_written_is_written_later() -> None:
    book = Book()
    book.deny("a", "same")
    book.deny("b", "same")
    book.now += WINDOW_MS
    book.full = True
    with pytest.raises(Unavailable):
        book.close_due()
    book.full = False
    book.close_due()
    assert book.seen() == [("denied", "a"), ("repeated", "a")]


def test_it_says_when_a_count_has_to_be_written() -> None:
    book = Book(Quota(entries=1))
    book.deny("a", "same")
    assert book.denials.due_in(book.now) is None
    book.deny("b", "same")
    book.now += 10_000
    assert book.denials.due_in(book.now) == WINDOW_MS - 10_000
    book.now += WINDOW_MS
    assert book.denials.due_in(book.now) == 0
    book.close_due()
    assert book.denials.due_in(book.now) is None


def test_a_flood_is_a_bounded_number_of_entries() -> None:
    book = Book(Quota(entries=50))
    for number in range(20_000):
        book.now += 10
        book.deny(str(number), f"print{number % 500}")
    book.close_due(everything=True)
    minutes = 20_000 * 10 // WINDOW_MS + 1
    assert len(book.written) <= minutes * (50 + 50 + 1)
    counted = sum(entry.body.get("count", 0) for entry in book.written)
    assert counted + sum(entry.kind is Kind.DENIED for entry in book.written) == 20_000
