"""`forestall log`, as its user sees it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forestall.adapter.ledger.reader import LogReader
from forestall.cli import WrongCommandLine, main
from forestall.cli.log import Filter, follow, moment
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.entry import Entry, Kind, Stream, ordered, quarantined
from tests.ledgers import Place, denied, permitted, settled

AT = 1_795_255_200_123  # 2026-11-21 10:00:00.123 UTC


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    with place.open() as ledger:
        ledger.append(permitted("a", at=AT))
        ledger.append(denied("b", at=AT + 1000))
        ledger.append(permitted("c", at=AT + 2000, tool="fetch/get"))
        ledger.append(settled("a", at=AT + 3000))
        ledger.append(Entry(Stream.DENIALS, Kind.HELD, "e", AT + 4000, {"tool": "db/drop", "reason": "needs_approval"}))
    return place


def log(place: Place, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["log", "--home", str(place.root), *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def last_words(lines: list[str]) -> list[str]:
    return [line.split()[-1] for line in lines]


def test_both_streams_are_merged_by_time_for_people(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert log(place, capsys) == [
        "2026-11-21 10:00:00.123  permit      git/push                      -                     a",
        "2026-11-21 10:00:01.123  deny        git/push                      forbidden             b",
        "2026-11-21 10:00:02.123  permit      fetch/get                     -                     c",
        "2026-11-21 10:00:03.123  settled     git/push                      done                  a",
        "2026-11-21 10:00:04.123  hold        db/drop                       needs_approval        e",
    ]


def test_an_order_says_what_was_ordered_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, target = Place(tmp_path), Target(Reach.AGENT, "bot", "example.org")
    with place.open() as ledger:
        ledger.append(ordered(Command(Order.KILL, target, "bad page", "uid/0"), "o", AT))
    assert log(place, capsys) == [
        "2026-11-21 10:00:00.123  order       kill agent bot of example.org  bad page              o"
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--stream", "denials"], ["b", "e"]),
        (["--kind", "permitted"], ["a", "c"]),
        (["--kind", "permitted", "--kind", "held"], ["a", "c", "e"]),
        (["--tool", "git/*"], ["a", "b", "a"]),
        (["--tool", "*", "--limit", "2"], ["a", "e"]),
        (["--limit", "0"], []),
        (["--task", "t1"], ["a", "b", "c", "a"]),
        (["--task", "t2"], []),
        (["--reason", "needs_approval"], ["e"]),
        (["--since", "2026-11-21T10:00:02"], ["c", "a", "e"]),
        (["--since", "2026-11-21T11:00:02+01:00"], ["c", "a", "e"]),
        (["--since", "2030-01-01"], []),
    ],
)
def test_filters(place: Place, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: list[str]) -> None:
    assert last_words(log(place, capsys, *arguments)) == expected


def test_json_is_one_object_a_line_with_its_index(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = [json.loads(line) for line in log(place, capsys, "--json")]
    assert [(one["stream"], one["index"], one["kind"], one["id"]) for one in said] == [
        ("permits", 0, "permitted", "a"),
        ("denials", 0, "denied", "b"),
        ("permits", 1, "permitted", "c"),
        ("permits", 2, "settled", "a"),
        ("denials", 1, "held", "e"),
    ]


def test_what_came_from_outside_cannot_rewrite_a_terminal(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.open() as ledger:
        ledger.append(permitted("x", at=AT + 9000, tool="git/\x1b[2J\u202epush\nforged line"))
    for arguments in ([], ["--json"]):
        lines = log(place, capsys, *arguments)
        assert len(lines) == 6
        assert not any(c in line for line in lines for c in "\x1b\u202e")


def test_of_a_tool_that_changed_it_is_said_how(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.open() as ledger:
        ledger.append(
            quarantined("q", "t1", "git/push", seen="sha256:2", reviewed="sha256:1", change="authority", at=AT)
        )
    (line,) = log(place, capsys, "--kind", "quarantined")
    assert line.split()[2:] == ["quarantine", "git/push", "authority", "q"]


@pytest.mark.tampers
def test_an_odd_entry_is_shown_and_not_stumbled_over(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    entry = permitted("x")
    with place.open() as ledger:
        ledger.append(replace(entry, body={"tool": 7, "reason": ["x"]}, at=-5))
        ledger.append(replace(entry, at=2**52))
    assert len(log(place, capsys)) == 7


def test_following_shows_what_is_written_until_it_is_enough(place: Place) -> None:
    reader = LogReader(place.ledger)
    cursors = [reader.cursor(stream) for stream in Stream]
    with place.open() as ledger:
        steps = iter(
            [
                lambda: True,
                lambda: ledger.append(permitted("n1", at=AT)) is not None,
                lambda: ledger.append(denied("n2", at=AT)) is not None,
                lambda: True,
                lambda: False,
            ]
        )

        def pause() -> bool:
            return next(steps)()

        seen = [one.body["id"] for one in follow(cursors, Filter(), pause)]
    assert seen == ["a", "b", "c", "a", "e", "n1", "n2"]


def test_a_ledger_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "--home", str(tmp_path)]) == 78
    assert "nothing was recorded yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--since", "yesterday"], ["--limit", "-1"], ["--since", ""], ["--reason", "nope"]]
)
def test_bad_input_is_said(place: Place, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["log", "--home", str(place.root), *arguments]) == 2
    assert "forestall: --" in capsys.readouterr().err


def test_moments() -> None:
    assert [moment(text, 10**9) for text in ("30s", "10m", "2h", "1d")] == [
        10**9 - 30_000,
        10**9 - 600_000,
        10**9 - 7_200_000,
        10**9 - 86_400_000,
    ]
    assert moment("1970-01-01T00:00:01Z", 0) == moment("1970-01-01T00:00:01", 0) == 1000
    with pytest.raises(WrongCommandLine, match="--since takes"):
        moment("1w", 0)


@pytest.mark.tampers
def test_a_damaged_log_is_76(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(place.permits.read_bytes())
    content[-300] ^= 1
    place.permits.write_bytes(content)
    assert main(["log", "--home", str(place.root)]) == 76
    assert "permits.log, byte" in capsys.readouterr().err
