"""A server that says what it was started with: `equipped_server.py WORD...`.

Tools: `show` answers with its command line, variable and descriptor of the names KEY and KEY_FD; `spell` with what of
them the argument `as` names, in hex; `log` writes it to standard error. `LEAVES` names a file: a process that has left
the group, and whose parent has ended, writes its number there and stays.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

NAMES = ("show", "spell", "log", "clean")
definitions = [{"name": name, "inputSchema": {"type": "object", "properties": {}}} for name in NAMES]


def send(value: object) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


def leave(file: Path) -> None:
    """Twice forked, in a session of its own: nothing of the group, and nobody's child."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    file.write_text(str(os.getpid()))
    time.sleep(600)
    os._exit(0)


def main() -> None:
    given = {"command": sys.argv[1:], "variable": os.environ.get("KEY", "")}
    given["home"] = os.environ.get("HOME", "")
    given["uid"] = os.getuid()
    given["descriptors"] = sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    if descriptor := os.environ.get("KEY_FD"):
        with os.fdopen(int(descriptor), encoding="utf-8") as pipe:
            given["descriptor"] = pipe.read()
    if leaves := os.environ.get("LEAVES"):
        leave(Path(leaves))
    for line in sys.stdin.buffer:
        message = json.loads(line)
        identity = message.get("id")
        match message.get("method"):
            case "initialize":
                version = message["params"]["protocolVersion"]
                info = {"name": "equipped", "version": "1"}
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
            case "tools/list":
                result = {"tools": definitions}
            case "tools/call":
                result = answer(message["params"]["name"], given)
            case _:
                continue
        send({"jsonrpc": "2.0", "id": identity, "result": result})


def answer(name: str, given: dict) -> dict:
    text = json.dumps(given)
    if name == "log":
        os.write(2, f"before\nstarted with {text}\nafter\n".encode())
    if name in ("log", "clean"):
        text = json.dumps({key: given[key] for key in ("uid", "descriptors", "home")})
    if name == "spell":
        text = text.encode().hex()
    return {"content": [{"type": "text", "text": text}]}


main()
