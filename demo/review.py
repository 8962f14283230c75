"""`python -m demo.review`: asks the demo's servers for their tools; writes definitions and pins into demo/catalogue.

Run it after an upgrade of a server, and read the difference before committing it: that reading is the review. What the
TOML files say of a tool is not touched; a tool that they do not mention stays unknown.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo.guard import direct
from demo.hands import connect, connect_some
from demo.sink import site
from demo.world import build
from forestall.core.pin import definition_digest

CATALOGUE = Path(__file__).resolve().parent / "catalogue"


async def ask() -> dict[str, list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as scratch, site("") as intranet, site("") as collector:
        world = build(Path(scratch), intranet, collector)
        async with connect(world, direct) as hands, connect_some(world, direct, ["shop"]) as shop:
            return {name: await one.definitions(name) for one in (hands, shop) for name in one.servers}


def write(server: str, definitions: list[dict[str, Any]]) -> None:
    text = json.dumps({"format": 1, "server": server, "tools": definitions}, indent=2, ensure_ascii=False)
    (CATALOGUE / f"{server}.json").write_text(text + "\n")
    said = CATALOGUE / f"{server}.toml"
    pins = {definition["name"]: definition_digest(server, definition) for definition in definitions}
    said.write_text(repin(said.read_text(), pins))


def repin(text: str, pins: Mapping[str, str]) -> str:
    """`pin = ...` in each `[tools.NAME]`, set to what it is now."""
    tool = ""
    lines = []
    for line in text.splitlines():
        header = re.fullmatch(r"\[tools\.(\w+)\]", line)
        tool = header[1] if header else tool
        lines.append(f'pin = "{pins[tool]}"' if line.startswith("pin = ") and tool in pins else line)
    return "\n".join(lines) + "\n"


def main() -> int:
    for server, definitions in asyncio.run(ask()).items():
        write(server, definitions)
        print(f"{server}: {len(definitions)} tools")
    return 0


if __name__ == "__main__":
    sys.exit(main())
