"""Real processes, really killed: what was acknowledged is there, and what was not synced was never acknowledged."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from forestall.core.entry import Stream
from tests.ledgers import Place

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BOUND_S = 60


def write_until_killed(place: Place, mode: str, first: int, lines: int, *fault: str) -> list[str]:
    """What the process said before it died: by our hand after so many lines, or by its own."""
    command = [sys.executable, "-m", "tests.flow.ledger_writer", str(place.root), mode, str(first), *fault]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        bound = threading.Timer(BOUND_S, writer.kill)
        bound.start()
        said = []
        try:
            for line in writer.stdout:
                said.append(line)
                if len(said) == lines:
                    break
        finally:
            writer.kill()
            said += writer.stdout.readlines()
            bound.cancel()
        assert writer.wait(BOUND_S) == -signal.SIGKILL
    return [line.strip() for line in said if line.endswith("\n")]


def found(place: Place) -> set[str]:
    with place.open() as ledger:
        entries = [one.body for one in ledger.read(Stream.PERMITS)]
    return {("settled " if one["kind"] == "settled" else "") + one["id"] for one in entries}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.keys  # noqa: B018 - made before any process looks for them
    return place


@pytest.mark.parametrize("mode", ["one", "threads", "loop"])
def test_what_was_acknowledged_survives_being_killed_again_and_again(place: Place, mode: str) -> None:
    chance = random.Random(mode)
    acknowledged: set[str] = set()
    for life in range(6):
        said = write_until_killed(place, mode, life * 10_000, chance.randint(1, 400))
        assert said
        acknowledged |= set(said)
        assert acknowledged <= found(place)
        assert place.verify("--payload-key", str(place.root / "keys" / "payload.key")) == 0


@pytest.mark.parametrize("mode", ["one", "threads", "loop"])
def test_nothing_is_acknowledged_before_its_sync(place: Place, mode: str) -> None:
    """The process dies where the first sync would be: the write was made, the answer never."""
    assert write_until_killed(place, mode, 0, -1, "sync", "1") == []
    assert found(place)
    assert place.verify() == 0


@pytest.mark.parametrize("mode", ["one", "threads", "loop"])
@pytest.mark.parametrize("fault", ["sync", "synced", "half"])
@pytest.mark.parametrize("after", ["4", "5"], ids=["even", "odd"])
def test_a_process_that_dies_in_the_middle_of_a_commit_loses_no_acknowledged_entry(
    place: Place, mode: str, fault: str, after: str
) -> None:
    """In an entry, in a checkpoint, and between the two."""
    said = write_until_killed(place, mode, 0, -1, fault, after)
    assert set(said) <= found(place)
    assert place.verify() == 0
