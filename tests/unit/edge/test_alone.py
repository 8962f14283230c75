"""The edge is a second opinion: it shares no code with the decision point, in either direction, and stays small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

OPTIONAL = {"asgi.py", "server.py", "proxy.py", "testing.py"}
"""Those that may need more than `cryptography`, and are imported by nobody else."""


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_neither_imports_the_other() -> None:
    edge = list((ROOT / "edge").rglob("*.py"))
    assert len(edge) > 10
    for file in edge:
        known = sys.stdlib_module_names | {"cryptography", "forestall_edge"}
        if file.name not in OPTIONAL:
            assert imported(file) <= known, file
        assert "forestall" not in imported(file)
    for file in (ROOT / "src").rglob("*.py"):
        assert "forestall_edge" not in imported(file), file


def test_it_loads_without_what_only_some_need() -> None:
    code = "import sys, forestall_edge; print(sorted({'mcp', 'h11', 'forestall', 'anyio'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
