"""Real processes at one record of burns: one wins, and what it was told outlives its death."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from forestall.adapter.store.burn import Burn, Burns, Limits
from forestall.proof.fault import Fault, InvalidProof

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000_000
PROCESSES = 64
IDS = 6
BOUND_S = 120
PATIENT = Limits(busy_ms=60_000)
"""A slow disk makes them wait for each other, and is no failure."""

RACE = """
import os, sys
from pathlib import Path
from tests.flow.test_burn_race import burn_all
path, processes = Path(sys.argv[1]), int(sys.argv[2])
gate, release = os.pipe()
for number in range(processes):
    if not os.fork():
        os.close(release)
        os.read(gate, 1)  # until the parent lets all of them go at once
        os.write(1, burn_all(path, number).encode())
        os._exit(0)
os.close(release)
while processes:
    _, status = os.wait()
    processes -= 1
    assert status == 0, status
"""

BURN_UNTIL_KILLED = """
import itertools, os, sys
from pathlib import Path
from tests.flow.test_burn_race import NOW, Burns, a_burn
burns = Burns(Path(sys.argv[1]), now=NOW)
for number in itertools.count(int(sys.argv[2])):
    burns.burn(a_burn(number), NOW)
    os.write(1, f"{number}\\n".encode())
"""


def a_burn(number: int) -> Burn:
    return Burn("https://pdp.example", f"jti-{number}", "agent", NOW + 60_000)


def burn_all(path: Path, process: int) -> str:
    """Every id once, and what came of it, a line each. Whatever else is raised ends the process."""
    said = []
    with closing(Burns(path, now=NOW, limits=PATIENT)) as burns:
        for number in range(IDS):
            try:
                burns.burn(a_burn(number), NOW)
                said.append(f"{number} won {process}")
            except InvalidProof as refusal:
                said.append(f"{number} {refusal.fault} {process}")
    return "".join(f"{line}\n" for line in said)


@pytest.mark.parametrize("made", [True, False], ids=["a record that is there", "a record that each tries to make"])
def test_of_64_processes_exactly_one_burns_an_id(tmp_path: Path, made: bool) -> None:
    path = tmp_path / "burns.sqlite"
    if made:
        Burns(path, now=NOW).close()
    done = subprocess.run(
        [sys.executable, "-c", RACE, str(path), str(PROCESSES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = Counter(tuple(line.split()[:2]) for line in done.stdout.splitlines())
    expected = {(str(number), "won"): 1 for number in range(IDS)}
    expected |= {(str(number), Fault.REPLAYED.value): PROCESSES - 1 for number in range(IDS)}
    assert found == expected


def acknowledged_before_its_death(path: Path, first: int, lines: int) -> list[int]:
    command = [sys.executable, "-c", BURN_UNTIL_KILLED, str(path), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as burner:
        assert burner.stdout is not None
        bound = threading.Timer(BOUND_S, burner.kill)
        bound.start()
        try:
            said = [burner.stdout.readline() for _ in range(lines)]
        finally:
            burner.kill()
            said += burner.stdout.readlines()
            bound.cancel()
        assert burner.wait(BOUND_S) == -signal.SIGKILL
    return [int(line) for line in said if line.endswith("\n")]


def test_what_was_answered_is_burned_after_being_killed_again_and_again(tmp_path: Path) -> None:
    path, chance = tmp_path / "burns.sqlite", random.Random(7)
    answered: list[int] = []
    for life in range(8):
        said = acknowledged_before_its_death(path, life * 10_000, chance.randint(1, 60))
        assert said
        answered += said
    with closing(Burns(path, now=NOW)) as burns:
        for number in answered:
            with pytest.raises(InvalidProof) as refusal:
                burns.burn(a_burn(number), NOW)
            assert refusal.value.fault is Fault.REPLAYED
        burns.burn(a_burn(999_999), NOW)


def test_a_killed_process_leaves_the_record_to_the_others(tmp_path: Path) -> None:
    path = tmp_path / "burns.sqlite"
    with closing(Burns(path, now=NOW)) as burns:
        said = acknowledged_before_its_death(path, 0, 5)
        for number in said:
            with pytest.raises(InvalidProof):
                burns.burn(a_burn(number), NOW)
        burns.burn(a_burn(999_999), NOW)
