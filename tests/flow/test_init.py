"""`forestall init` on real servers from PyPI, and a real client through what it set up."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from forestall import catalogue, cli
from forestall.core.effects import Confidence, Effect
from forestall.home import Home
from tests.evidence import require_verified
from tests.flow.test_remote import served
from tests.mcpkit.home import stop
from tests.unit.setup import scripted

BIN = Path(sys.executable).parent
WAIT_S = 60

pytestmark = pytest.mark.slow


@pytest.fixture
def home() -> Iterator[Home]:
    root = Path(tempfile.mkdtemp(prefix="fh-"))  # short: a socket's path holds 107 bytes
    home = Home(root)
    try:
        yield home
    finally:
        stop(home)
        require_verified(root)
        shutil.rmtree(root)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path / "project"], check=True)
    servers = {
        "git": {"command": str(BIN / "mcp-server-git"), "args": ["--repository", str(tmp_path / "project")]},
        "fetch": {"command": str(BIN / "mcp-server-fetch")},
        "time": {"command": sys.executable, "args": ["-m", "mcp_server_time"]},
    }
    path = tmp_path / ".mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}, indent=4))
    return path


async def with_session(configuration: str, name: str, use: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    """What `use` makes of a session with the server as the client's configuration starts it."""
    server = json.loads(configuration)["mcpServers"][name]
    parameters = StdioServerParameters(command=server["command"], args=server["args"])
    async with asyncio.timeout(WAIT_S), stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await session.initialize()
        return await use(session)


def call(file: Path, name: str, tool: str, arguments: dict[str, Any]) -> Any:
    return asyncio.run(with_session(file.read_text(), name, lambda session: session.call_tool(tool, arguments)))


def test_the_shipped_reviews_fit_the_servers(home: Home, file: Path) -> None:
    assert cli.main(["init", "--home", str(home.root), str(file), "--yes"]) == 0
    known = catalogue.load(home.catalogue)
    assert {tool.confidence for tool in known.all()} == {Confidence.DECLARED}
    effects = {tool.id: tool.effects for tool in known.all()}
    assert effects["git/git_status"] == effects["time/convert_time"] == {Effect.READ}
    assert effects["git/git_commit"] == {Effect.WRITE}
    assert effects["git/git_reset"] == {Effect.DESTRUCTIVE}
    assert effects["fetch/fetch"] == {Effect.READ, Effect.EXTERNAL}
    waits = [tool.id for tool in known.all() if tool.durable]
    assert sorted(set(effects) - set(waits)) == ["time/convert_time", "time/get_current_time"]


def test_reads_pass_and_the_rest_waits(home: Home, file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    assert cli.main(["init", "--home", str(home.root), str(file), "--yes", "--apply"]) == 0
    assert cli.main(["status", "--home", str(home.root), str(file)]) == 0
    repository = str(tmp_path / "project")
    read = call(file, "git", "git_status", {"repo_path": repository})
    assert not read.is_error
    branch = call(file, "git", "git_create_branch", {"repo_path": repository, "branch_name": "x"})
    assert branch.is_error
    assert branch.structured_content["reason"] == "needs_approval"
    out = call(file, "fetch", "fetch", {"url": "http://127.0.0.1:9/"})
    assert out.structured_content["decision"] == "hold"
    assert cli.main(["init", "--home", str(home.root), str(file), "--undo"]) == 0
    assert file.read_bytes() == before


def test_a_tool_that_changes_after_review_is_quarantined_and_said(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, file = tmp_path / "server.py", tmp_path / ".mcp.json"
    program.write_text(Path(scripted.__file__).read_text())
    file.write_text(json.dumps({"mcpServers": {"s": {"command": sys.executable, "args": [str(program), "plain"]}}}))
    assert cli.main(["init", "--home", str(home.root), str(file), "--yes", "--accept", "--apply"]) == 0
    program.write_text(program.read_text().replace('"at": {"type": "string"}', '"at": {"type": "string"}, "also": {}'))
    capsys.readouterr()

    async def look(session: ClientSession) -> None:
        assert [tool.name for tool in (await session.list_tools()).tools] == ["send"]
        denied = await session.call_tool("look", {})
        assert denied.structured_content is not None
        assert denied.structured_content["reason"] == "tool_changed"
        assert cli.main(["status", "--home", str(home.root), str(file), "--json"]) == 0

    asyncio.run(with_session(file.read_text(), "s", look))
    assert json.loads(capsys.readouterr().out)["quarantined"] == ["s/look"]
    assert cli.main(["init", "--home", str(home.root), str(file), "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "s/look changed (what it takes, gives or hints); quarantined" in shown
    assert "+ inputSchema.properties.also: {}" in shown


# -- servers that are reached by URL


def remote(tmp_path: Path, **servers: Any) -> Path:
    path = tmp_path / ".mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}, indent=2))
    return path


@pytest.mark.parametrize("kind", ["events", "json"])
def test_a_remote_server_is_listed_and_put_behind_the_gateway(
    home: Home, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(kind) as url:
        file = remote(tmp_path, full={"type": "http", "url": url, "timeout": 60})
        before = file.read_bytes()
        assert cli.main(["init", "--home", str(home.root), str(file), "--apply"]) == 77
        assert f"full           connects to {url}" in capsys.readouterr().err
        assert not home.root.joinpath("catalogue").exists()
        assert cli.main(["init", "--home", str(home.root), str(file), "--yes", "--accept", "--apply"]) == 0
        known = catalogue.load(home.catalogue)
        assert known.find("full/echo") is not None
        assert cli.main(["status", "--home", str(home.root), str(file)]) == 0
        assert "guarded       full" in capsys.readouterr().out
        waits = call(file, "full", "echo", {"text": "hello"})
        assert waits.structured_content["reason"] == "needs_approval"
        assert cli.main(["init", "--home", str(home.root), str(file), "--yes"]) == 0, "and listed again"
        own = '@id("own") permit (principal, action == Action::"full/echo", resource);'
        (home.policy / "own.cedar").write_text(own)
        stop(home)
        said = call(file, "full", "echo", {"text": "hello"})
        assert (said.is_error, "hello" in said.content[0].text) == (False, True)
        assert cli.main(["init", "--home", str(home.root), str(file), "--undo"]) == 0
    assert file.read_bytes() == before


def test_headers_list_the_tools_and_are_not_lost(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, seen = "pX7wkZq93kLmNtR5", tmp_path / "seen"
    monkeypatch.setenv("FAR_TOKEN", secret)
    with served("events", secret, SEEN=str(seen)) as url, served("events") as free:
        file = remote(
            tmp_path,
            full={"type": "http", "url": url, "headers": {"Authorization": "Bearer ${FAR_TOKEN}"}},
            bare={"url": url},
            free={"url": free},
        )
        before = json.loads(file.read_text())["mcpServers"]
        assert cli.main(["init", "--home", str(home.root), str(file), "--yes", "--apply"]) == 69
    shown = capsys.readouterr()
    assert "with Authorization" in shown.err
    assert "not guarded: its headers (Authorization) would be lost" in shown.out
    assert "bare           failed: the server answered with the status 401: it wants a credential" in shown.out
    assert secret not in shown.out + shown.err
    after = json.loads(file.read_text())["mcpServers"]
    assert after["full"] == before["full"]
    assert after["bare"] == before["bare"]
    assert "its client may log in there by itself (OAuth)" in shown.out
    assert after["free"]["args"][-3:] == ["--url", free, "free"]
    assert catalogue.load(home.catalogue).find("full/echo") is not None
    sent = [json.loads(line) for line in seen.read_text().splitlines()]
    assert {one["verb"] for one in sent if "authorization" in one} >= {"POST", "DELETE"}, "and the session was ended"
    everything = b"".join(one.read_bytes() for one in home.root.rglob("*") if one.is_file())
    assert secret.encode() not in everything
    capsys.readouterr()
    assert cli.main(["status", "--home", str(home.root), str(file)]) == 1
    assert "NOT GUARDED   full           its headers" in capsys.readouterr().out
