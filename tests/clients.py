"""Client processes of their own, and the enforcement points that they start."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forestall.frame import PROTOCOL
from tests.points import SERVER, WAIT_S, pin

POINT = """
import json, os, socket, sys
path, hello = sys.argv[1], json.loads(sys.argv[2])
if len(sys.argv) > 3:
    os.setuid(int(sys.argv[3]))
if len(sys.argv) > 4:
    if os.fork():
        os.wait()
        sys.exit()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
stream = connection.makefile("rwb")
def send(frame):
    data = json.dumps(frame).encode()
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()
def receive():
    head = stream.read(4)
    return json.loads(stream.read(int.from_bytes(head, "big"))) if len(head) == 4 else {"type": "ended"}
first = receive()
if first["type"] == "challenge":
    send({**hello, "nonce": first["nonce"]})
    first = receive()
print(json.dumps(first), flush=True)
for line in sys.stdin:
    send(json.loads(line))
    print(json.dumps(receive()), flush=True)
"""
"""An enforcement point, maybe of another user, maybe below a process of that user. It greets, says what it was
answered, then sends a frame a line and says what came.
"""

CLIENT = """
import json, subprocess, sys
points = {}
for line in sys.stdin:
    order = json.loads(line)
    name = order["name"]
    if "start" in order:
        points[name] = subprocess.Popen(order["start"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    elif "send" in order:
        points[name].stdin.write(json.dumps(order["send"]) + "\\n")
        points[name].stdin.flush()
    else:
        points[name].stdin.close()
        print(points.pop(name).wait(), flush=True)
        continue
    print(points[name].stdout.readline() or '{"type": "ended"}\\n', end="", flush=True)
"""
"""A client: it starts enforcement points, and passes on what they are told and what they say."""

SHELL = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
"""It stays, waits, and hands on its standard input; so do `npx` and `uvx`."""

LAUNCHER = (sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)")


def hello(**more: Any) -> dict[str, Any]:
    return {"type": "hello", "protocol": PROTOCOL, "kind": "gateway", "server": SERVER, "directory": "/tmp", **more}


def point(path: Path, **more: Any) -> list[str]:
    """The command of an enforcement point that greets so."""
    return [sys.executable, "-c", POINT, str(path), json.dumps(hello(**more))]


class Client:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._next = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, command: Sequence[str], name: str = "one") -> dict[str, Any]:
        """What the decision point answers its hello."""
        return self._order({"name": name, "start": list(command)})

    def send(self, frame: Mapping[str, Any], name: str = "one") -> dict[str, Any]:
        self._next += 1
        return self._order({"name": name, "send": {"id": self._next, **frame}})

    def call(self, tool: str, name: str = "one", **arguments: str) -> dict[str, Any]:
        """Asked for, and reported as done where it is permitted: the last answer."""
        given = arguments or {"path": "x"}
        asked = {"type": "ask", "tool": f"{SERVER}/{tool}", "pin": pin(tool), "arguments": given}
        answer = self.send(asked, name)
        if answer["type"] != "permit":
            return answer
        return self.send({"type": "performed", "permit": answer["permit"]["id"], "fate": "done"}, name)

    def end(self, name: str = "one") -> int:
        """Its exit status, once it has one."""
        return self._order({"name": name})

    def _order(self, order: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def client(**more: Any) -> Iterator[Client]:
    command = [sys.executable, "-c", CLIENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more) as process:
        try:
            yield Client(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(WAIT_S)
