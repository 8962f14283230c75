"""Claims are tied to tests, both ways: claims.toml, docs/threat-model.md and the tests say the same."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
THREAT_MODEL = ROOT / "docs" / "threat-model.md"

STATES = ("kept", "in part", "not yet")
FRAMEWORKS = {
    "AARM 1.0": r"R[1-9]",
    "OWASP Top 10 for LLM Applications 2026": r"LLM(0[1-9]|10)",
    "OWASP Top 10 for Agentic Applications 2026": r"ASI(0[1-9]|10)",
    "OWASP Agentic AI Threats and Mitigations 1.1": r"OWASP-AGENTIC-1\.1:T([1-9]|1[0-7])",
}
"""The items that each has. Two lists that both number from T1 are told apart by the prefix."""

CLAIMS = tomllib.loads((HERE / "claims.toml").read_text())
PROMISES: list[dict[str, Any]] = CLAIMS["promise"]
CONTROLS: list[dict[str, Any]] = CLAIMS["control"]


def promised(text: str) -> dict[int, tuple[str, str]]:
    """Number, title and state of each row of the table of promises."""
    rows = re.findall(r"^\| (\d+)\. (.+?) \| (.+?) \|", text, re.MULTILINE)
    return {int(number): (title, state) for number, title, state in rows}


def name_of(title: str) -> str:
    return "test_" + re.sub(r"[^a-z]+", "_", title.lower())


@cache
def functions_of(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def missing(node_ids: list[str]) -> list[str]:
    """Those of pytest's node ids that name no test."""
    found = []
    for node_id in node_ids:
        path, _, name = node_id.partition("::")
        if not name.startswith("test_") or not Path(path).name.startswith("test_") or name not in functions_of(path):
            found.append(node_id)
    return found


def test_the_threat_model_lists_every_promise_with_a_state() -> None:
    listed = promised(THREAT_MODEL.read_text())
    assert sorted(listed) == list(range(1, 11))
    assert {state for _, state in listed.values()} <= set(STATES)


def test_a_promise_is_claimed_exactly_where_it_has_a_test_of_its_name() -> None:
    listed = promised(THREAT_MODEL.read_text())
    claimed = {number: state for number, (_, state) in listed.items() if state != "not yet"}
    assert claimed == {promise["number"]: promise["state"] for promise in PROMISES}
    for promise in PROMISES:
        name = name_of(listed[promise["number"]][0])
        assert promise["test"] == f"tests/controls/test_promises.py::{name}"


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: str(promise["number"]))
def test_a_promise_names_tests_that_exist(promise: dict[str, Any]) -> None:
    assert promise.keys() == {"number", "state", "test", "also"}
    assert missing([promise["test"], *promise["also"]]) == []


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control["id"])
def test_a_control_names_tests_that_exist_and_an_item_that_its_framework_has(control: dict[str, Any]) -> None:
    assert control.keys() == {"framework", "id", "title", "serves", "not_yet", "tests"}
    assert re.fullmatch(FRAMEWORKS[control["framework"]], control["id"])
    assert control["tests"]
    assert missing(control["tests"]) == []


def test_no_item_is_claimed_twice() -> None:
    items = [(control["framework"], control["id"]) for control in CONTROLS]
    assert len(items) == len(set(items))
    numbers = [promise["number"] for promise in PROMISES]
    assert numbers == sorted(set(numbers))


def test_each_test_of_a_promise_is_claimed() -> None:
    claimed = {test for promise in PROMISES for test in (promise["test"], *promise["also"])}
    claimed |= {test for control in CONTROLS for test in control["tests"]}
    proved = {name for name in functions_of("tests/controls/test_promises.py") if name.startswith("test_")}
    assert {f"tests/controls/test_promises.py::{name}" for name in proved} <= claimed


def test_nobody_is_said_to_certify_anything() -> None:
    """Frameworks guard their names; a passing test of ours is not their word."""
    files = [ROOT / "README.md", THREAT_MODEL, HERE / "claims.toml", ROOT / "docs" / "glossary.md"]
    for file in files:
        assert not re.search(r"\b(conformant|compliant|certified)\b", file.read_text(), re.IGNORECASE), file.name


@pytest.mark.parametrize(
    "node_id",
    [
        "tests/controls/test_controls.py::test_that_nobody_wrote",
        "tests/controls/test_absent.py::test_no_effect_without_a_permit",
        "tests/controls/test_controls.py",
        "tests/controls/room.py::definition",
        "",
    ],
)
def test_a_claim_without_a_test_is_noticed(node_id: str) -> None:
    assert missing([node_id]) == [node_id]
