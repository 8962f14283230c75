"""Forestall in front of the servers: its directory, its policy, its gateway, and what the ledger says afterwards."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from demo.world import AGENTS, World
from forestall.adapter.ledger import keys
from forestall.agent import new_key, write_key
from forestall.core.errors import Unavailable
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.pep.start import ensure_running
from forestall.proof.jwk import key_set

HERE = Path(__file__).resolve().parent
SECONDS = 30

IDENTITY = """\
[[trust_domains]]
name = "example.org"
tenant = "example"
"""

CLIENT = """
[[clients]]
id = "{name}"
trust_domain = "example.org"
jwks = "{name}.jwks"
"""


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
    (home / "forestall.toml").write_text('[http]\nlisten = "127.0.0.1:0"\n')
    (home / "identity.toml").write_text(IDENTITY + "".join(CLIENT.format(name=name) for name in AGENTS))
    for name in AGENTS:
        _register(world, name)


def _register(world: World, name: str) -> None:
    """The private key stays with the agent, the public one goes to the decision point."""
    folder, key = world.agents / name, new_key()
    folder.mkdir(mode=0o700, parents=True)
    write_key(folder / "key.jwk", key)
    (world.forestall_home / f"{name}.jwks").write_text(json.dumps(key_set([key]).to_json()))


def serve(world: World) -> str:
    """Start the decision point; the URL of its token service."""
    home = Home(world.forestall_home)
    ensure_running(home, SECONDS * 1000)
    with Connection(home.socket) as connection:
        return str(connection.ask("status")["http"])


def kill(world: World, task: str) -> None:
    """What the operator does, by the command line; returns once the servers have ended too, or `SECONDS` are over.

    A gateway on a busy machine may end its server after that; nothing is started meanwhile.
    """
    words = ["kill", "--home", str(world.forestall_home), "--why", "taken over", task]
    subprocess.run([program("forestall"), *words], capture_output=True, timeout=SECONDS, check=True)
    deadline = time.monotonic() + SECONDS
    while running(world) and time.monotonic() < deadline:
        time.sleep(0.02)


def direct(_name: str, command: list[str]) -> list[str]:
    return command


@dataclass(frozen=True, slots=True)
class Gateway:
    """Starts each server behind `forestall gateway`, in the task of a grant."""

    world: World
    grant: Path

    def __call__(self, name: str, command: list[str]) -> list[str]:
        options = ["--home", str(self.world.forestall_home), "--grant", str(self.grant)]
        return [program("forestall"), "gateway", *options, name, "--", *command]


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


def running(world: World) -> list[str]:
    """The demo's own servers that run, told from their locks: one that has ended holds none."""
    return sorted(file.name for file in world.running.iterdir() if _is_locked(file))


def _is_locked(file: Path) -> bool:
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
