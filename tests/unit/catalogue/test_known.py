from __future__ import annotations

import pytest

from forestall.catalogue import known
from forestall.catalogue.known import find_known, started_packages
from forestall.catalogue.propose import propose
from forestall.core.effects import Confidence


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("mcp-server-git --repository .", {"mcp-server-git"}),
        ("/opt/venv/bin/mcp-server-git", {"mcp-server-git"}),
        ("uvx mcp-server-git", {"mcp-server-git"}),
        ("/usr/bin/uvx mcp-server-git@2026.1.2 --repository x", {"mcp-server-git"}),
        ("uvx mcp-server-git==2026.1.2", {"mcp-server-git"}),
        ("npx -y @modelcontextprotocol/server-memory@1.2", {"@modelcontextprotocol/server-memory"}),
        ("pipx run mcp-server-time", {"mcp-server-time"}),
        ("python -m mcp_server_time --x", {"mcp_server_time"}),
        ("python3.12 -m mcp_server_time", {"mcp_server_time"}),
        ("node /a/node_modules/@scope/thing/dist/index.js", {"@scope/thing"}),
        ("node /a/node_modules/thing/index.js", {"thing"}),
        ("python evil.py mcp_server_time", set()),
        ("python -m evil mcp_server_time", {"evil"}),
        ("node evil.js /a/node_modules/thing/index.js", set()),
        ("node node_modules/thing/index.js", set()),
        ("node mcp-server-git", set()),
        ("./mcp-server-git", set()),
        ("tools/mcp-server-git", set()),
        ("npx evil @modelcontextprotocol/server-memory", {"evil"}),
        ("uvx --from evil mcp-server-git", {"evil"}),
        ("", set()),
    ],
)
def test_the_package_that_a_command_starts(command: str, names: set[str]) -> None:
    assert started_packages(tuple(command.split())) == names


def test_only_a_command_that_names_the_package_has_a_review() -> None:
    review = find_known(("uvx", "mcp-server-git"))
    assert review is not None
    assert "git_status" in review.tools
    assert find_known(("uvx", "evil-server-git")) is None
    assert find_known(()) is None


def test_every_shipped_review_is_whole() -> None:
    reviews = known._all()
    assert {package for review in reviews for package in review.packages} >= {"mcp-server-git", "mcp-server-fetch"}
    for review in reviews:
        assert review.tools
        for shapes, proposal in review.tools.values():
            assert shapes
            assert proposal.statement.effects
            assert proposal.reasons["effects"]
            assert not proposal.statement.proposed


def test_a_tool_of_another_shape_is_only_a_proposal() -> None:
    review = find_known(("uvx", "mcp-server-git"))
    assert review is not None
    stranger = {
        "name": "git_status",
        "inputSchema": {"type": "object", "properties": {"repo_path": {"type": "string"}, "hook": {"type": "string"}}},
        "annotations": {"readOnlyHint": True},
    }
    assert review.find(stranger) is None
    assert propose(stranger, review).statement.origin["effects"] is Confidence.ASSUMED
    assert review.find({**stranger, "name": "git_push"}) is None
