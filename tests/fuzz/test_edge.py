"""Whatever comes to a resource, it is refused for a reason of the closed set, or passes as what needs no permit."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forestall.proof.jws import sign_with
from forestall_edge import Refused, read_trust
from forestall_edge.gate import Incoming, McpHttp, PlainHttp
from forestall_edge.message import OPEN, Demand
from forestall_edge.permit import read_permit
from tests.edges import SIGNING, Scene

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "iss",
    "aud",
    "sub",
    "jti",
    "iat",
    "exp",
    "nbf",
    "task",
    "tool",
    "pin",
    "arguments",
    "policy",
    "epoch",
    "effects",
]
CLAIMS = st.dictionaries(st.sampled_from([*NAMES, "cnf", "refs", "instance"]) | st.text(max_size=4), JSON)
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0")},
    optional={
        "id": JSON,
        "method": st.sampled_from(["tools/call", *sorted(OPEN), "resources/read"]) | JSON,
        "params": JSON | st.fixed_dictionaries({"name": JSON, "arguments": JSON, "_meta": JSON}),
        "result": JSON,
        "Method": JSON,
    },
)
HEADERS = st.lists(st.tuples(st.sampled_from([b"forestall-permit", b"dpop", b"x"]), st.binary(max_size=30)), max_size=4)
SCENE = Scene()
MCP = McpHttp(Demand(SCENE.verifier(), "files"))
PLAIN = PlainHttp(SCENE.verifier(), "files", ["POST /a/{b}"], ["GET /c"])


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_keys(data: bytes) -> None:
    with suppress(Refused):
        assert read_trust(data).issuer


@given(CLAIMS)
def test_claims(claims: dict[str, Any]) -> None:
    try:
        read_permit(claims)
    except Refused:
        return
    raise AssertionError("a permit of chance")


@given(CLAIMS)
def test_signed_claims(claims: dict[str, Any]) -> None:
    header = {"alg": "ES256", "kid": SIGNING.public.kid, "typ": "forestall-permit+jwt"}
    try:
        SCENE.verify(sign_with(header, json.dumps(claims).encode(), SIGNING), proof="a.b.c")
    except Refused:
        return
    raise AssertionError("a permit of chance")


@given(st.binary(max_size=100) | MESSAGES.map(lambda value: json.dumps(value).encode()), HEADERS)
def test_messages(body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    request = Incoming("POST", "/mcp", "", headers, body)
    try:
        passed = MCP.check(request)
    except Refused:
        assert isinstance(json.loads(MCP.answer(request)), dict)
        return
    message = json.loads(passed.body)
    assert message.get("method", "") in {*OPEN, ""}
    assert message == json.loads(body) or str(message) == str(json.loads(body))  # NaN is no number here


@given(st.sampled_from(["GET", "POST", "get"]), st.text(max_size=12).map(lambda text: "/" + text), HEADERS)
def test_paths(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> None:
    try:
        PLAIN.check(Incoming(method, path, "", headers, b""))
    except Refused:
        return
    assert (method, path) == ("GET", "/c")
