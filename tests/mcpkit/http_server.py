"""The SDK's server of `full_server.py` over Streamable HTTP: `http_server.py json|events [TOKEN]`. Prints its port.

With a TOKEN, a request without `Authorization: Bearer TOKEN` gets 401. `SEEN` names a file that gets a line of JSON for
each request: its method, and its headers.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

from tests.mcpkit.full_server import server

Scope = dict[str, Any]


class Door:
    def __init__(self, inner: Any, token: str) -> None:
        self._inner, self._token = inner, token

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        note({"verb": scope["method"], **headers})
        if self._token and headers.get("authorization") != f"Bearer {self._token}":
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"who are you?"})
            return
        await self._inner(scope, receive, send)


def note(seen: dict[str, str]) -> None:
    if path := os.environ.get("SEEN"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(seen) + "\n")


def main() -> None:
    kind, token = sys.argv[1], (sys.argv[2:] or [""])[0]
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    app = Door(server.streamable_http_app(json_response=kind == "json"), token)
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])


main()
