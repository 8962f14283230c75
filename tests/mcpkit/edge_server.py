"""A server that demands permits: `edge_server.py AUDIENCE KEYS BURNS [INSTANCE]`. What ran is a line in `$RAN`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import MCPServer

from forestall_edge import KeyFile, SqliteBurns, Verifier
from forestall_edge.message import Demand
from forestall_edge.server import demand_permits

server: MCPServer = MCPServer("files")


def note(line: str) -> str:
    with Path(os.environ["RAN"]).open("a") as file:
        file.write(line + "\n")
    return line


@server.tool()
def write(path: str, text: str = "") -> str:
    """Write a file."""
    return note(f"write {path} {text}")


@server.tool()
def remove(path: str) -> str:
    """Remove a file."""
    return note(f"remove {path}")


def main() -> None:
    if len(sys.argv) > 1:
        audience, keys, burns = sys.argv[1:]
        store = SqliteBurns(Path(burns), time.time)
        verifier = Verifier(KeyFile(Path(keys)), audience, store, skew_s=0)
        demand_permits(server, Demand(verifier, "files"))
    server.run("stdio")


if __name__ == "__main__":
    main()
