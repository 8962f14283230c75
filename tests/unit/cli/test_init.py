from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forestall import catalogue, cli
from forestall.core.effects import Confidence, Effect
from forestall.setup.client import read
from tests import points
from tests.unit.setup import scripted


class Place:
    """A directory with a client's configuration in it, and a home."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.file = directory / ".mcp.json"

    def configure(self, **servers: Any) -> None:
        self.file.write_text(json.dumps({"mcpServers": servers}, indent=2))

    def init(self, *words: str) -> int:
        return cli.main(["init", "--home", str(self.home), str(self.file), *words])


def server(behaviour: str = "plain", **more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": [scripted.__file__, behaviour], **more}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def test_it_proposes_and_says_what_to_do_next(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(mail=server())
    before = place.file.read_bytes()
    assert place.init("--yes") == 0
    shown = capsys.readouterr()
    assert "2 tools: 2 destructive; 2 not accepted yet" in shown.out
    assert 'send: external  (its name says "send")' in shown.out
    assert "--accept" in shown.out
    assert "--apply" in shown.out
    assert scripted.__file__ in shown.err
    assert place.file.read_bytes() == before
    assert {tool.id for tool in catalogue.load(place.home / "catalogue").all()} == {"mail/look", "mail/send"}
    assert cli.main(["check", "--home", str(place.home)]) == 0
    assert cli.main(["test", "--home", str(place.home)]) == 0


def test_without_consent_nothing_starts(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    marker = place.directory / "started"
    place.configure(
        evil={"command": sys.executable, "args": ["-c", f"open({str(marker)!r}, 'w')"], "env": {"A_KEY": "v4lue"}}
    )
    assert place.init("--apply", "--accept") == 77
    shown = capsys.readouterr()
    assert "--yes" in shown.err
    assert "A_KEY" in shown.err
    assert "v4lue" not in shown.err + shown.out
    assert not marker.exists()
    assert not place.home.exists()
    assert read(place.file).servers[0].guarded_as is None


def at_a_terminal(place: Place, keys: str, *words: str) -> tuple[int, str]:
    """Run it with a terminal as standard input and standard error; the exit code, and what was asked."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "forestall.cli", "init", "--home", str(place.home), str(place.file), *words]
    try:
        os.write(ours, keys.encode())
        done = subprocess.run(command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, timeout=60, check=False)
        return done.returncode, os.read(ours, 65536).decode() + done.stdout.decode()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("keys", "listed"),
    [("y\nn\ny\n", {"a", "c"}), ("n\na\n", {"b", "c"}), ("y\nq\n", {"a"}), ("x\n\ny\nn\nn\n", {"a"}), ("\x04", set())],
)
def test_at_a_terminal_it_asks_for_each(place: Place, keys: str, listed: set[str]) -> None:
    place.configure(a=server(), b=server(), c=server())
    code, shown = at_a_terminal(place, keys, "--json")
    assert code == 0
    assert "Start a?" in shown
    data = json.loads(shown[shown.index("{\n") :])
    assert {one["server"] for one in data["servers"] if one["listed"]} == listed


def test_one_that_fails_does_not_stop_the_others(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(
        dead=server("dies"),
        gone={"command": "forestall-has-no-such-command"},
        web={"type": "sse", "url": "https://example.com/mcp"},
        mail=server(),
    )
    assert place.init("--yes", "--apply") == 69
    shown = capsys.readouterr().out
    assert "dead           failed: the server ended" in shown
    assert "gone           failed:" in shown
    assert "web            not guarded:" in shown
    assert "mail           2 tools" in shown
    guarded = {one.name: one.guarded_as for one in read(place.file).servers}
    assert guarded == {"dead": "dead", "gone": "gone", "web": None, "mail": "mail"}


def test_accepting_apply_and_undo(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(mail=server(env={"MAIL_TOKEN": "s3cr3t-value"}))
    before = place.file.read_bytes()
    assert place.init("--yes", "--accept", "--apply") == 0
    tools = {tool.name: tool for tool in catalogue.load(place.home / "catalogue").all()}
    assert tools["send"].effects == {Effect.EXTERNAL}
    assert {tool.confidence for tool in tools.values()} == {Confidence.DECLARED}
    (one,) = read(place.file).servers
    assert one.guarded_as == "mail"
    assert one.gateway[-2:] == ("--home", str(place.home))
    shown = capsys.readouterr()
    assert "variable MAIL_TOKEN" in shown.out
    assert "s3cr3t" not in shown.out + shown.err
    after = place.file.read_bytes()
    assert place.init("--yes", "--apply") == 0  # lists through what is behind the gateway, and changes nothing
    assert place.file.read_bytes() == after
    assert place.init("--undo") == 0
    assert place.file.read_bytes() == before
    assert place.init("--undo") == 78


def test_undo_does_not_lose_what_came_later(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(mail=server())
    before = place.file.read_bytes()
    assert place.init("--yes", "--apply") == 0
    place.file.write_bytes(place.file.read_bytes() + b"\n")
    assert place.init("--undo") == 78
    assert "--force" in capsys.readouterr().err
    assert place.init("--undo", "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"restored": str(place.file)}
    assert place.file.read_bytes() == before


def test_a_changed_tool_is_shown_until_it_is_accepted_by_name(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(mail=server("changes"))
    assert place.init("--yes", "--accept") == 0
    kept = place.home / "catalogue" / "mail.json"
    data = json.loads(kept.read_text())
    assert [tool["name"] for tool in data["tools"]] == ["look", "send"]
    changing = place.directory / "changing.py"
    changing.write_text(
        Path(scripted.__file__).read_text().replace('{"to": {"type": "string"}}', '{"to": {}, "bcc": {}}')
    )
    place.configure(mail={"command": sys.executable, "args": [str(changing), "plain"]})
    assert place.init("--yes", "--accept") == 0
    shown = capsys.readouterr().out
    assert "mail/send changed (what it takes, gives or hints); quarantined" in shown
    assert "+ inputSchema.properties.bcc: {}" in shown
    assert "--accept-change mail/send" in shown
    assert place.init("--yes", "--accept-change", "mail/send") == 0
    assert "accepted now" in capsys.readouterr().out
    tool = catalogue.load(place.home / "catalogue").find("mail/send")
    assert tool is not None
    assert tool.control == {"to", "bcc"}


def test_it_answers_a_program(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(mail=server(), web={"type": "sse", "url": "https://me:pass@example.com/mcp"})
    assert place.init("--yes", "--json", "--apply") == 1
    text = capsys.readouterr().out
    data = json.loads(text)
    mail, web = data["servers"]
    assert mail["tools"]["send"]["effects"] == ["external", "destructive"]
    assert mail["waiting"] == ["look", "send"]
    assert web["obstacle"]
    assert web["tokens"] == ["its URL"]
    assert data["applied"]
    assert Path(data["backup"]).is_file()
    assert "pass@" not in text
    assert data["unguarded"] == ["web"]


def test_a_server_that_stays_unguarded_is_named_last_and_told_by_the_exit_code(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.configure(**{"my server!": server(), "mail": server()})
    assert place.init("--yes", "--accept", "--apply") == 1
    out = capsys.readouterr().out
    assert "NOT guarded: my server!. The client uses what is named here without Forestall." in out
    assert "Restart the client." in out
    assert place.init("--yes") == 0


def test_nothing_is_said_of_a_restart_where_nothing_was_guarded(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.configure(**{"my server!": server()})
    assert place.init("--yes", "--apply") == 1
    out = capsys.readouterr().out
    assert "NOT guarded: my server!." in out
    assert "Restart the client." not in out
    assert "--undo" not in out


def test_a_running_decision_point_takes_it_in(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(mail=server())
    assert place.init("--yes", "--accept") == 0
    home = points.Home(place.home)
    with points.process(home) as started:
        points.wait_for_socket(home, started)
        place.configure(mail=server(), more=server())
        capsys.readouterr()
        assert place.init("--yes", "--accept") == 0
        shown = capsys.readouterr().out
    assert "has taken it in" in shown
    assert "mail/send is hidden" in shown


def test_a_broken_catalogue_is_said_and_left(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.configure(mail=server())
    (place.home / "catalogue").mkdir(parents=True)
    broken = place.home / "catalogue" / "mail.toml"
    broken.write_text("format = 1\nserver = 7\n")
    broken.with_suffix(".json").write_text('{"format": 1, "server": "mail", "tools": []}')
    assert place.init("--yes", "--accept") == 78
    assert f"{broken}:2:" in capsys.readouterr().out
    assert broken.read_text() == "format = 1\nserver = 7\n"


@pytest.mark.parametrize("text", ["", "{}", '{"mcpServers": {"a": {}}}', '{"mcpServers": {}, // x\n}'])
def test_what_is_no_configuration_is_refused(place: Place, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    place.file.write_text(text)
    assert place.init("--yes") == 78
    assert f"{place.file}:" in capsys.readouterr().err
    assert not place.home.exists()


def test_no_file_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "--home", str(place.home)]) == 78
    assert ".mcp.json: cannot be read" in capsys.readouterr().err


def test_a_configuration_without_servers_needs_no_consent(place: Place) -> None:
    place.configure(web={"type": "sse", "url": "https://example.com"})
    assert place.init() == 0
    assert (place.home / "policy" / "starter.cedar").is_file()


def test_what_a_hostile_configuration_says_does_not_reach_the_terminal(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.configure(**{"a\x1b[2J": server(), "b": {"command": "x\x1b[2J", "args": ["\u202e"]}})
    assert place.init() == 77
    assert place.init("--yes") == 69
    shown = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in shown.out + shown.err)
