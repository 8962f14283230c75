"""A program that serves documents over HTTPS on this machine, and is asked by lines of JSON on its input."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BODY = 3 * 1024 * 1024
"""Bytes, as a Kubernetes API server has it."""

Answer = tuple[int, Mapping[str, Any]]
"""The status, and the document."""


class Site:
    """What is served and asked: of one thing at a time."""

    issuer = ""
    """Where it is."""

    def get(self, path: str, bearer: str) -> Answer:
        raise NotImplementedError

    def post(self, path: str, bearer: str, document: Any) -> Answer:
        del path, bearer, document
        return 405, {}

    def ask_start(self) -> dict[str, Any]:
        return {"issuer": self.issuer}


def run(site: Site) -> None:
    """Until nobody asks any more. The arguments are the files of a certificate and of its key."""
    certificate, key = sys.argv[1:]
    lock = threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site, lock))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    site.issuer = f"https://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        asked = json.loads(line)
        with lock:
            answer = getattr(site, f"ask_{asked.pop('ask')}")(**asked)
        print(json.dumps(answer), flush=True)


def _handler(site: Site, lock: threading.Lock) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(lambda bearer: site.get(self.path, bearer))

        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), MAX_BODY)))
            self._say(lambda bearer: site.post(self.path, bearer, document))

        def log_message(self, *_: Any) -> None: ...

        def _say(self, answer: Callable[[str], Answer]) -> None:
            kind, _, bearer = self.headers.get("Authorization", "").partition(" ")
            with lock:
                status, document = answer(bearer if kind == "Bearer" else "")
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
