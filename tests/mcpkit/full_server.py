"""A server with the SDK that uses every feature of MCP that the SDK has, in both eras."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated, ToolsListChanged

warnings.simplefilter("ignore")
NAMES = [
    "mark",
    "echo",
    "report",
    "log",
    "sample",
    "ask",
    "roots",
    "change",
    "slow",
    "structured",
    "fail",
    "error",
    "wait",
]
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
bus = InMemorySubscriptionBus()


def said(*texts: str, **more: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text) for text in texts], **more)


async def list_tools(_: Any, __: Any) -> types.ListToolsResult:
    number = {"type": "object", "properties": {"n": {"type": "number"}}}
    tools = [types.Tool(name=name, description=f"Does {name}.", input_schema=TEXT) for name in NAMES]
    tools[NAMES.index("structured")] = types.Tool(name="structured", input_schema=TEXT, output_schema=number)
    return types.ListToolsResult(tools=tools, cache_scope="public", ttl_ms=0)


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult | types.InputRequiredResult:
    session, text = ctx.session, (params.arguments or {}).get("text", "")
    related = ctx.request_id
    match params.name:
        case "mark":
            Path(os.environ["MARKER"]).write_text(text)  # noqa: ASYNC240 - there is nothing else to do meanwhile
        case "report":
            for step in range(3):
                await session.report_progress(step / 2, 1, f"step {step} ✓")
        case "log":
            await session.send_log_message("warning", {"a": [1, 2.5, "é"]}, "a-logger", related_request_id=related)
        case "sample":
            message = types.SamplingMessage(role="user", content=types.TextContent(text="2+2?"))
            return said(
                str((await session.create_message([message], max_tokens=5, related_request_id=related)).content)
            )
        case "ask" if ctx.protocol_version >= "2026":
            if params.input_responses is None:
                form = types.ElicitRequestFormParams(message="Your name?", requested_schema=TEXT)
                asked = {"name": types.ElicitRequest(params=form)}
                return types.InputRequiredResult(input_requests=asked, request_state="state-1")
            return said(repr(params.input_responses["name"]), params.request_state)
        case "ask":
            return said(str(await session.elicit_form("Your name?", TEXT, related)))
        case "roots":
            return said(str(await session.list_roots()))
        case "change" if ctx.protocol_version >= "2026":
            await bus.publish(ToolsListChanged())
            await bus.publish(ResourceUpdated(uri="test://one"))
        case "change":
            await session.send_tool_list_changed()
            await session.send_resource_updated("test://one")
            await session.send_prompt_list_changed()
        case "slow":
            await session.report_progress(0.5)
            await anyio.sleep_forever()
        case "structured":
            return said("3.0", structured_content={"n": 3.0})
        case "fail":
            return said("it failed", is_error=True)
        case "error":
            raise MCPError(-32602, "no such thing", {"more": [1]})
    return said(text)


async def list_resources(_: Any, __: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[types.Resource(uri="test://one", name="one")], ttl_ms=0)


async def list_templates(_: Any, __: Any) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(uri_template="test://{name}", name="any")
    return types.ListResourceTemplatesResult(resource_templates=[template], ttl_ms=0)


async def read_resource(_: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    one = types.TextResourceContents(uri=params.uri, text="line\r\nline \u2028 \u0085")
    blob = types.BlobResourceContents(uri=params.uri, blob="AAEC")
    return types.ReadResourceResult(contents=[one, blob], ttl_ms=0)


async def list_prompts(_: Any, __: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=[types.Prompt(name="greet")], ttl_ms=0)


async def get_prompt(_: Any, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    message = types.PromptMessage(role="user", content=types.TextContent(text=f"hello {params.arguments}"))
    return types.GetPromptResult(messages=[message])


async def complete(_: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=[params.argument.value + "!"], total=1))


async def nothing(_: Any, __: Any) -> types.EmptyResult:
    return types.EmptyResult()


async def noticed(_: Any, __: Any) -> None:
    return None


server = Server(
    "full",
    version="1.0",
    instructions="Use everything.",
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_list_resources=list_resources,
    on_list_resource_templates=list_templates,
    on_read_resource=read_resource,
    on_subscribe_resource=nothing,
    on_unsubscribe_resource=nothing,
    on_subscriptions_listen=ListenHandler(bus),
    on_list_prompts=list_prompts,
    on_get_prompt=get_prompt,
    on_completion=complete,
    on_set_logging_level=nothing,
    on_roots_list_changed=noticed,
    on_progress=noticed,
)


async def main() -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
