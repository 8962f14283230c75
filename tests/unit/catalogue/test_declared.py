"""Tools that a program declared in code, as commands read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forestall.catalogue import load_all
from forestall.catalogue.declared import render_declared
from forestall.core.effects import Confidence, Effect
from forestall.core.errors import SetupError
from forestall.core.label import Confidentiality, Integrity, Label
from forestall.core.model import Tool
from tests.unit.policy.home import furnish

TOOL = Tool(
    "python",
    "delete",
    "sha256:" + "0" * 64,
    frozenset({Effect.DESTRUCTIVE, Effect.READ}),
    Confidence.DECLARED,
    frozenset({"path", "other"}),
    frozenset({"text"}),
    Label(Integrity.TRUSTED, Confidentiality.INTERNAL),
    Confidence.DECLARED,
    reversible=True,
    opaque=frozenset({"blob"}),
    hidden=frozenset({"key"}),
    input_schema={"type": "object", "properties": {"path": {"type": "string"}}},
)


def keep(root: Path, *tools: Tool) -> Path:
    declared = root / "declared"
    declared.mkdir(parents=True)
    (declared / "python.json").write_bytes(render_declared(tools))
    return declared


def test_what_was_declared_is_read_as_it_was(tmp_path: Path) -> None:
    other = Tool("python", "worst", "")
    found = load_all(tmp_path / "catalogue", keep(tmp_path, TOOL, other))
    assert found.find("python/delete") == TOOL
    assert found.find("python/worst") == other


def test_without_any_there_is_the_catalogue_alone(tmp_path: Path) -> None:
    home = furnish(tmp_path)
    found = load_all(home.catalogue, home.declared)
    assert {tool.server for tool in found.all()} == {"fs"}


def test_of_a_server_in_both_the_catalogue_counts(tmp_path: Path) -> None:
    home = furnish(tmp_path)
    keep(home.root, Tool("fs", "mild", "", frozenset({Effect.READ}), Confidence.DECLARED))
    assert load_all(home.catalogue, home.declared).find("fs/mild") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"format": 2, "tools": []}',
        b'{"format": 1, "tools": [{"server": "python"}]}',
        b'{"format": 1, "tools": {"a": 1}}',
        b'{"format": 1, "format": 1, "tools": []}',
    ],
)
def test_what_no_program_wrote_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    declared = keep(tmp_path, TOOL)
    (declared / "python.json").write_bytes(content)
    with pytest.raises(SetupError, match=r"python\.json .*remove it, and run the program again"):
        load_all(tmp_path / "catalogue", declared)


@pytest.mark.parametrize("member", ["server", "name", "pin"])
def test_what_is_no_text_where_one_belongs_is_refused_too(tmp_path: Path, member: str) -> None:
    declared = keep(tmp_path, TOOL)
    file = declared / "python.json"
    data = json.loads(file.read_text())
    data["tools"][0][member] = [data["tools"][0][member]]
    file.write_text(json.dumps(data))
    with pytest.raises(SetupError, match="remove it, and run the program again"):
        load_all(tmp_path / "catalogue", declared)
