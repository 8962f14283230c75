"""The whole way: a client's configuration with six real servers, guarded by one command, used by two real clients."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, TextContent

import forestall_verify
from forestall import cli
from forestall.home import Home
from tests.mcpkit.home import stop

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
NODE_BIN = HERE / "node_modules" / ".bin"

WAIT_S = 120
"""Seconds that one client may take on a machine that is busy with other tests."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("npm"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node 20 or newer with npm, which is not installed"),
]


@pytest.fixture(scope="module")
def node_bin() -> Path:
    """The npm servers, installed at the locked versions if they are not there yet."""
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = HERE / "node_modules" / ".package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < (HERE / "package-lock.json").stat().st_mtime:
            subprocess.run([HERE / "install.sh"], check=True, timeout=600)
    return NODE_BIN


class Place:
    """A project directory with six servers in its client's configuration."""

    def __init__(self, directory: Path, node_bin: Path) -> None:
        self.repository = directory / "project"
        self.home = Home(directory / "home")
        self.file = self.repository / ".mcp.json"
        subprocess.run(["git", "init", "-q", self.repository], check=True)
        (self.repository / "notes.txt").write_text("a note")
        self.servers: dict[str, dict[str, Any]] = {
            "git": {"command": str(BIN / "mcp-server-git"), "args": ["--repository", str(self.repository)]},
            "fetch": {"command": str(BIN / "mcp-server-fetch")},
            "time": {"command": sys.executable, "args": ["-m", "mcp_server_time"]},
            "filesystem": {"command": str(node_bin / "mcp-server-filesystem"), "args": [str(self.repository)]},
            "memory": {
                "command": str(node_bin / "mcp-server-memory"),
                "args": [],
                "env": {"MEMORY_FILE_PATH": str(directory / "memory.json")},
            },
            "everything": {"command": str(node_bin / "mcp-server-everything"), "args": ["stdio"]},
        }
        self.configure(*self.servers)

    def configure(self, *names: str) -> None:
        """The client knows these servers and no others."""
        known = {name: self.servers[name] for name in names}
        self.file.write_text(json.dumps({"mcpServers": known}, indent=2) + "\n")
        self.before = self.file.read_bytes()

    def run(self, command: str, *words: str) -> int:
        return cli.main([command, "--home", str(self.home.root), *words])

    def guarded(self, name: str) -> dict[str, Any]:
        """What the client reads now."""
        server: dict[str, Any] = json.loads(self.file.read_text())["mcpServers"][name]
        return server

    def inspect(self, name: str, *words: str) -> Any:
        """The inspector's command line, with the client's own configuration.

        It starts only where the directory above has a package.json: it looks for its own there.
        """
        command = [NODE_BIN / "mcp-inspector-cli", "--cli", "--config", self.file, "--server", name, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, cwd=NODE_BIN.parent, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout[done.stdout.index("{\n") :])


@pytest.fixture
def place(tmp_path: Path, node_bin: Path) -> Iterator[Place]:
    place = Place(tmp_path, node_bin)
    try:
        yield place
    finally:
        stop(place.home)


READS: dict[str, tuple[str, dict[str, Any], str]] = {
    "git": ("git_status", {"repo_path": "{repository}"}, "notes.txt"),
    "time": ("get_current_time", {"timezone": "Europe/London"}, "Europe/London"),
    "filesystem": ("read_text_file", {"path": "{repository}/notes.txt"}, "a note"),
    "memory": ("read_graph", {}, "entities"),
    "everything": ("echo", {"message": "hello"}, "Echo: hello"),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "git": ("git_create_branch", {"repo_path": "{repository}", "branch_name": "other"}),
    "fetch": ("fetch", {"url": "http://127.0.0.1:9/"}),
    "filesystem": ("write_file", {"path": "{repository}/notes.txt", "content": "overwritten"}),
    "memory": ("create_entities", {"entities": [{"name": "x", "entityType": "y", "observations": []}]}),
    "everything": ("get-env", {}),
}


def filled(place: Place, arguments: dict[str, Any]) -> dict[str, Any]:
    here = str(place.repository)
    return {name: v.replace("{repository}", here) if isinstance(v, str) else v for name, v in arguments.items()}


async def use(place: Place, name: str) -> tuple[list[str], CallToolResult | None, CallToolResult | None]:
    """What the SDK's client sees of a server: its tools, a read, and something else."""
    server = place.guarded(name)
    parameters = StdioServerParameters(command=server["command"], args=server["args"], env=server.get("env"))
    async with asyncio.timeout(WAIT_S), stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        read = other = None
        if name in READS:
            tool, arguments, _ = READS[name]
            read = await session.call_tool(tool, filled(place, arguments))
        if name in OTHERS:
            tool, arguments = OTHERS[name]
            other = await session.call_tool(tool, filled(place, arguments))
        return tools, read, other


def text(result: CallToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, TextContent))


def test_six_servers_are_guarded_by_one_command_and_work(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.run("init", str(place.file), "--yes", "--accept", "--apply") == 0
    assert place.run("check") == 0
    assert place.run("test") == 0
    assert place.run("status", str(place.file)) == 0
    capsys.readouterr()
    for name in place.servers:
        tools, read, other = asyncio.run(use(place, name))
        assert tools
        if read is not None:
            assert not read.is_error, text(read)
            assert READS[name][2] in text(read)
        if other is not None:
            assert other.is_error
            told = other.structured_content or (other.meta or {})["forestall/decision"]
            assert (told["decision"], told["reason"]) == ("hold", "needs_approval")
    assert (place.repository / "notes.txt").read_text() == "a note"
    assert not (place.repository.parent / "memory.json").exists()
    assert place.run("status", str(place.file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["decision_point"]["running"]
    stop(place.home)
    assert forestall_verify.main([str(place.home.ledger)]) == 0
    assert place.run("init", str(place.file), "--undo") == 0
    assert place.file.read_bytes() == place.before


def test_the_inspectors_command_line_works_through_it(place: Place) -> None:
    place.configure(*READS)
    assert place.run("init", str(place.file), "--yes", "--accept", "--apply") == 0
    for name, (tool, arguments, wanted) in READS.items():
        assert tool in [one["name"] for one in place.inspect(name, "--method", "tools/list")["tools"]]
        words = [word for pair in filled(place, arguments).items() for word in ("--tool-arg", "=".join(pair))]
        result = place.inspect(name, "--method", "tools/call", "--tool-name", tool, *words)
        assert not result.get("isError")
        assert wanted in json.dumps(result)
    file = ("--tool-arg", f"path={place.repository}/notes.txt", "--tool-arg", "content=overwritten")
    described = place.inspect("filesystem", "--method", "tools/call", "--tool-name", "write_file", *file)
    assert described["isError"]
    assert described["_meta"]["forestall/decision"]["decision"] == "hold"
    result = place.inspect("everything", "--method", "tools/call", "--tool-name", "get-env")
    assert result["isError"]
    assert result["structuredContent"]["decision"] == "hold"


def test_without_acceptance_only_what_was_reviewed_by_shape_is_readable(place: Place) -> None:
    """What Forestall ships a review of needs no acceptance: reads work at once, and nothing else does."""
    names = ("git", "everything")
    place.configure(*names)
    assert place.run("init", str(place.file), "--yes", "--apply") == 0
    for name in names:
        _, read, other = asyncio.run(use(place, name))
        assert read is not None
        assert other is not None
        assert not read.is_error, text(read)
        assert other.is_error


def test_nothing_that_installs_names_a_registry() -> None:
    for name in ("package.json", "package-lock.json", ".npmrc", "install.sh"):
        content = (HERE / name).read_text()
        assert '"resolved"' not in content
        assert "registry." not in content
