"""What tests of the decision point share: a home that is set up, the point itself, and a peer that speaks frames."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import forestall_verify
from forestall.adapter.ledger.reader import LogReader
from forestall.core.entry import Stream
from forestall.core.pin import definition_digest
from forestall.frame import HEAD, PROTOCOL, decode, encode, length
from forestall.home import Home
from forestall.server.listening import Lock, listen, prepare
from forestall.server.point import Point
from forestall.wire import Parts, build

WAIT_S = 60.0
"""Seconds that anything here may take on a machine that is busy with other tests."""

POLICY = """\
@id("reads") permit (principal, action in Action::"read", resource);
@id("writes") permit (principal, action in Action::"write", resource);
@id("no-secrets") forbid (principal, action == Action::"files/read_file", resource)
when { context.args.path like "*secret*" };
@id("ask-ada") @approvers("ada") permit (principal, action in Action::"external", resource)
when { context has approval && context.approval.granted };
"""

SERVER = "files"


def definition(name: str, *arguments: str, **more: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {argument: {"type": "string"} for argument in arguments},
        "required": list(arguments),
    }
    return {"name": name, "description": f"Does {name}.", "inputSchema": schema, **more}


TOOLS: dict[str, tuple[dict[str, Any], str]] = {
    "read_file": (definition("read_file", "path"), "read"),
    "write_file": (definition("write_file", "path", "content"), "write"),
    "delete_file": (definition("delete_file", "path"), "destructive"),
    "send": (definition("send", "to"), "external"),
}


def pin(name: str) -> str:
    return definition_digest(SERVER, TOOLS[name][0])


def write_catalogue(home: Home, server: str = SERVER) -> None:
    home.catalogue.mkdir(parents=True, exist_ok=True)
    lines = ["format = 1", f'server = "{server}"', 'about = "for tests"']
    for name, (shape, effect) in TOOLS.items():
        content = ["content"] if "content" in shape["inputSchema"]["properties"] else []
        control = [argument for argument in shape["inputSchema"]["properties"] if argument not in content]
        lines += [
            f"[tools.{name}]",
            f'effects = ["{effect}"]',
            f"control = {json.dumps(control)}",
            f"content = {json.dumps(content)}",
            'output = { integrity = "trusted", confidentiality = "public" }',
            'from = { effects = "declared", arguments = "declared", output = "declared" }',
            f'pin = "{definition_digest(server, shape)}"',
        ]
    (home.catalogue / f"{server}.toml").write_text("\n".join(lines))
    tools = [shape for shape, _ in TOOLS.values()]
    (home.catalogue / f"{server}.json").write_text(json.dumps({"format": 1, "server": server, "tools": tools}))


def make_home(root: Path, policy: str = POLICY, settings: str = "") -> Home:
    home = Home(root / "home")
    prepare(home)
    home.policy.mkdir(exist_ok=True)
    (home.policy / "own.cedar").write_text(policy)
    write_catalogue(home)
    if settings:
        home.config.write_text(settings)
    return home


def entries(home: Home, stream: Stream = Stream.PERMITS) -> list[Mapping[str, Any]]:
    return [written.body for written in LogReader(home.ledger).read(stream)]


def kinds(home: Home, stream: Stream = Stream.PERMITS) -> list[str]:
    return [entry["kind"] for entry in entries(home, stream)]


def verify_ledger(home: Home) -> None:
    """As anyone can: with the program that shares no code with the one that wrote it."""
    assert forestall_verify.main([str(home.ledger)]) == 0


class Peer:
    """Whoever is at the other end of the socket, honest or not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.next_id = 0

    @classmethod
    async def connect(cls, path: Path) -> Peer:
        return cls(*await asyncio.wait_for(asyncio.open_unix_connection(str(path)), WAIT_S))

    @classmethod
    async def gateway(cls, path: Path, **hello: Any) -> Peer:
        """An enforcement point in this process: all of them are one workload, this one."""
        peer = await cls.connect(path)
        try:
            await peer.greet({"kind": "agent", "server": SERVER, "directory": "/tmp", **hello})
            welcome = await peer.receive()
            assert welcome["type"] == "welcome", welcome
        except BaseException:
            await peer.close()
            raise
        peer.welcome = welcome
        return peer

    async def challenge(self) -> str:
        """The nonce that the decision point wants to hear again."""
        challenge = await self.receive()
        assert challenge["type"] == "challenge", challenge
        return str(challenge["nonce"])

    async def greet(self, hello: Mapping[str, Any]) -> None:
        self.send({"type": "hello", "protocol": PROTOCOL, "nonce": await self.challenge(), **hello})

    @classmethod
    async def cli(cls, path: Path) -> Peer:
        return await cls.gateway(path, kind="cli", server=None)

    welcome: Mapping[str, Any] = {}

    def send(self, frame: Mapping[str, Any]) -> None:
        self.writer.write(encode(dict(frame)))

    async def receive(self) -> dict[str, Any]:
        """The next frame that is more than a sign of life."""
        async with asyncio.timeout(WAIT_S):
            while True:
                frame = decode(await self.reader.readexactly(length(await self.reader.readexactly(HEAD))))
                if frame["type"] != "beat":
                    return frame

    async def ended(self) -> bool:
        """Everything that was still to come is read away."""
        with suppress(ConnectionError):
            async with asyncio.timeout(WAIT_S):
                while await self.reader.read(65536):
                    pass
        return True

    def request(self, kind: str, **members: Any) -> int:
        self.next_id += 1
        self.send({"type": kind, "id": self.next_id, **members})
        return self.next_id

    def asks(self, tool: str = "write_file", arguments: Mapping[str, Any] | None = None, **more: Any) -> int:
        given = arguments if arguments is not None else dict.fromkeys(_names(tool), "x")
        return self.request("ask", **{"tool": f"{SERVER}/{tool}", "pin": pin(tool), "arguments": given, **more})

    async def ask(self, tool: str = "write_file", arguments: Mapping[str, Any] | None = None, **more: Any) -> Any:
        number = self.asks(tool, arguments, **more)
        answer = await self.receive()
        assert answer["id"] == number
        return answer

    async def performed(self, permit: Mapping[str, Any], fate: str = "done", **more: Any) -> dict[str, Any]:
        number = self.request("performed", permit=permit["permit"]["id"], fate=fate, **more)
        answer = await self.receive()
        assert answer["id"] == number
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def _names(tool: str) -> list[str]:
    return list(TOOLS[tool][0]["inputSchema"]["properties"])


@asynccontextmanager
async def serving(home: Home, parts: Parts | None = None, **more: Any) -> AsyncIterator[Point]:
    """A decision point in this process, on this loop."""
    lock = Lock.acquire(home.run / "lock")
    try:
        point = Point(build(home) if parts is None else parts, **more)
        running = asyncio.create_task(point.serve(listen(home.socket, lock)))
        try:
            yield point
        finally:
            point.stop()
            await asyncio.wait_for(running, WAIT_S)
    finally:
        lock.release()


def play(home: Home, scenario: Callable[[Point], Awaitable[None]], **more: Any) -> None:
    """Run a conversation with a decision point of its own, and end both."""

    async def whole() -> None:
        async with serving(home, **more) as point:
            await asyncio.wait_for(scenario(point), 2 * WAIT_S)

    asyncio.run(whole())


@contextmanager
def process(home: Home, *words: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`forestall serve` as a process of its own; gone at the end, whatever happens."""
    command = [sys.executable, "-m", "forestall.cli", "serve", "--home", str(home.root), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more) as started:
        try:
            yield started
        finally:
            with suppress(ProcessLookupError):
                os.kill(started.pid, signal.SIGCONT)
            started.kill()
            started.communicate(timeout=WAIT_S)


def wait_for_socket(home: Home, started: subprocess.Popen[bytes]) -> None:
    from forestall.server.listening import answers

    until(lambda: answers(home.socket) or started.poll() is not None)
    assert started.poll() is None, started.stderr and started.stderr.read()


def until(holds: Callable[[], bool]) -> None:
    """Wait, within the bound, for what another process does."""
    limit = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.005)


async def until_async(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < limit, "it did not happen in time"
        await asyncio.sleep(0.005)
