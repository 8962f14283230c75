from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from forestall import catalogue
from forestall.core.errors import Unavailable
from forestall.core.pin import definition_digest
from forestall.setup import listing, process
from forestall.setup.listing import Limits, list_tools
from forestall.setup.process import Command
from forestall.setup.review import Wishes, review
from tests.unit.setup import scripted
from tests.unit.setup.scripted import OTHER, TOOL

SOON = Limits(first=10, answer=10, settle=0.1)
AT_ONCE = Limits(first=1.0, answer=0.3, settle=0.05)


def command(behaviour: str, **environment: str) -> Command:
    return Command((sys.executable, scripted.__file__, behaviour), environment)


@pytest.mark.parametrize(
    ("behaviour", "tools"),
    [
        ("plain", [TOOL, OTHER]),
        ("stateless", [TOOL]),
        ("pages", [TOOL, OTHER]),
        ("asks", [TOOL]),
        ("changes", [TOOL, OTHER]),
        ("stray", [TOOL]),
        ("talks_at_the_end", [TOOL, OTHER]),
    ],
)
def test_it_lists_the_tools_of_a_server(behaviour: str, tools: list[object]) -> None:
    found = list_tools(command(behaviour), SOON)
    assert list(found.tools.values()) == tools
    assert found.about == "scripted 1.0"


def test_limits_that_no_double_holds_are_listed_reviewed_and_pinned(tmp_path: Path) -> None:
    found = list_tools(command("large"), SOON)
    review(tmp_path, "big", Command(("server",)), found, Wishes(accept=True, today="2026-01-01"))
    tool = catalogue.load(tmp_path).find("big/look")
    count = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    sent = {"name": "look", "inputSchema": {"type": "object", "properties": {"count": count}}}
    assert tool is not None
    assert tool.pin == definition_digest("big", sent)


def test_it_says_which_era_the_server_speaks() -> None:
    assert list_tools(command("plain"), SOON).protocol == "2025-11-25"
    assert list_tools(command("asks"), SOON).protocol == "2025-06-18"
    assert list_tools(command("stateless"), SOON).protocol == "2026-07-28"


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        ("endless", "does not end"),
        ("many", "does not end"),
        ("restless", "keeps changing"),
        ("junk", "not JSON"),
        ("twice", "occurs twice"),
        ("batch", "not a message"),
        ("no_result", "has no result"),
        ("no_list", "must be a list"),
        ("same_name", "defined twice"),
        ("bad_name", "printing characters"),
        ("refuses", "refuses to list its tools"),
        ("refuses_all", "refuses to list its tools"),
        ("dies", "ended with exit code 3; it said: cannot open the hall door"),
    ],
)
def test_a_server_that_misbehaves_is_described(behaviour: str, sentence: str) -> None:
    with pytest.raises(Unavailable, match=sentence) as error:
        list_tools(command(behaviour), SOON)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("behaviour", ["silent", "flood"])
def test_a_server_that_does_not_answer_is_given_up(behaviour: str) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        list_tools(command(behaviour), AT_ONCE)


def test_a_line_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_LINE", 3_000_000)
    with pytest.raises(Unavailable, match="more than 3000000 bytes"):
        list_tools(command("long_line"), SOON)


def test_what_a_server_says_last_does_not_show_its_variables() -> None:
    with pytest.raises(Unavailable) as error:
        list_tools(command("dies", HALL_TOKEN="s3cr3t-value"), SOON)
    assert "s3cr3t" not in str(error.value)
    assert "***" in str(error.value)
    assert "s3cr3t" not in repr(command("dies", HALL_TOKEN="s3cr3t-value"))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("forestall-has-no-such-command",), "does not start"),
        (("/",), "does not start"),
        (("a\0b",), "does not start"),
    ],
)
def test_a_command_that_does_not_start_is_described(argv: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Unavailable, match=sentence):
        list_tools(Command(argv), SOON)


def test_a_missing_directory_is_described(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not start"):
        list_tools(Command((sys.executable,), {}, tmp_path / "none"), SOON)


def test_nothing_of_a_server_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.2)
    found = list_tools(command("stays"), SOON)
    for pid in map(int, found.tools["look"]["description"].split()):
        assert _gone(pid)


def test_a_server_that_closed_its_input_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.2)
    with pytest.raises(Unavailable):
        list_tools(command("closed"), AT_ONCE)


def test_it_starts_where_and_with_what_the_configuration_says(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), os.environ['X'], file=sys.stderr); sys.exit(1)"
    with pytest.raises(Unavailable, match=f"{tmp_path} y"):
        list_tools(Command((sys.executable, "-c", code), {"X": "y"}, tmp_path), SOON)


def test_the_bounds_are_bounds() -> None:
    assert listing.MAX_PAGES * listing.MAX_ROUNDS < 10_000
    assert 0 < process.STOP_S <= 5


def _gone(pid: int) -> bool:
    """Is the process gone, or about to be reaped by whoever inherited it? Waits for at most a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        with suppress(ChildProcessError):
            os.sched_yield()
    return False
