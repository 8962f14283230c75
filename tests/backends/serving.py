"""A backend of ours as a process of its own, over real HTTP: reads its settings from its first line of input, says its
port in its first line of output, and ends with its input. Shares no code with what is tested.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    """As it was sent, without its query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def bearer(self) -> str:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() in {"bearer", "token"} else ""


@dataclass(frozen=True)
class Said:
    status: int
    body: Any = None
    """JSON; None for an answer without a body."""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    def __init__(self, said: Said) -> None:
        super().__init__(str(said.status))
        self.said = said


def serve(answer: Callable[[Mapping[str, Any]], Callable[[Asked], Said]]) -> None:
    """`answer` makes of the settings what answers one request, from several threads at once."""
    respond = answer(json.loads(sys.stdin.readline()))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            said = self._said()
            data = b"" if said.body is None else json.dumps(said.body).encode()
            self.close_connection = True
            self.send_response(said.status)
            for name, value in {"Content-Type": "application/json", **said.headers}.items():
                self.send_header(name, value)
            if said.status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that the base class looks for

        def _said(self) -> Said:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                return respond(Asked(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body))
            except Refusal as refusal:
                return refusal.said

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
