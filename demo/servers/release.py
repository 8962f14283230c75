"""An MCP server that pushes: mcp-server-git has no tool for it. The repository is its working directory."""

from __future__ import annotations

import subprocess

from demo.servers.kit import Arguments, Tool, serve

SECONDS = 20
"""A push between two folders of one disk takes a few milliseconds."""


def push(arguments: Arguments) -> str:
    force = ["--force"] if arguments.get("force") else []
    command = ["git", "push", *force, arguments["remote"], arguments["branch"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return f"Pushed {arguments['branch']} to {arguments['remote']}."


TOOLS = [
    Tool(
        "push",
        "Push a branch to a remote.",
        {"remote": "string", "branch": "string", "force?": "boolean"},
        push,
    )
]


if __name__ == "__main__":
    serve("release", lambda: TOOLS)
