"""Where control arguments really lead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.facts.files import Files
from forestall.adapter.facts.own import OwnFiles, home_directories
from forestall.core.effects import Confidence, Effect
from forestall.core.label import CLEAN, WORST
from forestall.core.model import RealPath, Tool


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path.resolve() / "project"
    (project / "src").mkdir(parents=True)
    (project / "out").symlink_to(tmp_path.resolve() / "elsewhere")
    (project / "in").symlink_to("src")
    return project


def paths(project: Path, arguments: dict[str, Any], directory: str | None = None) -> Any:
    files = Files(OwnFiles.of([str(project.parent / ".forestall")], []), str(project.parent), {})
    tool = Tool("s", "t", "", frozenset({Effect.READ}), Confidence.DECLARED, control=frozenset({"path", "paths"}))
    return files.gather(tool, arguments, CLEAN, 0, str(project) if directory is None else directory).paths


@pytest.mark.parametrize(
    ("path", "real", "inside"),
    [
        ("a.txt", "project/a.txt", "a.txt"),
        ("./src/../a.txt", "project/a.txt", "a.txt"),
        ("in/x", "project/src/x", "src/x"),
        ("out/x", "elsewhere/x", None),
        ("../project/a", "project/a", "a"),
        ("..", "", None),
        (".", "project", ""),
        ("~/project/a", "project/a", "a"),
        ("~", "", None),
        ("../project2/a", "project2/a", None),
    ],
)
def test_a_path_is_resolved_and_placed(project: Path, path: str, real: str, inside: str | None) -> None:
    expected = str(project.parent / real) if real else str(project.parent)
    assert paths(project, {"path": path}) == {"path": (RealPath(expected, inside),)}


def test_every_value_of_a_list_is_resolved_in_its_order(project: Path) -> None:
    found = paths(project, {"paths": ["b", "in/a"]})["paths"]
    assert [one.inside for one in found] == ["b", "src/a"]


@pytest.mark.parametrize("value", [3, None, [], ["a", 3], {"a": "b"}, "https://example.com/x", "a\0b", ["a", "b\0"]])
def test_what_does_not_resolve_as_a_whole_is_left_out(project: Path, value: Any) -> None:
    assert paths(project, {"path": value}) == {}


def test_a_link_to_a_name_that_is_not_text_is_left_out(project: Path) -> None:
    (project / "odd").symlink_to(b"\xff\xfe".decode(errors="surrogateescape"))
    assert paths(project, {"path": "odd"}) == {}


def test_without_a_directory_only_absolute_paths_resolve(project: Path) -> None:
    assert paths(project, {"path": "a"}, directory="") == {}
    assert paths(project, {"path": str(project)}, directory="") == {"path": (RealPath(str(project), None),)}


def test_content_arguments_are_not_resolved(project: Path) -> None:
    assert paths(project, {"text": "a"}) == {}


def test_the_other_facts_are_passed_on(project: Path) -> None:
    files = Files(OwnFiles.of([], []), "/", {})
    tool = Tool("s", "t", "")
    facts = files.gather(tool, {}, WORST, 3, str(project))
    assert (facts.labels, facts.effects, facts.confidence, facts.depth) == (WORST, tool.effects, tool.confidence, 3)


def test_only_real_home_directories_are_protected() -> None:
    assert all(home.startswith("/") and home != "/" for home in home_directories([0, 4_000_000_000]))
