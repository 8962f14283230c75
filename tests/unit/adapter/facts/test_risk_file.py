"""A file that tells of risk: read again when it changes, and worth nothing once it is too old or not understood."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forestall.adapter.facts.risk_file import MAX_BYTES, SETTLED_MS, RiskFile
from forestall.adapter.facts.told import AHEAD_MS, Asking
from forestall.core.model import Risk
from forestall.core.repute import UNKNOWN
from forestall.testing.world import GRANT, NOW

BOUND_MS = 60_000


@dataclass
class Desk:
    """A file that somebody writes, and the time."""

    path: Path
    now: int = NOW

    def __post_init__(self) -> None:
        self.source = RiskFile("desk", self.path, bound_ms=BOUND_MS, posture=("disk",), now=lambda: self.now)

    def write(self, text: str | bytes, *, age_ms: int = 0) -> None:
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        written = (self.now - age_ms) * 1_000_000
        os.utime(self.path, ns=(written, written))

    def risk(self) -> Risk | None:
        return self.source.read(GRANT, self.now).risk


@pytest.fixture(params=["risk.json", "risk.toml"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return Desk(tmp_path / request.param)


def told(desk: Desk, risk: str, **more: object) -> str:
    if desk.path.suffix == ".json":
        return json.dumps({**more, "default": risk})
    return "\n".join([*(f"{name} = {value}" for name, value in more.items()), f'default = "{risk}"'])


def test_before_it_was_read_nothing_is_known(desk: Desk) -> None:
    assert desk.risk() is None
    assert desk.source.problem


def test_what_it_says_counts_and_so_does_what_it_says_next(desk: Desk) -> None:
    desk.write(told(desk, "low"))
    desk.source.refresh()
    assert (desk.risk(), desk.source.problem) == (Risk.LOW, "")
    desk.write(told(desk, "high"))
    desk.source.refresh()
    assert desk.risk() is Risk.HIGH


def test_a_change_within_one_tick_of_the_files_clock_is_seen(desk: Desk) -> None:
    desk.write(told(desk, "low"))
    desk.source.refresh()
    status = desk.path.stat()
    desk.path.write_text(told(desk, "low").replace("low", "lo\\u0077"))
    desk.path.write_text(told(desk, "high"))
    os.utime(desk.path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    desk.source.refresh()
    assert desk.risk() is Risk.HIGH


def test_a_file_that_did_not_change_is_not_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write(told(desk, "low"), age_ms=SETTLED_MS + 1)
    desk.source.refresh()
    monkeypatch.setattr(desk.source, "_document", lambda _: pytest.fail("read again"))
    desk.source.refresh()
    assert desk.risk() is Risk.LOW


def test_it_counts_until_its_bound_from_when_it_was_written(desk: Desk) -> None:
    desk.write(told(desk, "low"), age_ms=BOUND_MS - 1)
    desk.source.refresh()
    assert desk.risk() is Risk.LOW
    desk.now += 1
    assert desk.source.read(GRANT, desk.now) == UNKNOWN
    desk.source.refresh()
    assert desk.risk() is None


def test_it_may_say_that_it_is_older_and_never_that_it_is_younger(desk: Desk) -> None:
    desk.write(told(desk, "low", at=NOW - BOUND_MS))
    desk.source.refresh()
    assert desk.risk() is None
    desk.write(told(desk, "low", at=NOW), age_ms=BOUND_MS)
    desk.source.refresh()
    assert desk.risk() is None


@pytest.mark.parametrize("ahead", ["file", "document"])
def test_a_time_that_is_still_to_come_makes_nothing_younger(desk: Desk, ahead: str) -> None:
    if ahead == "file":
        desk.write(told(desk, "low"), age_ms=-BOUND_MS)
    else:
        desk.write(told(desk, "low", at=NOW + AHEAD_MS))
    desk.source.refresh()
    assert desk.risk() is Risk.LOW
    desk.now += BOUND_MS
    assert desk.risk() is None


def test_a_document_from_far_ahead_is_not_believed(desk: Desk) -> None:
    desk.write(told(desk, "low", at=NOW + AHEAD_MS + 1))
    desk.source.refresh()
    assert desk.risk() is None
    assert "still to come" in desk.source.problem


@pytest.mark.parametrize(
    "bad",
    [b"", b"{", b'default = "lwo"', b'{"default": "low", "default": "low"}', b"\xff\xfe", b"null", b"[" * 5000],
)
def test_what_is_not_understood_takes_back_what_was_said_before(desk: Desk, bad: bytes) -> None:
    desk.write(told(desk, "low"))
    desk.source.refresh()
    desk.write(bad)
    desk.source.refresh()
    assert desk.risk() is None
    assert bad == b"" or desk.source.problem
    desk.write(told(desk, "low"))
    desk.source.refresh()
    assert (desk.risk(), desk.source.problem) == (Risk.LOW, "")


def test_a_file_that_went_away_takes_its_word_with_it_and_may_come_back(desk: Desk) -> None:
    desk.write(told(desk, "low"), age_ms=SETTLED_MS + 1)
    desk.source.refresh()
    kept = desk.path.rename(desk.path.with_suffix(".away"))
    desk.source.refresh()
    assert desk.risk() is None
    assert "cannot be read" in desk.source.problem
    kept.rename(desk.path)
    desk.source.refresh()
    assert desk.risk() is Risk.LOW


@pytest.mark.parametrize("kind", ["pipe", "directory", "large"])
def test_what_is_no_file_of_some_size_tells_nothing_and_nobody_waits_for_it(desk: Desk, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(desk.path)
    elif kind == "directory":
        desk.path.mkdir()
    else:
        desk.write(told(desk, "low") + " " * MAX_BYTES)
    desk.source.refresh()
    assert desk.risk() is None
    assert desk.source.problem


# -- asked beside the calls


class Gate:
    """A source that tells how often it is asked, and lets itself be held up."""

    period_s = 0.0

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.closed = False

    def refresh(self) -> None:
        self.asked.release()
        self.go_on.wait()

    def close(self) -> None:
        self.closed = True
        self.go_on.set()


@pytest.fixture
def gates() -> Iterator[tuple[Gate, Gate]]:
    both = Gate(), Gate()
    asking = Asking(both, threading.Event.wait)
    yield both
    asking.close()
    assert all(gate.closed for gate in both)


def test_a_source_that_hangs_keeps_no_other_from_being_asked(gates: tuple[Gate, Gate]) -> None:
    hanging, other = gates
    assert hanging.asked.acquire(timeout=60)
    other.go_on.set()
    assert all(other.asked.acquire(timeout=60) for _ in range(3))
    assert not hanging.asked.acquire(blocking=False)
