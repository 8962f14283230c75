"""A server in plain Python that does what its first argument says, well or badly. Speaks every revision's bare minimum.

Tools: `echo` answers with its arguments, `fail` with isError, `error` with a JSON-RPC error, `slow` never, `die` ends
the process, and the rest are named after what they do wrong.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

NAMES = [
    "echo", "fail", "error", "slow", "die", "crash", "garbage", "noise", "duplicate", "wrong_id", "twice", "before",
    "too_long", "flood", "exit3", "unknown_request", "unknown_notification", "carriage_return", "list_changed",
    "big_int", "ask_client", "progress",
]  # fmt: skip
PROPERTIES = {**{name: {"type": "integer"} for name in ("a", "n", "count")}, "to": {"type": "string"}}
definitions = [{"name": name, "inputSchema": {"type": "object", "properties": PROPERTIES}} for name in NAMES]
batch_version = "2025-03-26"


def send(value: object) -> None:
    raw(json.dumps(value).encode() + b"\n")


def raw(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def text(message: dict, value: object, **more: object) -> dict:
    result = {"content": [{"type": "text", "text": json.dumps(value)}], **more}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def call(message: dict) -> None:  # noqa: PLR0915 - one case a tool
    name, arguments = message["params"]["name"], message["params"].get("arguments", {})
    good = text(message, arguments)
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 1000}}
    match name:
        case "echo":
            send(good)
        case "fail":
            send(text(message, "no", isError=True))
        case "error":
            send({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32602, "message": "no"}})
        case "die":
            os._exit(1)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit3":
            os._exit(3)
        case "garbage":
            raw(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[}\n'.replace(b"%d", json.dumps(message["id"]).encode()))
        case "duplicate":
            raw(
                b'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"content":[]}}\n'.replace(
                    b"%d", json.dumps(message["id"]).encode()
                )
            )
        case "noise":
            raw(b"Listening on port 80\n\n")
            send(good)
        case "wrong_id":
            send({**good, "id": 987654})
            send({**good, "id": str(message["id"])})
            send(good)
        case "twice":
            send(good)
            send(text(message, "again"))
        case "too_long":
            send(text(message, "x" * 17_000_000))
        case "flood":
            for _ in range(arguments.get("count", 5000)):
                send(note)
            send(good)
        case "unknown_request":
            send({"jsonrpc": "2.0", "id": "s1", "method": "tools/call", "params": {"name": "x"}})
            reply = json.loads(sys.stdin.readline())
            send(text(message, reply))
        case "unknown_notification":
            send({"jsonrpc": "2.0", "method": "notifications/unheard/of"})
            send(good)
        case "carriage_return":
            fake = json.dumps(text({"id": arguments["id"]}, "smuggled")).encode()
            raw(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":\r' + fake + b"\r}}\n")
            send(good)
        case "list_changed":
            definitions[0]["description"] = f"now {arguments.get('to', 'other')}"
            send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            send(good)
        case "big_int":
            raw(
                b'{"jsonrpc":"2.0","id":%d,"result":{"structuredContent":{"ns":1763717000000000001}}}\n'.replace(
                    b"%d", json.dumps(message["id"]).encode()
                )
            )
        case "ask_client":
            send({"jsonrpc": "2.0", "id": message["id"], "method": "roots/list"})
            send(text(message, json.loads(sys.stdin.readline())))
        case "progress":
            for step in range(3):
                params = {"progressToken": message["params"]["_meta"]["progressToken"], "progress": step}
                send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            send(good)
        case _:
            pass  # never answered


def answer(message: dict) -> None:
    match message.get("method"):
        case "initialize":
            version = message["params"]["protocolVersion"]
            capabilities = {"tools": {"listChanged": True}}
            result = {
                "protocolVersion": version,
                "capabilities": capabilities,
                "serverInfo": {"name": "p", "version": "1"},
            }
            send({"jsonrpc": "2.0", "id": message["id"], "result": result})
        case "tools/list":
            start = int(message.get("params", {}).get("cursor", 0))
            size = int(os.environ.get("PAGE", "1000"))
            more = {"nextCursor": str(start + size)} if start + size < len(definitions) else {}
            page = {"tools": definitions[start : start + size], **more}
            send({"jsonrpc": "2.0", "id": message["id"], "result": page})
        case "tools/call":
            call(message)
        case "ping" | "resources/read" | "prompts/get":
            send({"jsonrpc": "2.0", "id": message["id"], "result": {"saw": message}})
        case _:
            if path := os.environ.get("SEEN"):
                with Path(path).open("a", encoding="utf-8") as seen:
                    seen.write(json.dumps(message) + "\n")


def main() -> None:
    if os.environ.get("HANGS_AT_EXIT"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.environ.get("STDERR"):
        print(os.environ["STDERR"], file=sys.stderr, flush=True)
    for line in sys.stdin.buffer:
        if path := os.environ.get("WIRE"):
            with Path(path).open("ab") as wire:
                wire.write(line)
        message = json.loads(line)
        for each in message if isinstance(message, list) else [message]:
            answer(each)
    if os.environ.get("HANGS_AT_EXIT"):
        while True:
            signal.pause()


main()
