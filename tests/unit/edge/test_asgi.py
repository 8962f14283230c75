"""The middleware, by hand: what the server says, what the application sees, what the client is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from forestall_edge.asgi import DemandPermits
from forestall_edge.gate import McpHttp
from forestall_edge.message import PERMIT, PROOF, Demand
from tests.edges import ARGUMENTS, Scene


class App:
    """Notes what it was asked, and answers in two parts."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.after: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] != "http":
            return
        first = await receive()
        assert first["more_body"] is False
        self.bodies.append(first["body"])
        self.after.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})


def ask(app: Any, *messages: Any, **scope: Any) -> list[Any]:
    sent: list[Any] = []
    given = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(given)

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {
        "type": "http",
        "method": "POST",
        "raw_path": b"/mcp",
        "query_string": b"",
        "headers": [(b"Content-Length", b"999"), (b"X", b"y")],
        **scope,
    }
    asyncio.run(app(whole, receive, send))
    return sent


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def guarded(scene: Scene, **more: Any) -> tuple[App, DemandPermits]:
    app = App()
    return app, DemandPermits(app, McpHttp(Demand(scene.verifier(), "files")), **more)


def call(**meta: str) -> bytes:
    params = {"name": "write", "arguments": dict(ARGUMENTS), "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": params}).encode()


def test_the_application_gets_what_was_verified_whole(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    app, guard = guarded(scene)
    token = scene.token()
    data = call(**{PERMIT: token, PROOF: scene.proof(token)})
    sent = ask(guard, body(data[:10], more=True), body(data[10:]))
    assert [part.get("body") for part in sent] == [None, b"a", b"b"]
    assert json.loads(app.bodies[0])["params"]["_meta"] == {}
    assert app.after == [{"type": "http.disconnect"}]
    assert dict(app.scopes[0]["headers"]) == {b"x": b"y", b"content-length": str(len(app.bodies[0])).encode()}
    refused = ask(guard, body(data))
    assert (refused[0]["status"], json.loads(refused[1]["body"])["id"]) == (403, "x")
    assert len(app.bodies) == 1
    assert "refused: burned" in caplog.text
    assert token not in caplog.text + str(refused)


def test_what_is_too_large_cut_or_of_another_kind_is_refused() -> None:
    app, guard = guarded(Scene(), max_body=100)
    assert ask(guard, body(b"a" * 60, more=True), body(b"a" * 60))[0]["status"] == 413
    assert ask(guard, body(b"a", more=True)) == []  # the client left
    assert ask(guard, body(b""), raw_path=None)[0]["status"] == 400
    assert ask(guard, body(b""), raw_path=b"/\xff")[0]["status"] == 400
    assert ask(guard, type="websocket") == [{"type": "websocket.close", "code": 1008}]
    with pytest.raises(ValueError, match="not known"):
        ask(guard, type="smoke")
    assert app.scopes == []


def test_lifespan_passes() -> None:
    app, guard = guarded(Scene())
    ask(guard, type="lifespan")
    assert app.scopes[0]["type"] == "lifespan"
