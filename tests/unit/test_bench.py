"""bench/run.py: what it makes of numbers. (The numbers themselves are for `make bench`, never for a test.)"""

from __future__ import annotations

from typing import Any

import pytest
from bench import run

AIMS = (
    run.Aim("Decision", ("decide", "durable", "p50_us"), "µs", 400),
    run.Aim("Records", ("ledger", "64 callers", "per_second"), "a second", 10_000, least=True),
    run.Aim("Of which the sync", ("decide", "sync", "p50_us"), "µs"),
)
MEASURED = {
    "decide": {"durable": {"p50_us": 310.4}, "sync": {"p50_us": 123.456}, "note": "words", "fine": True},
    "ledger": {"64 callers": {"per_second": 12_345}},
}


@pytest.fixture(autouse=True)
def aims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "AIMS", AIMS)


def results(**measured: Any) -> dict[str, Any]:
    machine = {"cpu": "Some CPU", "cpus": 2, "python": "3.11.7"}
    return {"machine": machine, "measured": {**MEASURED, **measured}}


def test_the_table_shows_each_aim_beside_what_was_measured() -> None:
    assert run.markdown(results()) == (
        "| Some CPU, 2 CPUs, Python 3.11.7 | measured | aim |\n"
        "| --- | ---: | ---: |\n"
        "| Decision | 310 µs | at most 400 µs |\n"
        "| Records | 12,345 a second | at least 10,000 a second |\n"
        "| Of which the sync | 123 µs |  |\n"
    )


def test_the_table_says_what_was_not_measured() -> None:
    assert "| Records | not measured | at least 10,000 a second |" in run.markdown(results(ledger={}))


def test_words_and_truths_are_no_numbers() -> None:
    assert [path for path, _ in run.numbers({"a": {"b": 1, "c": "x", "d": True, "e": None}, "f": 2.5})] == [
        ("a", "b"),
        ("f",),
    ]


@pytest.mark.parametrize(
    ("measured", "missed"),
    [
        ({}, False),
        ({"decide": {"durable": {"p50_us": 400}, "sync": {"p50_us": 9_999}}}, False),
        ({"decide": {"durable": {"p50_us": 401}, "sync": {"p50_us": 1}}}, True),
        ({"ledger": {"64 callers": {"per_second": 9_999}}}, True),
        ({"ledger": {}}, True),
    ],
)
def test_an_aim_is_missed_by_being_beyond_it_or_not_measured(measured: dict[str, Any], missed: bool) -> None:
    assert run.missed(results(**measured)) is missed
    assert any("MISS" in line for line in run.report(results(**measured))) is missed


def test_what_was_not_asked_for_is_not_missed() -> None:
    only = results()
    del only["measured"]["ledger"]
    assert not run.missed(only)


def test_what_was_added_is_the_difference() -> None:
    aim = run.Aim("Added", ("decide", "durable", "p50_us"), "µs", 200, less=("decide", "sync", "p50_us"))
    measured = dict(run.numbers(MEASURED))
    assert aim.value(measured) == pytest.approx(310.4 - 123.456)
    del measured["decide", "sync", "p50_us"]
    assert aim.value(measured) is None


@pytest.mark.parametrize(
    ("value", "shown"), [(0.61, "0.61"), (3.14159, "3.14"), (99.94, "99.9"), (104.0, "104"), (12_345.6, "12,346")]
)
def test_numbers_have_three_figures(value: float, shown: str) -> None:
    assert run.number(value) == shown


def test_the_machine_is_named_without_its_name() -> None:
    assert run.machine().keys() == {"cpu", "cpus", "python", "yardstick_us", "system", "load", "at"}
