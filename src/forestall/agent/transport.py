"""One request to the decision point, over TLS that was verified, within bounds of time and size."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from forestall.core.errors import SetupError, Unavailable
from forestall.proof.url import require_issuer_url

SILENCE_S = 15.0
"""Seconds without a byte. An answer may wait for a disk, and for the keys of an issuer."""

MAX_ANSWER = 262_144
"""Bytes. A grant has at most about 20,000."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = field(repr=False)


class Transport:
    """A connection for each request: none is held between them."""

    def __init__(self, url: str, *, ca_file: Path | None, show: Callable[[ssl.SSLContext], bool]) -> None:
        """Raises SetupError: `url` is not https, nor http on this machine."""
        try:
            self.url = require_issuer_url(url, loopback=True).rstrip("/")
        except ValueError as error:
            raise SetupError(f"{url!r:.200} cannot be a decision point: {error}.") from None
        self._ca_file, self._show = ca_file, show

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises Unavailable: it was not reached, is not who it should be, or did not answer; SetupError."""
        parts = urlsplit(self.url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        context = self._context() if secure else None
        try:
            with socket.create_connection((host, port), timeout=SILENCE_S) as plain:
                if context is None:
                    _require_loopback(plain)
                    return self._ask(plain, parts.path + path, body, headers)
                with context.wrap_socket(plain, server_hostname=host) as secured:
                    return self._ask(secured, parts.path + path, body, headers)
        except ssl.SSLCertVerificationError:
            raise Unavailable(f"{host} is not who it should be; name its authority with `ca_file`.") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"The decision point at {self.url} does not answer: {type(error).__name__}.") from None

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ValueError):
            raise SetupError(f"{self._ca_file} does not hold certificates in PEM.") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._show(context)
        return context

    def _ask(self, line: socket.socket, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc)
        connection.sock = line
        connection.request("POST", path, body=body, headers={**headers, "Connection": "close"})
        with connection.getresponse() as answer:
            data = answer.read(MAX_ANSWER + 1)
            if len(data) > MAX_ANSWER or answer.length:
                raise http.client.IncompleteRead(data[:0])
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)


def _require_loopback(plain: socket.socket) -> None:
    if not ipaddress.ip_address(plain.getpeername()[0]).is_loopback:
        raise ConnectionError("an http address that leads to another machine")
