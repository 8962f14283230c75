"""Everything that a client and a server of the SDK can say to each other: `conversation.py MODE COMMAND...`.

In a process of its own, because the SDK counts some of its ids per process. Prints the revision that was spoken.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

WITHIN_S = 60


async def sampling(_: Any, __: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    return types.CreateMessageResult(role="assistant", content=types.TextContent(text="4 ✓"), model="m")


async def elicitation(_: Any, __: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"text": "Ada"})


async def roots(_: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///root")])


async def heard(_: Any) -> None:
    return None


def client(command: Sequence[str], mode: str) -> Client:
    server = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(os.environ))
    return Client(
        server,
        mode=mode,
        client_info=types.Implementation(name="transcript", version="1"),
        sampling_callback=sampling,
        elicitation_callback=elicitation,
        list_roots_callback=roots,
        logging_callback=heard,
        message_handler=heard,
        log_level="debug",
        cache=None,
    )


async def converse(command: Sequence[str], mode: str) -> str:
    """Use every feature of the era. The revision that was spoken."""
    with warnings.catch_warnings(), anyio.fail_after(WITHIN_S):
        warnings.simplefilter("ignore")
        async with client(command, mode) as session:
            await _lists(session)
            await _calls(session)
            await (_legacy(session) if mode == "legacy" else _modern(session))
            await _cancelled(session)
            return session.protocol_version


async def _lists(session: Client) -> None:
    await session.list_tools()
    await session.list_resources()
    await session.list_resource_templates()
    await session.read_resource("test://one")
    await session.list_prompts()
    await session.get_prompt("greet", {"who": "é"})
    await session.complete(types.PromptReference(name="greet"), {"name": "who", "value": "A"})


async def _calls(session: Client) -> None:
    async def progressed(*_: Any) -> None:
        return None

    await session.call_tool("echo", {"text": "ünï \U0001f600 \u2028"})
    await session.call_tool("echo")
    await session.call_tool("report", {"text": "x"}, progress_callback=progressed)
    await session.call_tool("log", {"text": "x"})
    await session.call_tool("structured", {"text": "x"})
    await session.call_tool("fail", {"text": "x"}, meta={"vendor/key": {"a": 1.0}})
    await session.call_tool("ask", {"text": "x"})
    with suppress(MCPError):
        await session.call_tool("error", {"text": "x"})


async def _legacy(session: Client) -> None:
    await session.send_ping()
    await session.set_logging_level("info")
    await session.subscribe_resource("test://one")
    await session.call_tool("sample", {})
    await session.call_tool("roots", {})
    await session.call_tool("change", {})
    await session.list_tools()
    await session.unsubscribe_resource("test://one")
    await session.session.send_roots_list_changed()
    await session.session.send_progress_notification("t", 0.5, 1.0)


async def _modern(session: Client) -> None:
    async with session.listen(tools_list_changed=True, resource_subscriptions=["test://one"]) as events:
        await session.call_tool("change", {})
        await anext(events)
        await anext(events)
        await session.list_tools()


async def _cancelled(session: Client) -> None:
    """As soon as the server has said that it is at it."""
    with anyio.CancelScope() as scope:

        async def progressed(*_: Any) -> None:
            scope.cancel()

        await session.call_tool("slow", {}, progress_callback=progressed)
    assert scope.cancelled_caught
    await session.call_tool("echo", {"text": "after"})


if __name__ == "__main__":
    print(anyio.run(converse, sys.argv[2:], sys.argv[1]))
