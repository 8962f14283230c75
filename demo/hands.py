"""The agent's hands: an MCP client for every server, and one raw pipe for what no well-behaved client would send."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

import anyio
import mcp_types as types
from anyio.abc import TaskStatus
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client

from demo.world import World

SECONDS = 30
"""The longest that any one answer may take: far beyond what an idle machine needs, so that only a hang runs into it."""

GOODBYE = 3
"""Seconds that a server gets to end by itself."""

REFUSALS = {-32700: "parse_error", -32600: "invalid_request", -32601: "method_not_found"}
"""JSON-RPC 2.0, section 5.1: the codes that refuse a message. Any other says that something broke."""

NOTHING: Mapping[str, str] = MappingProxyType({})

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one call. `reason` and `decision` are there when Forestall refused it, `database` when
    PostgreSQL did: its own name for why.
    """

    text: str
    failed: bool = False
    reason: str = ""
    decision: str = ""
    decision_id: str = ""
    database: str = ""


Wrap = Callable[[str, list[str]], list[str]]
"""(server's name, its command) -> the command to start instead."""


def servers(world: World) -> dict[str, list[str]]:
    """The command of every server, as a client's configuration would hold it."""
    python = [sys.executable, "-P", "-m"]
    return {
        "time": [*python, "mcp_server_time", "--local-timezone", "UTC"],
        "fetch": [*python, "mcp_server_fetch", "--allow-private-ips"],
        "git": [*python, "mcp_server_git", "--repository", str(world.project)],
        "files": [*python, "demo.servers.files"],
        "database": [*python, "demo.servers.database", str(world.database)],
        "release": [*python, "demo.servers.release"],
        "rates": [*python, "demo.servers.rates", f"{world.collector.url}/collect"],
        "shop": [*python, "demo.servers.shop"],
    }


REPORTING = ("time", "fetch", "git", "files", "database", "release", "rates")
"""The servers that the reporting agent has."""


class Hands:
    def __init__(self, clients: Mapping[str, Client], raw: Raw | None = None) -> None:
        self._clients = clients
        self._raw = raw

    async def call(self, tool: str, **arguments: object) -> Answer:
        """Call `server/tool`. A refusal and a failure are answers, not exceptions."""
        server, _, name = tool.partition("/")
        try:
            result = await self._clients[server].call_tool(name, arguments, read_timeout_seconds=SECONDS)
        except MCPError as error:
            return refused(error.error.model_dump())
        return read_result(result.model_dump(by_alias=True, mode="json"))

    @property
    def servers(self) -> list[str]:
        return sorted(self._clients)

    async def definitions(self, server: str) -> list[dict[str, Any]]:
        """The server's tools as it describes them now."""
        listed = await self._clients[server].list_tools(cache_mode="bypass")
        return [tool.model_dump(mode="json", by_alias=True, exclude_unset=True) for tool in listed.tools]

    async def send(self, text: str) -> Answer:
        """Send the files server one line exactly as it is. It has to carry the id 7."""
        assert self._raw is not None
        return await self._raw.send(text)


def read_result(result: Mapping[str, Any]) -> Answer:
    text = "\n".join(part["text"] for part in result.get("content", ()) if part.get("type") == "text")
    about = (result.get("_meta") or {}).get("forestall/decision") or result.get("structuredContent")
    return _answer(text, about if isinstance(about, Mapping) else {}, failed=bool(result.get("isError")))


def refused(error: Mapping[str, Any]) -> Answer:
    """A JSON-RPC error: what is no tool call, or could not be read as one, is refused with it."""
    data = error.get("data")
    about = data if isinstance(data, Mapping) else {}
    return _answer(error["message"], {"reason": REFUSALS.get(error["code"], ""), **about}, failed=True)


def _answer(text: str, about: Mapping[str, Any], *, failed: bool) -> Answer:
    said = {name: str(about.get(name) or "") for name in ("reason", "decision", "decision_id")}
    return Answer(text, failed, **said)


class Raw:
    """A session of the protocol's handshake era, written by hand."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def greet(self) -> Answer:
        about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        answer = await self.send(_request("initialize", about))
        if not answer.failed:
            self._write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        return answer

    async def send(self, text: str) -> Answer:
        self._write(text)
        async with asyncio.timeout(SECONDS):
            return await self._receive()

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    async def _receive(self) -> Answer:
        """The next answer, whatever id it carries: one that cannot be read safely is refused without one."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if "result" in message:
                return read_result(message["result"])
            if "error" in message:
                return refused(message["error"])
        return Answer("The server closed the connection.", failed=True)


def environment(world: World) -> dict[str, str]:
    return {**world.environment, "PYTHONPATH": str(CHECKOUT)}


@asynccontextmanager
async def connect(world: World, wrap: Wrap) -> AsyncIterator[Hands]:
    """Start what an agent reports with, each as the command that `wrap` makes of its own, and stop all at the end."""
    commands = {name: wrap(name, servers(world)[name]) for name in REPORTING}
    with (world.root / "servers.log").open("a") as log:
        async with (
            _start_clients(world, commands, log) as clients,
            process(world, commands["files"], log) as started,
        ):
            raw = Raw(started)
            await raw.greet()
            yield Hands(clients, raw)


@asynccontextmanager
async def connect_some(
    world: World, wrap: Wrap, names: Sequence[str], more: Mapping[str, str] = NOTHING
) -> AsyncIterator[Hands]:
    """The same of a few servers, with `more` in their environment, and without the raw pipe."""
    commands = {name: wrap(name, servers(world)[name]) for name in names}
    with (world.root / "servers.log").open("a") as log:
        async with _start_clients(world, commands, log, more) as clients:
            yield Hands(clients)


async def once(world: World, wrap: Wrap, tool: str, **arguments: object) -> Answer:
    """One call through a server that is started for it alone. A gateway that does not start says why."""
    server, _, name = tool.partition("/")
    async with process(world, wrap(server, servers(world)[server]), asyncio.subprocess.PIPE) as started:
        raw = Raw(started)
        answer = await raw.greet()
        if not answer.failed:
            return await raw.send(_request("tools/call", {"name": name, "arguments": arguments}))
        assert started.stderr is not None
        return _not_started((await started.stderr.read()).decode(errors="replace"))


def _not_started(said: str) -> Answer:
    found = re.search(r"This connection is refused: (\w+)\.", said)
    return Answer(said, failed=True, reason=found[1] if found else "")


def _request(method: str, params: Mapping[str, object]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})


@asynccontextmanager
async def _start_clients(
    world: World, commands: Mapping[str, Sequence[str]], log: TextIO, more: Mapping[str, str] = NOTHING
) -> AsyncIterator[dict[str, Client]]:
    clients: dict[str, Client] = {}
    stop, env = anyio.Event(), {**environment(world), **more}

    async def keep(name: str, words: Sequence[str], *, task_status: TaskStatus[None]) -> None:
        parameters = StdioServerParameters(command=words[0], args=list(words[1:]), env=env, cwd=world.project)
        info = types.Implementation(name="demo-agent", version="1")
        async with Client(
            stdio_client(parameters, errlog=log), client_info=info, read_timeout_seconds=SECONDS
        ) as client:
            clients[name] = client
            await client.list_tools()
            task_status.started()
            await stop.wait()

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as starting:
            for name, words in commands.items():
                starting.start_soon(group.start, keep, name, words)
        try:
            yield clients
        finally:
            stop.set()


@asynccontextmanager
async def process(
    world: World, words: Sequence[str], log: TextIO | int, goodbye: float = GOODBYE
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of this world, until the block ends.

    Args:
        world: whose environment and folder it has.
        words: its command.
        log: where its standard error goes.
        goodbye: seconds that it gets to end by itself, once its input has ended.
    """
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        *words, stdin=pipe, stdout=pipe, stderr=log, env=environment(world), cwd=world.project
    )
    try:
        yield started
    finally:
        await _end(started, goodbye)


async def _end(process: asyncio.subprocess.Process, goodbye: float) -> None:
    """Close its input, as a client does, and kill it only if it does not go."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(goodbye):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
