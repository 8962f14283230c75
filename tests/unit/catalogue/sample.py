"""A small server's definitions, and its files as a person left them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forestall.core.pin import definition_digest

SEND: dict[str, Any] = {
    "name": "send",
    "description": "Sends a message.",
    "inputSchema": {
        "type": "object",
        "properties": {"to": {"type": "string"}, "body": {"type": "string", "description": "What to say."}},
        "required": ["to"],
    },
    "annotations": {"title": "Send", "readOnlyHint": False},
}
LOOK: dict[str, Any] = {"name": "look", "inputSchema": {"type": "object", "properties": {}}}

DECLARED = 'from = { effects = "declared", arguments = "declared", output = "declared" }'


def table(name: str = "send", server: str = "mail", **changes: str) -> str:
    """A tool's table; `changes` replaces or adds lines, and an empty one takes the line out."""
    definition = SEND if name == "send" else LOOK
    lines = {
        "effects": 'effects = ["external"]',
        "control": 'control = ["to"]' if name == "send" else "control = []",
        "content": 'content = ["body"]' if name == "send" else "content = []",
        "output": 'output = { integrity = "trusted", confidentiality = "internal" }',
        "from": DECLARED,
        "pin": f'pin = "{definition_digest(server, definition)}"',
    } | changes
    return f"\n[tools.{name}]\n" + "".join(f"{line}\n" for line in lines.values() if line)


def files(directory: Path, *tables: str, server: str = "mail", definitions: list[Any] | None = None) -> Path:
    """NAME.toml and NAME.json in the directory; the path of the first."""
    directory.mkdir(parents=True, exist_ok=True)
    tools = [SEND, LOOK] if definitions is None else definitions
    data = {"format": 1, "server": server, "tools": tools}
    (directory / f"{server}.json").write_text(json.dumps(data))
    path = directory / f"{server}.toml"
    path.write_text(f'format = 1\nserver = "{server}"\n' + "".join(tables or [table()]))
    return path
