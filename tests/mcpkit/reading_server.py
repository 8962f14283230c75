"""A server that uses files: `reading_server.py [AUDIENCE KEYS BURNS]`. With `$GO`, a FIFO, it waits there for a byte
before it reads; that it waits is a line in `$RAN`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import MCPServer

from forestall_edge import KeyFile, SqliteBurns, Verifier
from forestall_edge.message import Demand
from forestall_edge.server import demand_permits

server: MCPServer = MCPServer("reading")


@server.tool()
def run(script: str) -> str:
    """What would run, and where it is."""
    if "GO" in os.environ:
        with Path(os.environ["RAN"]).open("a") as file:
            file.write("waits\n")
        with Path(os.environ["GO"]).open("rb", buffering=0) as go:
            go.read(1)
    return f"{script}\n{Path(script).read_text()}"


@server.tool()
def send(files: list[str]) -> str:
    """What would be sent."""
    return "".join(Path(file).read_text() for file in files)


def main() -> None:
    if len(sys.argv) > 1:
        audience, keys, burns = sys.argv[1:]
        verifier = Verifier(KeyFile(Path(keys)), audience, SqliteBurns(Path(burns), time.time), skew_s=0)
        demand_permits(server, Demand(verifier, "reading"))
    server.run("stdio")


if __name__ == "__main__":
    main()
