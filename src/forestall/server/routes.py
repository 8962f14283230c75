"""Everything that may be asked over HTTP, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from forestall.core.control import Command
from forestall.server.http.message import Routes
from forestall.server.oauth.routes import routes as token_routes
from forestall.server.permit_routes import permit_routes
from forestall.server.signals.routes import routes as signal_routes
from forestall.wire import Parts


def routes(parts: Parts, give: Callable[[Command], Awaitable[object]], say: Callable[[str], None]) -> Routes:
    """By method and path. `give` carries an order out; `say` takes a sentence for the operator, without a full stop."""
    return {**token_routes(parts), **signal_routes(parts, give, say), **permit_routes(parts)}
