"""The tools that a program declared in code, kept so that commands know of them too. Nothing is decided by them.

One file a program, `declared/NAME.json` of its home, which the program writes anew whenever it declares its tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from forestall.catalogue.read import FORMAT, MAX_BYTES, MAX_DEPTH, FileCatalogue, load
from forestall.core.canonical import parse
from forestall.core.effects import Confidence, Effect
from forestall.core.errors import InvalidInput, SetupError, cure
from forestall.core.label import Confidentiality, Integrity, Label
from forestall.core.model import Tool


def render_declared(tools: Sequence[Tool]) -> bytes:
    """The file that holds them."""
    data = {"format": FORMAT, "tools": [_as_json(tool) for tool in tools]}
    return (json.dumps(data, ensure_ascii=False, sort_keys=True, indent=2, default=dict) + "\n").encode()


def load_all(reviewed: Path, declared: Path) -> FileCatalogue:
    """The catalogue, and what programs declared. Of a server that is in both the catalogue's word counts.

    Raises:
        SetupError: as `load`; or a file of declared tools is not what a program writes.
    """
    catalogue = load(reviewed)
    servers = {tool.server for tool in catalogue.all()}
    more = {tool.id: tool for file in sorted(declared.glob("*.json")) for tool in _read(file)}
    added = {name: tool for name, tool in more.items() if tool.server not in servers}
    return replace(catalogue, tools=MappingProxyType({**catalogue.tools, **added}))


def _as_json(tool: Tool) -> dict[str, Any]:
    return {
        "server": tool.server,
        "name": tool.name,
        "pin": tool.pin,
        "effects": sorted(tool.effects),
        "confidence": tool.confidence,
        "control": sorted(tool.control),
        "content": sorted(tool.content),
        "output": {"integrity": tool.output.integrity, "confidentiality": tool.output.confidentiality},
        "output_confidence": tool.output_confidence,
        "reversible": tool.reversible,
        "opaque": sorted(tool.opaque),
        "hidden": sorted(tool.hidden),
        "input_schema": tool.input_schema,
    }


def _read(file: Path) -> list[Tool]:
    try:
        with file.open("rb") as opened:
            data = parse(opened.read(MAX_BYTES + 1), max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)
        if data["format"] == FORMAT:
            return [_tool(one) for one in data["tools"]]
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {cure(error)}.") from None
    except (InvalidInput, KeyError, TypeError, ValueError):
        pass
    sentence = "is not what a program writes that declares tools; remove it, and run the program again"
    raise SetupError(f"{file} {sentence}.")


def _tool(said: Mapping[str, Any]) -> Tool:
    output = said["output"]
    if not all(isinstance(said[member], str) for member in ("server", "name", "pin")):
        raise TypeError
    return Tool(
        server=said["server"],
        name=said["name"],
        pin=said["pin"],
        effects=frozenset(map(Effect, said["effects"])),
        confidence=Confidence(said["confidence"]),
        control=frozenset(said["control"]),
        content=frozenset(said["content"]),
        output=Label(Integrity(output["integrity"]), Confidentiality(output["confidentiality"])),
        output_confidence=Confidence(said["output_confidence"]),
        reversible=said["reversible"] is True,
        opaque=frozenset(said["opaque"]),
        hidden=frozenset(said["hidden"]),
        input_schema=said["input_schema"],
    )
