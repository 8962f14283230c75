"""What verifiers of permits go by, over HTTP (docs/edge.md). Nothing in it is secret."""

from __future__ import annotations

from forestall.server.http.message import Request, Response, Routes, json_response
from forestall.wire import Parts

PATH = "/.well-known/forestall-permits.json"


def permit_routes(parts: Parts) -> Routes:
    """None where no server demands permits."""
    if not parts.permits.servers:
        return {}

    async def document(_request: Request) -> Response:
        return json_response(200, parts.permits.document(parts.state.epoch, parts.now()))

    return {("GET", PATH): document}
