"""The real commands on a home of their own, as a person would run them, and what they said."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.server.listening import answers as answers_at
from tests.mcpkit.home import PERMIT_ALL, home_of, stop
from tests.mcpkit.session import PLAIN, WITHIN_S, gateway
from tests.points import until

FORESTALL = [sys.executable, "-m", "forestall.cli"]
VERIFY = [sys.executable, "-m", "forestall_verify"]
BOUND_S = 3 * WITHIN_S
"""Seconds for one command on a machine that is busy with other tests. None of them waits that long for anything."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one command left: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    def sentence(self, program: str = "forestall") -> str:
        """The one sentence on standard error, without the program's name; fails where it is not one."""
        (line,) = self.err.splitlines()
        assert line.startswith(f"{program}: "), line
        assert line.endswith((".", "?")), line
        assert not re.search(r"Traceback|\bErrno\b|Error\b|codec", line), line
        return line.removeprefix(f"{program}: ")


class Scratch:
    """One home, with every tool of the plain server reviewed and permitted, and a client that talks to it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._wire = home.root.with_name(f"{home.root.name}.wire")

    def run(self, *words: str, stdin: bytes = b"", bound_s: float = BOUND_S, **more: Any) -> Said:
        command = [*FORESTALL, words[0], "--home", str(self.home.root), *words[1:]]
        return self._said(command, stdin, bound_s, more)

    def verify(self, *words: str) -> Said:
        return self._said([*VERIFY, str(self.home.ledger), *words], b"", BOUND_S, {})

    def gateway(
        self,
        *lines: object,
        server: Sequence[str] = PLAIN,
        options: Sequence[str] = (),
        program: Sequence[str] = FORESTALL,
        end: bytes = b"\n",
        **more: Any,
    ) -> Said:
        """A session of these lines, after an `initialize`: bytes as they are, the rest as JSON."""
        written = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in (*GREETING, *lines)]
        command = [*program, *gateway(self.home.root, server, *options)[len(FORESTALL) :]]
        return self._said(command, b"\n".join(written) + end, BOUND_S, more)

    def reached(self) -> list[Any]:
        """The tool calls that arrived at the server, in all sessions together: their arguments."""
        lines = self._wire.read_bytes().splitlines() if self._wire.exists() else []
        return [
            message["params"].get("arguments")
            for message in map(json.loads, lines)
            if message.get("method") == "tools/call"
        ]

    def entries(self) -> list[Mapping[str, Any]]:
        shown = self.run("log", "--json")
        assert shown.code == 0, shown.err
        return [json.loads(line) for line in shown.out.splitlines()]

    @property
    def permit(self) -> str:
        """The id of the first permit in the ledger."""
        return next(str(entry["id"]) for entry in self.entries() if entry["kind"] == "permitted")

    def serve(self) -> Said:
        """`forestall serve`, told to end as soon as it listens, if it gets that far."""
        command = [*FORESTALL, "serve", "--home", str(self.home.root)]
        with self.running(command) as started:
            if started.poll() is None:
                with Connection(self.home.socket, BOUND_S) as connection:
                    connection.ask("stop")
            out, err = started.communicate(timeout=BOUND_S)
            return Said(started.returncode, out.decode(), err.decode())

    @contextmanager
    def running(self, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """A decision point that listens, or that has ended."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
            try:
                until(lambda: answers_at(self.home.socket) or started.poll() is not None)
                yield started
            finally:
                started.kill()

    def end(self) -> None:
        """Nothing of it runs any more."""
        stop(self.home)

    def change(self, name: str, old: str, new: str) -> None:
        file = self.home.root / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def _said(self, command: Sequence[str], stdin: bytes, bound_s: float, more: Mapping[str, Any]) -> Said:
        environment = {**os.environ, "WIRE": str(self._wire), **more.get("env", {})}
        more = {name: value for name, value in more.items() if name != "env"}
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=bound_s,
            env=environment,
            cwd=self._wire.parent,
            check=False,
            **more,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


GREETING = (
    {
        "jsonrpc": "2.0",
        "id": "init",
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test-client", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
)


def call(identity: object, name: str = "echo", **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": params}


def answers(said: Said) -> dict[object, dict[str, Any]]:
    """The answers of a session by the id that they are for."""
    messages = [json.loads(line) for line in said.out.splitlines()]
    return {message["id"]: message for message in messages if "method" not in message}


@contextmanager
def reviewed() -> Iterator[Home]:
    """A home that is set up; copied for each test."""
    with home_of({"plain": PLAIN}, PERMIT_ALL) as home:
        yield home


@contextmanager
def used(model: Home) -> Iterator[Home]:
    """The same after one session with one permitted call, which was answered."""
    with scratch(model) as one:
        assert one.gateway(call(1)).code == 0
        one.end()
        yield one.home


@contextmanager
def scratch(model: Home) -> Iterator[Scratch]:
    """A copy of `model` on a short path: a socket's holds 107 bytes."""
    place = Path(tempfile.mkdtemp(prefix="fb-"))
    try:
        shutil.copytree(model.root, place / "h")
        (place / "h").chmod(0o700)
        one = Scratch(Home(place / "h"))
        yield one
    finally:
        if (place / "h").is_dir():
            stop(Home(place / "h"))
        shutil.rmtree(place)


Break = Callable[[Scratch], object]


def put(name: str, content: str | bytes) -> Break:
    """Write this file."""

    def change(scratch: Scratch) -> None:
        file = scratch.home.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def swap(name: str, old: str, new: str) -> Break:
    return lambda scratch: scratch.change(name, old, new)


def remove(name: str) -> Break:
    def change(scratch: Scratch) -> None:
        path = scratch.home.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def directory(name: str) -> Break:
    """A directory where a file belongs."""

    def change(scratch: Scratch) -> None:
        path = scratch.home.root / name
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)

    return change
