"""A small MCP server, made with the official SDK: orders that can be read, and notes that can be written to them."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")
notes: dict[str, str] = {}


@server.tool()
def read_order(order: str) -> str:
    """Read one order."""
    return f"order {order}: {notes.get(order, 'nothing')}"


@server.tool()
def write_note(order: str, text: str) -> str:
    """Write a note to one order."""
    notes[order] = text
    return f"order {order}: {text}"


if __name__ == "__main__":
    server.run()
