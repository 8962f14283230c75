"""A home on disk, for tests of the commands."""

from __future__ import annotations

import json
from pathlib import Path

from forestall.core.pin import definition_digest
from forestall.home import Home

DEFINITIONS = [
    {
        "name": "write_file",
        "inputSchema": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
            "required": ["path"],
        },
    },
    {"name": "read_file", "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}}},
]

EFFECTS = {"write_file": "write", "read_file": "read"}

CATALOGUE = """\
[tools.{name}]
effects = ["{effect}"]
control = ["path"]
content = {content}
pin = "{pin}"
from = {{ effects = "declared", arguments = "declared" }}
"""

MANDATE = """\
purpose = "write the report"
tools = ["fs/*"]
effects = ["read", "write"]
lifetime_minutes = 60
"""

POLICY = """\
@id("reads")
permit (principal, action in Action::"read", resource);

@id("reports")
permit (principal, action in Action::"write", resource)
when { context.paths has path.inside && context.paths.path.inside like "reports/*" };

@id("ask") @approvers("user:root")
permit (principal, action == Action::"fs/write_file", resource)
when { context has approval && context.approval.granted };
"""


def furnish(root: Path, *, policy: str = POLICY, catalogue: bool = True) -> Home:
    """A home with one server, one mandate and a policy."""
    home = Home(root)
    for directory in (home.catalogue, home.mandates):
        directory.mkdir(parents=True)
    (home.policy / "main.cedar").write_text(policy)
    (home.mandates / "default.toml").write_text(MANDATE)
    if catalogue:
        write_catalogue(home)
    return home


def write_catalogue(home: Home) -> None:
    tables = ['format = 1\nserver = "fs"\n']
    for definition in DEFINITIONS:
        name = str(definition["name"])
        pin = definition_digest("fs", definition)
        content = '["content"]' if name == "write_file" else "[]"
        tables.append(CATALOGUE.format(name=name, effect=EFFECTS[name], pin=pin, content=content))
    (home.catalogue / "fs.toml").write_text("\n".join(tables))
    (home.catalogue / "fs.json").write_text(json.dumps({"format": 1, "server": "fs", "tools": DEFINITIONS}))
