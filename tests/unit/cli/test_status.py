from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from forestall import cli
from forestall.setup import backup, client
from forestall.setup.state import own_tools
from tests import points


class Place:
    def __init__(self, directory: Path) -> None:
        self.home = points.make_home(directory)
        self.file = directory / ".mcp.json"

    def configure(self, **servers: Any) -> None:
        self.file.write_text(json.dumps({"mcpServers": servers}))

    def guard(self, *names: str) -> None:
        program = self.home.root.parent / "forestall"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        start = (str(program), "gateway", "--home", str(self.home.root))
        backup.apply(self.home, client.read(self.file), names, start)

    def status(self, *words: str) -> int:
        return cli.main(["status", "--home", str(self.home.root), *words])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def test_it_says_what_is_guarded_and_what_is_not(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(
        files={"command": "x", "env": {"A_TOKEN": "s3cr3t"}},
        open={"command": "y"},
        web={"type": "sse", "url": "https://example.com"},
    )
    place.guard("files")
    assert place.status() == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "guarded files 4 tools" in shown
    assert "NOT GUARDED open run `forestall init --apply`" in shown
    assert "NOT GUARDED web it is reached over HTTP with SSE" in shown
    assert "NOT GUARDED tools of Claude Code's own (Bash, Edit," in shown
    assert "Decision point not running" in shown
    assert "4 in own.cedar" in shown
    assert "Assurance local:" in shown
    assert "4 tools reviewed, 0 only proposed" in shown
    assert "files: variable A_TOKEN" in shown
    assert "s3cr3t" not in shown


def test_all_guarded_is_zero(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(files={"command": "x"})
    place.guard("files")
    assert place.status(str(place.file)) == 0
    assert place.status("--json") == 0
    capsys.readouterr()
    assert place.status("--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["guarded"]
    assert data["policy"]["count"] == 4
    assert data["tools"]["files/send"] == "declared"
    assert data["configurations"][0]["unguarded_tools"]["tools"]


def test_a_running_decision_point_is_asked(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(files={"command": "x"})
    place.guard("files")
    with points.process(place.home) as started:
        points.wait_for_socket(place.home, started)
        assert place.status("--json") == 0
        data = json.loads(capsys.readouterr().out)
        assert data["decision_point"]["running"]
        assert data["decision_point"]["policy_digest"] == data["policy"]["digest"]
        assert place.status() == 0
        assert "NOT the one" not in capsys.readouterr().out
        (place.home.policy / "own.cedar").write_text('@id("none") forbid (principal, action, resource);')
        assert place.status() == 0
        assert "its policy is NOT the one on disk" in capsys.readouterr().out


def test_a_configuration_that_was_rewritten_is_found_from_anywhere(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.configure(files={"command": "x"})
    place.guard("files")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert place.status() == 0
    assert str(place.file) in capsys.readouterr().out


def test_nothing_to_look_at_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(place.home.root)
    assert place.status() == 78
    assert "name one" in capsys.readouterr().err


def test_a_home_that_serves_agents_elsewhere_is_shown_without_a_client(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.status() == 0
    assert "No client's configuration is here" in (said := capsys.readouterr().out)
    assert "Decision point  not running" in said


def test_what_is_wrong_is_said_and_hides_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(files={"command": "x"})
    place.guard("files")
    (place.home.policy / "own.cedar").write_text("permit (")
    (place.home.catalogue / "files.toml").write_text("x = 1\n")
    place.home.config.write_text("nonsense = 1\n")
    assert place.status() == 78
    shown = capsys.readouterr().out
    assert "guarded       files" in shown
    assert "files.toml:1: unknown key 'x'" in shown
    assert "run `forestall check`" in shown
    assert "not usable:" in shown


def test_no_policy_is_a_problem(tmp_path: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(web={"url": "https://example.com"})
    assert cli.main(["status", "--home", str(tmp_path / "none"), str(place.file)]) == 78
    assert "there is no policy" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["words", "joined", "variable"])
def test_a_gateway_of_another_home_is_a_problem(
    place: Place, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.configure(files={"command": "x"})
    place.guard("files")
    other = str(tmp_path / "other")
    data = json.loads(place.file.read_text())
    server = data["mcpServers"]["files"]
    words = {"words": ["--home", other], "joined": [f"--home={other}"], "variable": []}[way]
    server["args"] = ["gateway", *words, "files", "--", "x"]
    server["env"] = {"FORESTALL_HOME": other} if way == "variable" else {}
    place.file.write_text(json.dumps(data))
    assert place.status() == 78
    assert f"another home; see `forestall status --home {other}`" in capsys.readouterr().out


def test_a_gateway_that_is_not_there_is_a_problem(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(files={"command": "x"})
    place.guard("files")
    (place.home.root.parent / "forestall").unlink()
    assert place.status() == 78
    assert "which is not there" in capsys.readouterr().out


def test_a_guarded_server_without_tools_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(other={"command": "x"})
    place.guard("other")
    assert place.status() == 0
    assert "no tool is known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "client"),
    [
        (".mcp.json", "Claude Code"),
        (".vscode/mcp.json", "VS Code"),
        (".cursor/mcp.json", "Cursor"),
        ("x.json", "the client"),
    ],
)
def test_a_clients_own_tools_are_named(path: str, client: str) -> None:
    name, tools = own_tools(Path("/x") / path)
    assert name == client
    assert tools


def test_an_unreadable_configuration_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.status(str(place.file)) == 78
    assert "cannot be read" in capsys.readouterr().err
