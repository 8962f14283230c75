"""The token service over HTTP (docs/tokens.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from forestall.core.errors import Unavailable
from forestall.server.http.message import Request, Response, Route, Routes
from forestall.server.oauth.answer import refused
from forestall.server.oauth.introspect import introspect
from forestall.server.oauth.metadata import jwks, metadata
from forestall.server.oauth.refusal import Refusal
from forestall.server.oauth.revoke import revoke
from forestall.server.oauth.service import Service, refusal_of
from forestall.server.oauth.token import token
from forestall.wire import Parts

Endpoint = Callable[[Service, Request], Awaitable[Response]]

ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
    ("POST", "/token"): token,
    ("POST", "/introspect"): introspect,
    ("POST", "/revoke"): revoke,
    ("GET", "/.well-known/oauth-authorization-server"): metadata,
    ("GET", "/.well-known/jwks.json"): jwks,
}


def routes(parts: Parts) -> Routes:
    """By method and path. They run on the decision point's loop."""
    service = Service(parts)
    return {name: _route(service, name[1], endpoint) for name, endpoint in ENDPOINTS.items()}


def _route(service: Service, path: str, endpoint: Endpoint) -> Route:
    async def route(request: Request) -> Response:
        """Whatever is refused is recorded, and told in a few words."""
        try:
            return await endpoint(service, request)
        except Refusal as error:
            refusal = error
        except Unavailable as error:
            refusal = refusal_of(error, None)
        return refused(refusal, await service.record_refusal(refusal, path), service.nonces.current(service.now()))

    return route
