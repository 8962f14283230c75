"""What a route is given and what it answers: one HTTP request, one response, as values."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from forestall.core.model import NOTHING, Json


@dataclass(frozen=True, slots=True)
class Request:
    """A request that every reader understands alike. Its parts may hold secrets, so that `repr` shows few of them."""

    method: str
    path: str
    """As it was sent, escapes and all: a route is found by exactly this."""
    query: str = field(repr=False)
    """What stood behind the `?`; empty where nothing did."""
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name. Those that may come again are joined by `, `; of the others each came once."""
    body: bytes = field(repr=False)
    url: str = ""
    """Without query, for `htu` (RFC 9449, 4.2): of our own names, the one that the client asked for."""
    certificate: bytes | None = field(default=None, repr=False)
    """The client's, in DER. The connection proved its key, and that it leads to one of the authorities that we take:
    not to which of them, and not that it counts as anybody.
    """
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    """What the client sent with it, in DER, the certificate first. To be verified by whoever uses it."""


@dataclass(frozen=True, slots=True)
class Response:
    """`Cache-Control: no-store`, the length and what else every response has are not the route's to say."""

    status: int
    headers: Mapping[str, str] = field(default_factory=lambda: NOTHING, repr=False)
    body: bytes = field(default=b"", repr=False)


Route = Callable[[Request], Awaitable[Response]]
"""Runs on the decision point's loop, within a time; what it raises is a 500 of which the client learns nothing."""

Routes = Mapping[tuple[str, str], Route]
"""By method and path. `HEAD` is answered by the route for `GET`, and `OPTIONS` by the listener."""


def json_response(status: int, value: Json, headers: Mapping[str, str] = NOTHING) -> Response:
    """`value` as JSON (RFC 8259)."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status, {"Content-Type": "application/json", **headers}, body)
