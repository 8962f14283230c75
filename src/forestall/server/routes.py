"""Everything that may be asked over HTTP, in one place."""

from __future__ import annotations

from forestall.server.http.message import Routes
from forestall.wire import Parts


def routes(parts: Parts) -> Routes:  # noqa: ARG001
    """By method and path."""
    return {}
