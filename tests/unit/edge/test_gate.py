"""What of an HTTP request needs a permit, and what goes on once it had one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forestall.core.canonical import digest
from forestall.proof.possession import make_proof
from forestall_edge import Reason
from forestall_edge.gate import Incoming, McpHttp, Passed, PlainHttp, arguments_of
from forestall_edge.message import OPEN, PERMIT, PROOF, Demand
from tests.edges import ARGUMENTS, AUDIENCE, PIN, Scene, permit, refused
from tests.tokens import NOW


def message(**members: Any) -> dict[str, Any]:
    params = {"name": "write", "arguments": dict(ARGUMENTS), **members.pop("params", {})}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params, **members}


def post(body: Any, headers: Any = (), path: str = "/mcp") -> Incoming:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Incoming("POST", path, "", list(headers), data)


def headers(scene: Scene, token: str) -> list[tuple[bytes, bytes]]:
    return [(b"forestall-permit", token.encode()), (b"dpop", scene.proof(token).encode()), (b"accept", b"*/*")]


class TestMcp:
    def gate(self, scene: Scene, **more: Any) -> McpHttp:
        return McpHttp(Demand(scene.verifier(), "files", **more))

    def test_a_permit_in_meta_is_used_up_and_does_not_go_on(self) -> None:
        scene = Scene()
        token, gate = scene.token(), self.gate(scene)
        meta = {PERMIT: token, PROOF: scene.proof(token), "progressToken": 7}
        request = post(message(params={"_meta": meta}))
        passed = gate.check(request)
        assert json.loads(passed.body)["params"] == {
            "name": "write",
            "arguments": dict(ARGUMENTS),
            "_meta": {"progressToken": 7},
        }
        with refused(Reason.BURNED, token):
            gate.check(request)
        assert token not in gate.answer(request).decode()
        assert json.loads(gate.answer(request))["id"] == 1

    def test_a_permit_in_headers_too(self) -> None:
        scene = Scene()
        token = scene.token()
        passed = self.gate(scene).check(post(message(), headers(scene, token)))
        assert passed.headers == [(b"accept", b"*/*")]

    def test_both_are_refused_and_so_is_half(self) -> None:
        scene = Scene()
        token, gate = scene.token(), self.gate(scene)
        meta = {PERMIT: token, PROOF: scene.proof(token)}
        shown = headers(scene, token)
        for request in (
            post(message(params={"_meta": meta}), shown),
            post(message()),
            post(message(), shown[:1]),
            post(message(), [*shown, shown[0]]),
            post(message(), [*shown, shown[1]]),
            post(message(params={"_meta": {PERMIT: token}})),
            post(message(params={"_meta": {**meta, PROOF: 1}})),
        ):
            with refused(Reason.MISSING, token):
                gate.check(request)
        gate.check(post(message(), shown))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{",
            b"\xff",
            [message()],
            message(Method="tools/list"),
            b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
            b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1,"A":2}}',
            b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud800"}}',
            {"jsonrpc": "2.0", "id": 1},
            message(params={"arguments": []}),
            message(params={"name": ""}),
            message(params={"_meta": []}),
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": []},
            b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 70 + b"1" + b"}" * 71,
        ],
    )
    def test_what_has_more_than_one_reading_is_refused(self, body: Any) -> None:
        scene = Scene()
        token = scene.token()
        with refused(Reason.BAD_ARGUMENTS, token):
            self.gate(scene).check(post(body, headers(scene, token)))

    @pytest.mark.parametrize("method", sorted(OPEN))
    def test_what_greets_and_lists_passes(self, method: str) -> None:
        body = {"jsonrpc": "2.0", "id": 1, "method": method}
        assert json.loads(self.gate(Scene()).check(post(body)).body) == body

    @pytest.mark.parametrize("method", ["resources/read", "prompts/get", "Tools/Call", "tools/call ", "", "x"])
    def test_no_other_method_passes(self, method: str) -> None:
        with refused(Reason.NOT_OPEN):
            self.gate(Scene()).check(post({"jsonrpc": "2.0", "id": 1, "method": method}))

    def test_a_call_is_never_open(self) -> None:
        with refused(Reason.MISSING):
            self.gate(Scene(), open=OPEN | {"tools/call"}).check(post(message()))

    def test_answers_streams_and_ends_pass(self) -> None:
        gate = self.gate(Scene())
        body = {"jsonrpc": "2.0", "id": 1, "result": {}}
        assert json.loads(gate.check(post(body)).body) == body
        assert gate.check(Incoming("GET", "/mcp", "", [], b"")) == Passed([], b"")
        assert gate.check(Incoming("DELETE", "/mcp", "", [], b"")) == Passed([], b"")

    def test_another_path_method_or_body_is_refused(self) -> None:
        gate = self.gate(Scene())
        for path in ("/", "/mcp/", "/MCP", "/mcp/../admin", "//mcp"):
            with refused(Reason.NOT_OPEN):
                gate.check(Incoming("GET", path, "", [], b""))
        with refused(Reason.NOT_OPEN):
            gate.check(Incoming("PUT", "/mcp", "", [], b""))
        with refused(Reason.BAD_ARGUMENTS):
            gate.check(Incoming("GET", "/mcp", "", [], b"{}"))

    def test_pins_and_hidden_arguments(self) -> None:
        scene = Scene()
        one, two = scene.token(), scene.token(permit(id="two"))
        gate = self.gate(scene, pins={"write": PIN}, hidden=frozenset({"secret"}))
        sent = message(params={"arguments": {**ARGUMENTS, "secret": "s"}})
        passed = gate.check(post(sent, headers(scene, one)))
        assert json.loads(passed.body)["params"]["arguments"]["secret"] == "s"
        for pins in ({}, {"write": "sha256:" + "0" * 64}):
            with refused(Reason.OTHER_PIN):
                self.gate(scene, pins=pins).check(post(message(), headers(scene, two)))


class TestPlain:
    API = "https://orders.example"

    def shown(self, scene: Scene, request: Incoming, template: str, number: str = "permit-1") -> Incoming:
        made = permit(id=number, tool=f"orders/{template}", digest=digest(arguments_of(request)))
        token = scene.token(made, audience=self.API)
        proof = make_proof(
            scene.holder.key,
            method=request.method,
            url=self.API + request.path,
            now=NOW,
            jti="j",
            access_token=token,
            nonce=None,
        )
        added = [(b"forestall-permit", token.encode()), (b"dpop", proof.encode())]
        return Incoming(request.method, request.path, request.query, [*request.headers, *added], request.body)

    def gate(self, scene: Scene) -> PlainHttp:
        verifier = scene.verifier(audience=self.API)
        return PlainHttp(verifier, "orders", ["POST /orders", "GET /orders/{order}"], ["GET /health"])

    def test_a_request_passes_once_with_its_permit(self) -> None:
        scene = Scene()
        gate = self.gate(scene)
        request = self.shown(
            scene, Incoming("GET", "/orders/4711", "full=1", [(b"a", b"b")], b""), "GET /orders/{order}"
        )
        assert gate.check(request) == Passed([(b"a", b"b")], b"")
        with refused(Reason.BURNED):
            gate.check(request)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"path": "/orders/4712"}, Reason.OTHER_REQUEST),
            ({"query": "full=2"}, Reason.OTHER_ARGUMENTS),
            ({"body": b"x"}, Reason.OTHER_ARGUMENTS),
            ({"method": "POST"}, Reason.NOT_OPEN),
            ({"path": "/orders"}, Reason.NOT_OPEN),
            ({"path": "/orders/"}, Reason.NOT_OPEN),
            ({"path": "/orders/4711/x"}, Reason.NOT_OPEN),
            ({"path": "/orders/.."}, Reason.NOT_OPEN),
            ({"path": "/orders/%2e%2E"}, Reason.NOT_OPEN),
            ({"path": "/orders/a%2Fb"}, Reason.NOT_OPEN),
            ({"path": "/orders/a%5Cb"}, Reason.NOT_OPEN),
            ({"path": "//orders/4711"}, Reason.NOT_OPEN),
            ({"path": "/orders/a\\b"}, Reason.NOT_OPEN),
            ({"path": "/orders/%zz"}, Reason.NOT_OPEN),
            ({"path": "/health/../orders/1"}, Reason.NOT_OPEN),
            ({"path": "http://other/orders/4711"}, Reason.NOT_OPEN),
        ],
    )
    def test_another_request_does_not(self, changes: dict[str, Any], reason: Reason) -> None:
        from dataclasses import replace

        scene = Scene()
        request = self.shown(scene, Incoming("GET", "/orders/4711", "full=1", [], b""), "GET /orders/{order}")
        with refused(reason):
            self.gate(scene).check(replace(request, **changes))

    def test_what_is_open_passes_and_nothing_else_without_a_permit(self) -> None:
        gate = self.gate(Scene())
        other = [(b"dpop", b"of another token")]
        assert gate.check(Incoming("GET", "/health", "", other, b"")) == Passed(other, b"")
        for method, path in (("GET", "/orders/1"), ("POST", "/orders")):
            with refused(Reason.MISSING):
                gate.check(Incoming(method, path, "", other, b""))

    @pytest.mark.parametrize("template", ["", "GET", "get /a", "GET a", "GET /a b", "GET /{A}", "GET /%2", "GET /a?b"])
    def test_a_template_that_is_none_is_refused(self, template: str) -> None:
        with pytest.raises(ValueError, match="is not like"):
            PlainHttp(Scene().verifier(), "orders", [template])


def test_the_audience_is_where_mcp_is_spoken() -> None:
    assert AUDIENCE.endswith("/mcp")


def test_no_list_of_open_methods_opens_calls() -> None:
    with refused(Reason.NOT_OPEN):
        Demand(Scene().verifier(), "files", open=frozenset({"tools/call"})).require_open("tools/call")
