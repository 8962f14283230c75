"""Permits over HTTP, with real servers: the MCP SDK behind the middleware, and servers nobody can change behind the
proxy. Nothing is simulated but the decision point, whose permits are its own code's.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer

from forestall.core.canonical import digest
from forestall.pep.presenting import Presenter
from forestall.proof.permit import sign_permit
from forestall_edge import FixedKeys, SqliteBurns, Verifier, read_trust
from forestall_edge.asgi import DemandPermits
from forestall_edge.gate import McpHttp, PlainHttp
from forestall_edge.message import Demand
from forestall_edge.proxy import Limits, Proxy, Upstream
from tests.edges import AUDIENCE, SIGNING, document, edge, permit
from tests.tokens import stream

pytestmark = pytest.mark.slow

WITHIN_S = 60.0
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def wall() -> int:
    return time.time_ns() // 1_000_000


class Agent:
    """An enforcement point's hands: it calls with permits that a decision point would give."""

    def __init__(self) -> None:
        self.holder = Presenter.make(stream("gateway"), wall, lambda: os.urandom(8).hex())

    def headers(self, name: str, arguments: dict[str, Any], server: str = "files") -> dict[str, str]:
        made = replace(
            permit(id=os.urandom(8).hex(), tool=f"{server}/{name}", digest=digest(arguments)),
            expires_at=wall() + 10_000,
        )
        token = sign_permit(made, edge(self.holder), SIGNING, wall())
        return {"forestall-permit": token, "dpop": self.holder.present(token, AUDIENCE)}


def verifier(folder: Path) -> Verifier:
    burns = SqliteBurns(folder / "burns", lambda: time.time() - 60)
    return Verifier(FixedKeys(read_trust(document())), AUDIENCE, burns, skew_s=0)


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """A real server of this loop."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


def mcp_app(ran: list[str]) -> Any:
    server: MCPServer = MCPServer("files")

    @server.tool()
    def write(path: str) -> str:
        """Write a file."""
        ran.append(path)
        return path

    return server.streamable_http_app(json_response=True, stateless_http=True)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await asyncio.wait_for(scenario(), WITHIN_S * 2)

    asyncio.run(whole())


def call(path: str) -> dict[str, Any]:
    params = {"name": "write", "arguments": {"path": path}}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


async def exercise(url: str, ran: list[str]) -> None:
    """The same of the middleware and of the proxy."""
    agent = Agent()
    async with httpx.AsyncClient(base_url=url, headers=ACCEPT, timeout=WITHIN_S, trust_env=False) as client:
        listed = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 0, "method": "tools/list"})
        assert [tool["name"] for tool in listed.json()["result"]["tools"]] == ["write"]
        shown = agent.headers("write", {"path": "/a"})
        done = await client.post("/mcp", json=call("/a"), headers=shown)
        assert done.status_code == 200
        assert done.json()["result"]["content"][0]["text"] == "/a"
        for body, headers in (
            (call("/b"), {}),
            (call("/a"), shown),
            (call("/b"), agent.headers("write", {"path": "/a"})),
            (call("/a"), agent.headers("remove", {"path": "/a"})),
        ):
            refused = await client.post("/mcp", json=body, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, -32010)
        assert (await client.get("/other")).status_code == 403
    assert ran == ["/a"]


def test_the_middleware_before_a_real_mcp_server(tmp_path: Path) -> None:
    ran: list[str] = []

    async def scenario() -> None:
        app = DemandPermits(mcp_app(ran), McpHttp(Demand(verifier(tmp_path), "files")))
        async with serving(app) as url:
            await exercise(url, ran)

    play(scenario)


def test_the_proxy_before_a_real_mcp_server(tmp_path: Path) -> None:
    ran: list[str] = []

    async def scenario() -> None:
        async with serving(mcp_app(ran)) as upstream:
            gate = McpHttp(Demand(verifier(tmp_path), "files"))
            async with proxied(Proxy(gate, Upstream.at(upstream))) as url:
                await exercise(url, ran)

    play(scenario)


@asynccontextmanager
async def proxied(proxy: Proxy) -> AsyncIterator[str]:
    server = await proxy.serve("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class Upper:
    """A server nobody can change: it shows what it was sent, streams, or fails, as the path says."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.go = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.seen.append(head + body)
        path = head.split()[1]
        if path == b"/slow":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: x\r\n\r\n3\r\none\r\n")
            await writer.drain()
            await self.go.wait()
            writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        elif path == b"/endless":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nfirst")
            await writer.drain()
            await reader.read()
            self.left.set()
        elif path == b"/cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive5")
        elif path == b"/garbage":
            writer.write(b"what is this\r\n\r\n")
        elif path == b"/upgrade":
            writer.write(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n")
        elif path != b"/nothing":
            writer.write(b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\nX-Own: yes\r\n\r\nok")
        writer.close()


PATHS = ("slow", "endless", "cut", "garbage", "upgrade", "nothing", "echo")


@asynccontextmanager
async def before(upper: Upper, folder: Path, **limits: Any) -> AsyncIterator[str]:
    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    open_ = [f"{method} /{path}" for path in PATHS for method in ("GET", "POST", "HEAD")]
    gate = PlainHttp(verifier(folder), "files", ["POST /orders"], open_)
    try:
        async with proxied(Proxy(gate, Upstream.at(url), Limits(**limits))) as address:
            yield address
    finally:
        server.close()


def client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=WITHIN_S, trust_env=False)


def test_an_answer_is_streamed_as_it_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        upper = Upper()
        async with before(upper, tmp_path) as url, client(url) as web, web.stream("GET", "/slow") as answer:
            parts = answer.aiter_raw()
            assert await anext(parts) == b"one"
            upper.go.set()
            assert await anext(parts) == b"two"
            assert "keep-alive" not in answer.headers

    play(scenario)


def test_a_client_that_leaves_ends_the_upstream_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        upper = Upper()
        async with before(upper, tmp_path) as url:
            async with client(url) as web, web.stream("GET", "/endless") as answer:
                assert await anext(answer.aiter_raw()) == b"first"
            await asyncio.wait_for(upper.left.wait(), WITHIN_S)

    play(scenario)


def test_what_is_of_one_connection_or_of_the_permit_stays_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        upper = Upper()
        async with before(upper, tmp_path) as url, client(url) as web:
            headers = {
                "forestall-permit": "mine",
                "dpop": "mine",
                "connection": "x-secret",
                "x-secret": "s",
                "x-other": "o",
                "te": "trailers",
            }
            answer = await web.post("/echo?a=b", content=b"hello", headers=headers)
            assert (answer.status_code, answer.text, answer.headers["x-own"]) == (201, "ok", "yes")
            again = await web.head("/echo")
            assert again.status_code == 201
        sent = upper.seen[0].lower()
        assert sent.startswith(b"post /echo?a=b http/1.1\r\n")
        assert sent.endswith(b"\r\n\r\nhello")
        for name in (b"mine", b"x-secret:", b"te:", b"forestall"):
            assert name not in sent
        assert b"x-other: o" in sent
        assert b"host: 127.0.0.1:" in sent

    play(scenario)


@pytest.mark.parametrize("path", ["/garbage", "/upgrade", "/nothing"])
def test_an_upstream_that_does_not_answer_is_a_502(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with before(Upper(), tmp_path) as url, client(url) as web:
            assert (await web.get(path)).status_code == 502

    play(scenario)


def test_an_answer_that_is_cut_is_not_whole_here_either(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with before(Upper(), tmp_path) as url, client(url) as web:
            with pytest.raises(httpx.RemoteProtocolError):
                await web.get("/cut")

    play(scenario)


def test_an_upstream_that_is_not_there_is_a_502(tmp_path: Path) -> None:
    async def scenario() -> None:
        gate = PlainHttp(verifier(tmp_path), "files", [], ["GET /echo"])
        async with proxied(Proxy(gate, Upstream.at("http://127.0.0.1:1"))) as url, client(url) as web:
            assert (await web.get("/echo")).status_code == 502

    play(scenario)


async def raw(url: str, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET http://other/echo HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"400"),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n" + b"a" * 101, b"413"),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n" + b"a" * 128 + b"\r\n", b"413"),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 5000 + b"\r\n\r\n", b"431"),
    ],
)
def test_a_request_that_is_none_or_too_much_goes_nowhere(tmp_path: Path, data: bytes, status: bytes) -> None:
    async def scenario() -> None:
        upper = Upper()
        async with before(upper, tmp_path, body=100, head=4096) as url:
            assert (await raw(url, data)).split()[1] == status
        assert upper.seen == []

    play(scenario)


def test_slow_and_too_many_clients_are_let_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with before(Upper(), tmp_path, request_s=1.0, connections=1) as url:
            first = asyncio.create_task(raw(url, b"GET /echo HTT"))
            await asyncio.sleep(0)
            assert await first == b""
            assert b"201" in (await raw(url, b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))

    play(scenario)


# -- the command


@contextmanager
def command(*words: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "forestall_edge.cli", *words]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def words(folder: Path, upstream: str) -> list[str]:
    (folder / "keys.json").write_bytes(document())
    SqliteBurns(folder / "burns", lambda: time.time() - 60).close()
    known = ["--server", "files", "--audience", AUDIENCE, "--skew", "0"]
    files = ["--keys", str(folder / "keys.json"), "--burns", str(folder / "burns")]
    return ["proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, *known, *files]


def test_the_command_serves_and_stops(tmp_path: Path) -> None:
    ran: list[str] = []

    async def scenario() -> None:
        async with serving(mcp_app(ran)) as upstream:
            with command(*words(tmp_path, upstream)) as process:
                line = await asyncio.to_thread(process.stderr.readline)
                await exercise("http://" + line.split()[-1], ran)
                process.send_signal(signal.SIGTERM)
                said = await asyncio.to_thread(process.stderr.read)
                assert process.wait(WITHIN_S) == 0
                assert "refused: burned" in said

    play(scenario)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"--listen": "here"}, 64, "an address and a port"),
        ({"--upstream": "ftp://a"}, 64, "http or https"),
        ({"--keys": "/nowhere"}, 69, "the keys are not there"),
        ({"--keys": "http://keys.example/"}, 64, "https address"),
        ({"--burns": "/nowhere/burns"}, 69, "cannot be used"),
        ({"--certificate": "a"}, 64, "go together"),
        ({"--nonsense": "a"}, 64, "unrecognized"),
    ],
)
def test_a_command_line_that_is_wrong_says_why(tmp_path: Path, change: dict[str, str], code: int, says: str) -> None:
    given = words(tmp_path, "http://127.0.0.1:1")
    for name, value in change.items():
        given = (
            [*given[: given.index(name) + 1], value, *given[given.index(name) + 2 :]]
            if name in given
            else [*given, name, value]
        )
    done = subprocess.run(
        [sys.executable, "-m", "forestall_edge.cli", *given],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert json.loads(document())["issuer"] not in done.stderr
