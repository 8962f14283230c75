"""What the demo's own MCP servers share: a list of tools on the SDK's low-level server, over standard input and output.

The low-level server hands a tool its arguments as they came, unchecked by any schema. Many real servers do the same.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.stdio import stdio_server
from pydantic import ConfigDict

Arguments = Mapping[str, Any]
NO_METHODS: Mapping[str, Callable[[Arguments], str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    arguments: Mapping[str, str]
    """Name and JSON Schema type of each declared argument; all are required unless the name ends in `?`."""
    run: Callable[[Arguments], str]
    reads_only: bool = False
    listed: bool = True
    """An unlisted tool still answers: left over, or hidden on purpose."""

    @property
    def definition(self) -> types.Tool:
        schema = {
            "type": "object",
            "properties": {name.rstrip("?"): {"type": kind} for name, kind in self.arguments.items()},
            "required": [name for name in self.arguments if not name.endswith("?")],
        }
        hints = types.ToolAnnotations(read_only_hint=self.reads_only)
        return types.Tool(name=self.name, description=self.description, input_schema=schema, annotations=hints)


class AnyParams(types.RequestParams):
    model_config = ConfigDict(extra="allow")


def serve(
    name: str, tools: Callable[[], list[Tool]], methods: Mapping[str, Callable[[Arguments], str]] = NO_METHODS
) -> None:
    """Serve until standard input ends. `tools` is asked anew for every request, so that a server can change its mind.

    `methods` are of the server's own making: no version of the protocol knows them.
    """

    async def list_tools(_context: object, _params: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool.definition for tool in tools() if tool.listed])

    async def call_tool(_context: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        return _call(tools(), params)

    server: Server[Any] = Server(name, version="1", on_list_tools=list_tools, on_call_tool=call_tool)

    for method, function in methods.items():
        server.add_request_handler(method, AnyParams, _own_method(function))

    async def run() -> None:
        async with stdio_server() as (reader, writer):
            options = server.create_initialization_options(NotificationOptions(tools_changed=True))
            await server.run(reader, writer, options)

    with _seen_to_run(name):
        anyio.run(run)


@contextmanager
def _seen_to_run(name: str) -> Iterator[None]:
    """A locked file, for whoever wants to see whether this process has really ended: the kernel unlocks it then."""
    folder = os.environ.get("DEMO_RUNNING")
    if folder is None:
        yield
        return
    with (Path(folder) / f"{name}-{os.getpid()}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own_method(function: Callable[[Arguments], str]) -> Callable[[object, AnyParams], Awaitable[types.CallToolResult]]:
    async def answer(_context: object, params: AnyParams) -> types.CallToolResult:
        return _answer(function(params.model_extra or {}))

    return answer


def _call(tools: list[Tool], params: types.CallToolRequestParams) -> types.CallToolResult:
    tool = next((tool for tool in tools if tool.name == params.name), None)
    if tool is None:
        return _answer(f"There is no tool {params.name}.", failed=True)
    try:
        return _answer(tool.run(params.arguments or {}))
    except Exception as error:  # noqa: BLE001  # whatever goes wrong in a tool is its answer, as in the SDK's own server
        return _answer(f"{type(error).__name__}: {error}", failed=True)


def _answer(text: str, *, failed: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=failed)
