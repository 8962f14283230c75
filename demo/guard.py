"""Forestall in front of the servers: its directory, its policy, its gateway, and what the ledger says afterwards."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from demo.world import World
from forestall.adapter.ledger import keys
from forestall.core.errors import Unavailable
from forestall.home import Home
from forestall.pep.blocking import Connection

HERE = Path(__file__).resolve().parent
SECONDS = 30


def program(name: str) -> str:
    """A command that is installed beside this Python."""
    return str(Path(sys.executable).parent / name)


def furnish(world: World) -> None:
    """Forestall's directory as an operator leaves it, in both worlds alike; only the gateways make use of it."""
    home = world.forestall_home
    home.mkdir(mode=0o700, parents=True)
    shutil.copytree(HERE / "policy", home / "policy")
    shutil.copytree(HERE / "catalogue", home / "catalogue")
    keys.create(home / "keys")
    policy = home / "policy" / "demo.cedar"
    policy.write_text(policy.read_text().replace("INTRANET", world.intranet.url))


def direct(_name: str, command: list[str]) -> list[str]:
    return command


@dataclass(frozen=True, slots=True)
class Gateway:
    """Starts each server behind `forestall gateway`."""

    world: World

    def __call__(self, name: str, command: list[str]) -> list[str]:
        return [program("forestall"), "gateway", "--home", str(self.world.forestall_home), name, "--", *command]


@dataclass(frozen=True, slots=True)
class Verification:
    """What the stand-alone verifier says of a ledger."""

    verified: bool
    said: str
    command: str
    """To run it again."""


def verify(world: World) -> Verification:
    home = world.forestall_home
    words = [program("forestall-verify"), str(home / "ledger")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    lines = (done.stdout or done.stderr).splitlines()
    said = " ".join(line for line in lines if "verif" in line) or f"forestall-verify ended with {done.returncode}."
    return Verification(done.returncode == 0, said, " ".join(words))


def stop(world: World) -> None:
    """End the decision point that the gateways started: its last checkpoint is written, and nothing stays behind."""
    home = Home(world.forestall_home)
    if not home.socket.exists():
        return
    with suppress(Unavailable), Connection(home.socket) as connection:
        connection.ask("stop")
    with (home.run / "lock").open("r+") as lock:
        _wait_for(lock)


def _wait_for(lock: IO[str]) -> None:
    """The decision point holds its lock until it has ended."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.02)
    raise TimeoutError(f"The decision point did not end within {SECONDS} s.")
