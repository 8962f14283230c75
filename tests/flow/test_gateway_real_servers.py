"""Servers that other people wrote, driven by the SDK's own client, through the gateway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from forestall.core.entry import Stream
from forestall.home import Home
from tests.mcpkit.conversation import client
from tests.mcpkit.home import home_of, stop
from tests.mcpkit.session import gateway
from tests.points import entries

POLICY = """\
@id("reads") permit (principal, action in Action::"read", resource);
@id("writes") permit (principal, action in Action::"write", resource);
"""

GIT = [sys.executable, "-m", "mcp_server_git"]
TIME = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    reads = 'effects = ["read"]'

    def edit(text: str) -> str:
        """The proposals for these two, as their owner corrects them: only reset and checkout destroy."""
        head, *tools = text.split("[tools.")
        for index, tool in enumerate(tools):
            name = tool.partition("]")[0]
            lines = tool.splitlines()
            graver = {"git_add": "write", "git_commit": "write", "git_reset": "destructive", "git_checkout": "write"}
            effects = f'effects = ["{graver[name]}"]' if name in graver else reads
            tools[index] = "\n".join(effects if line.startswith("effects") else line for line in lines) + "\n"
        return "[tools.".join([head, *tools])

    with home_of({"git": GIT, "time": TIME}, POLICY, edit) as home:
        yield home


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for words in (
        ["init", "-q"],
        ["config", "user.email", "ada@example.com"],
        ["config", "user.name", "Ada"],
        ["commit", "-q", "--allow-empty", "-m", "first"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    (tmp_path / "new.txt").write_text("new\n")
    return tmp_path


def talk(home: Home, name: str, command: list[str], calls: list[tuple[str, dict[str, Any]]], mode: str) -> list[Any]:
    async def scenario() -> list[Any]:
        with anyio.fail_after(60):
            async with client(gateway(home.root, command, name=name), mode) as session:
                await session.list_tools()
                return [await session.call_tool(tool, arguments) for tool, arguments in calls]

    return anyio.run(scenario)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_git_reads_and_commits_and_does_not_reset(home: Home, repository: Path, mode: str) -> None:
    at = {"repo_path": str(repository)}
    status, added, reset, committed = talk(
        home,
        "git",
        [*GIT, "--repository", str(repository)],
        [
            ("git_status", at),
            ("git_add", {**at, "files": ["new.txt"]}),
            ("git_reset", at),
            ("git_commit", {**at, "message": "second"}),
        ],
        mode,
    )
    assert "new.txt" in status.content[0].text
    assert not added.is_error
    assert reset.is_error
    assert reset.structured_content["reason"] == "no_policy"
    assert not committed.is_error
    log = subprocess.check_output(["git", "-C", str(repository), "log", "--format=%s", "--stat"], text=True)
    assert "second" in log
    assert "new.txt" in log


def test_time_is_told(home: Home) -> None:
    [told, wrong] = talk(
        home,
        "time",
        TIME,
        [
            ("get_current_time", {"timezone": "Europe/Paris"}),
            ("get_current_time", {"timezone": "Europe/Paris", "x": 1}),
        ],
        "auto",
    )
    assert "Europe/Paris" in told.content[0].text
    assert wrong.structured_content is None, "the tool describes another"
    assert wrong.meta["forestall/decision"]["reason"] == "invalid_arguments"


def test_every_call_has_its_entries(home: Home) -> None:
    talk(home, "time", TIME, [("get_current_time", {"timezone": "UTC"})], "auto")
    stop(home)
    last = [entry["kind"] for entry in entries(home, Stream.PERMITS)][-4:]
    assert last == ["opened", "permitted", "settled", "closed"]
