"""A server that writes down when it sees a call, before anything else: `CLOCK` names the file, a line each.

Tools: `touch` answers, `slow` never does. `CHILD`, where it is set, makes it start a process that outlives it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

definitions = [{"name": name, "inputSchema": {"type": "object", "properties": {}}} for name in ("touch", "slow")]


def send(value: object) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


def main() -> None:
    seen = os.open(os.environ.get("CLOCK", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.environ.get("CHILD"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL)
    for line in sys.stdin.buffer:
        now = time.monotonic_ns()
        message = json.loads(line)
        match message.get("method"):
            case "initialize":
                version = message["params"]["protocolVersion"]
                info = {"name": "clocked", "version": "1"}
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
                send({"jsonrpc": "2.0", "id": message["id"], "result": result})
            case "tools/list":
                send({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": definitions}})
            case "tools/call":
                name = message["params"]["name"]
                os.write(seen, f"{now} {name}\n".encode())
                if name == "touch":
                    send({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
            case "notifications/cancelled":
                os.write(seen, f"{now} cancelled {message['params']['requestId']}\n".encode())


main()
