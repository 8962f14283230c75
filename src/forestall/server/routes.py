"""Everything that may be asked over HTTP, in one place."""

from __future__ import annotations

from forestall.server.http.message import Routes
from forestall.server.oauth.routes import routes as token_routes
from forestall.wire import Parts


def routes(parts: Parts) -> Routes:
    """By method and path."""
    return {**token_routes(parts)}
