"""A server that behaves as its first argument says, for the client that lists tools. Run as a program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

TOOL: dict[str, Any] = {"name": "look", "inputSchema": {"type": "object", "properties": {"at": {"type": "string"}}}}
OTHER: dict[str, Any] = {"name": "send", "inputSchema": {"type": "object", "properties": {"to": {"type": "string"}}}}
INFO = {"name": "scripted", "version": "1.0"}


def write(message: Any) -> None:
    sys.stdout.write((message if isinstance(message, str) else json.dumps({"jsonrpc": "2.0", **message})) + "\n")
    sys.stdout.flush()


def read() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)
    message: dict[str, Any] = json.loads(line)
    return message


def expect(method: str) -> dict[str, Any]:
    """The next request of this method; notifications are passed over."""
    while (message := read()).get("method") != method:
        pass
    return message


def answer(message: dict[str, Any], result: Any) -> None:
    write({"id": message["id"], "result": result})


def hello() -> None:
    message = expect("initialize")
    answer(message, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": INFO})
    expect("notifications/initialized")


def tools(*found: dict[str, Any], **more: Any) -> None:
    answer(expect("tools/list"), {"tools": list(found), **more})


def plain() -> None:
    hello()
    tools(TOOL, OTHER)


def large() -> None:
    """Limits of an int64, as many schemas have them."""
    hello()
    count = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    tools({"name": "look", "inputSchema": {"type": "object", "properties": {"count": count}}})


def stateless() -> None:
    write({"id": expect("initialize")["id"], "error": {"code": -32022, "message": "Unsupported protocol version"}})
    for method in ("server/discover", "tools/list"):
        message = expect(method)
        meta = message["params"]["_meta"]
        assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        assert isinstance(meta["io.modelcontextprotocol/clientCapabilities"], dict)
        tail = {"resultType": "complete", "_meta": {"io.modelcontextprotocol/serverInfo": INFO}}
        answer(message, {"tools": [TOOL], **tail} if method == "tools/list" else {"supportedVersions": [], **tail})


def pages() -> None:
    hello()
    tools(TOOL, nextCursor="more")
    message = expect("tools/list")
    assert message["params"]["cursor"] == "more"
    answer(message, {"tools": [OTHER]})


def endless() -> None:
    hello()
    while True:
        tools(nextCursor="again")


def many() -> None:
    hello()
    while True:
        tools(*({**TOOL, "name": f"t{number}"} for number in range(3000)), nextCursor="again")


def asks() -> None:
    """Asks the client before it answers, and waits for what it gets."""
    message = expect("initialize")
    answer(message, {"protocolVersion": "2025-06-18", "serverInfo": INFO})
    listing = expect("tools/list")
    for number, (method, wanted) in enumerate(
        {"ping": "result", "roots/list": "result", "sampling/x": "error"}.items()
    ):
        write({"id": f"s{number}", "method": method})
        reply = read()
        assert reply["id"] == f"s{number}"
        assert wanted in reply
    answer(listing, {"tools": [TOOL]})


def changes() -> None:
    hello()
    tools(TOOL)
    write({"method": "notifications/tools/list_changed"})
    tools(TOOL, OTHER)


def restless() -> None:
    hello()
    while True:
        tools(TOOL)
        write({"method": "notifications/tools/list_changed"})


def stray() -> None:
    """Answers with a wrong id, twice, and says other things, before the right answer."""
    hello()
    message = expect("tools/list")
    write({"id": 999, "result": {"tools": [OTHER]}})
    write({"id": 1, "result": {}})
    write({"method": "notifications/message", "params": {}})
    answer(message, {"tools": [TOOL]})


def flood() -> None:
    hello()
    while True:
        write({"method": "notifications/message", "params": {"data": "x" * 1000}})


def junk() -> None:
    write("this is no JSON")
    read()


def twice() -> None:
    message = expect("initialize")
    write(f'{{"jsonrpc": "2.0", "id": {message["id"]}, "result": {{}}, "result": {{"a": 1}}}}')
    read()


def batch() -> None:
    write("[]")
    read()


def long_line() -> None:
    while True:
        sys.stdout.write("x" * 1_000_000)


def no_result() -> None:
    write({"id": expect("initialize")["id"]})
    read()


def no_list() -> None:
    hello()
    answer(expect("tools/list"), {"tools": "none"})
    read()


def same_name() -> None:
    hello()
    tools(TOOL, TOOL)
    read()


def bad_name() -> None:
    hello()
    tools({**TOOL, "name": "a\u202eb"})
    read()


def refuses() -> None:
    hello()
    write({"id": expect("tools/list")["id"], "error": {"code": -1, "message": "no \x1b[2J tools"}})
    read()


def refuses_all() -> None:
    while True:
        write({"id": read()["id"], "error": {"code": -32601, "message": "unknown"}})


def dies() -> None:
    expect("initialize")
    print("cannot open the hall door", os.environ.get("HALL_TOKEN", ""), file=sys.stderr)
    raise SystemExit(3)


def silent() -> None:
    while True:
        read()


def closed() -> None:
    """Closes its standard input and lives on."""
    hello()
    os.close(0)
    signal.pause()


def stays() -> None:
    """Ends neither when its standard input ends nor on SIGTERM, and has a child that does not either."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])  # what is ignored here is ignored there
    hello()
    tools({**TOOL, "description": f"{os.getpid()} {child.pid}"})
    while True:
        signal.pause()


def talks_at_the_end() -> None:
    """Must get rid of more than a pipe holds before it can end."""
    plain()
    sys.stdin.read()
    sys.stdout.write("x" * 1_000_000)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    sys.stdin.read()
