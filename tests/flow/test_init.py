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
