"""A gateway process, and a client of bytes to talk to it. Every wait has a bound."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

PLAIN = [sys.executable, str(Path(__file__).with_name("plain_server.py"))]
WITHIN_S = 60.0


class Session:
    """Either a server of its own, or one behind the gateway: the same to a client."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self._buffer = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
            self.process.stderr.close()
            self._selector.close()

    def write(self, line: bytes) -> None:
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def send(self, value: object) -> None:
        self.write(json.dumps(value).encode())

    def call(self, identity: object, name: str, **arguments: Any) -> None:
        params = {"name": name, "arguments": arguments}
        self.send({"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": params})

    def line(self, seconds: float = WITHIN_S) -> bytes:
        """The next line; empty at the end."""
        until = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            assert self._selector.select(max(0.0, until - time.monotonic())), "no line came in time"
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                return b""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def read(self) -> Any:
        line = self.line()
        return json.loads(line) if line else None

    def answer_to(self, identity: object) -> Any:
        """Skip what comes before the answer to `identity`."""
        while (message := self.read()) is not None:
            if "method" not in message and message.get("id") == identity:
                return message
        raise AssertionError("the session ended before it answered")

    def initialize(self, version: str = "2025-11-25") -> Any:
        info = {"name": "test-client", "version": "1.0"}
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": info}
        self.send({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params})
        answer = self.answer_to("init")
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def end(self) -> tuple[int, str]:
        """The client leaves. The exit status, and what was said on standard error."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        status = self.process.wait(WITHIN_S)
        return status, self.process.stderr.read().decode()


def gateway(home: Path, command: Sequence[str] = PLAIN, *options: str, name: str = "plain") -> list[str]:
    return [sys.executable, "-m", "forestall.cli", "gateway", "--home", str(home), *options, name, "--", *command]


def decision(answer: Any) -> dict[str, Any]:
    """What a denial says; fails where the answer is none. It stands elsewhere where the tool has an `outputSchema`."""
    result = answer["result"]
    assert result["isError"] is True
    return dict(result["structuredContent"] if "structuredContent" in result else result["_meta"]["forestall/decision"])
