"""An MCP client, and the gateway that it starts before its server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WAIT_S = 60.0
"""Seconds after which something that has to happen has failed to."""

SHOP = (sys.executable, str(Path(__file__).with_name("shop.py")))


def gateway(home: Path, grant: Path, python: str = sys.executable) -> list[str]:
    words = [python, "-m", "forestall.cli", "gateway", "--home", str(home), "--grant", str(grant)]
    return [*words, "shop", "--", *SHOP]


class Session:
    """An MCP client of bytes, and the gateway that it started."""

    def __init__(self, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))
        self._count = 0
        info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "interop", "version": "1"}}
        self._ask("initialize", info)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`text`, where it was permitted; else `reason`, as the client sees it."""
        answer = self._ask("tools/call", {"name": tool, "arguments": dict(arguments)})
        result = answer["result"]
        if result.get("isError"):
            told = result.get("_meta", {}).get("forestall/decision") or result.get("structuredContent", {})
            return {"reason": told.get("reason", ""), "result": result}
        return {"text": result["content"][0]["text"]}

    def close(self) -> int:
        """The gateway's exit code."""
        assert self._process.stdin is not None, "asked for above"
        assert self._process.stdout is not None, "asked for above"
        self._process.stdin.close()
        try:
            return self._process.wait(WAIT_S)
        finally:
            self._process.kill()
            self._process.stdout.close()

    def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdout is not None, "asked for above"
        self._count += 1
        self._send({"jsonrpc": "2.0", "id": self._count, "method": method, "params": params})
        for line in self._process.stdout:
            message: dict[str, Any] = json.loads(line)
            if message.get("id") == self._count and "method" not in message:
                return message
        raise RuntimeError(f"The gateway ended with {self._process.wait()}; its complaint is above.")

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None, "asked for above"
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
