"""For servers on the Python MCP SDK (2.x), whatever their transport: no tool runs without a permit.

server = MCPServer("files")
demand_permits(server, Demand(verifier, "files"))
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from forestall_edge.message import CALL, ERROR, PERMIT, PROOF, SENTENCE, Demand
from forestall_edge.refusal import Refused

_log = logging.getLogger("forestall_edge")


class PermitMiddleware:
    """A `ServerMiddleware`. The handler gets what was verified, and nothing of the permit."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Raises MCPError: refused."""
        try:
            if ctx.method != CALL:
                self._demand.require_open(ctx.method)
                return await call_next(ctx)
            params = await anyio.to_thread.run_sync(self._demand.require_permit, ctx.params)
        except Refused as refused:
            _log.warning("refused: %s", refused)
            raise MCPError(ERROR, SENTENCE) from None
        meta: Any = {name: value for name, value in (ctx.meta or {}).items() if name not in {PERMIT, PROOF}}
        return await call_next(replace(ctx, params=params, meta=meta or None))


def demand_permits(server: Server[Any] | MCPServer[Any], demand: Demand) -> None:
    """From now on. Call it last: it goes before every other middleware, so that nothing is done for who is refused."""
    server.middleware.insert(0, PermitMiddleware(demand))
