"""Two agents with keys of their own, a decision point, and nothing between them but HTTP: by `forestall task`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.core.entry import Stream
from forestall.home import Home
from forestall.pep.blocking import Connection
from tests import points

POLICY = """\
@id("reads") permit (principal, action in Action::"read", resource);
@id("open") permit (principal, action == Action::"forestall/open", resource);
@id("delegate") permit (principal, action == Action::"forestall/delegate", resource);
@id("extend") permit (principal, action == Action::"forestall/extend", resource);
"""

WORK = """\
purpose = "Sort the files of one order."
tools = ["files/*"]
effects = ["read", "write"]
lifetime_minutes = 30
depth = 2
[parameters.order]
pattern = "[0-9]{4}"
[budget]
read = 20
fan_out = 3
"""

IDENTITY = """\
[[trust_domains]]
name = "example.org"
tenant = "acme"
"""

AGENTS = ("support", "shipping", "stranger")


class Shells:
    """A folder for each agent, and a decision point that runs as a process of its own."""

    def __init__(self, root: Path, home: Home) -> None:
        self.root, self.home, self.url = root, home, ""

    def __call__(self, agent: str, *words: str) -> subprocess.CompletedProcess[str]:
        who = ["--client", agent, "--key", "key.jwk", "--url", self.url] if words[0] != "key" else []
        command = [sys.executable, "-m", "forestall.cli", "task", *words, *who]
        folder = self.root / agent
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=points.WAIT_S)

    def says(self, agent: str, *words: str) -> dict[str, Any]:
        done = self(agent, *words, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def active(self, agent: str) -> bool:
        done = self(agent, "show", "grant.json", "--json")
        assert done.returncode in {0, 1}, done.stderr
        said = json.loads(done.stdout)
        assert said["active"] is (done.returncode == 0)
        return bool(said["active"])


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[Shells]:
    home = points.make_home(tmp_path, policy=POLICY, settings='[http]\nlisten = "127.0.0.1:0"\n')
    home.mandates.mkdir(exist_ok=True)
    (home.mandates / "work.toml").write_text(WORK)
    shells, lines = Shells(tmp_path, home), [IDENTITY]
    for name in AGENTS:
        (tmp_path / name).mkdir()
        done = shells(name, "key", "key.jwk")
        assert done.returncode == 0, done.stderr
        (home.root / f"{name}.jwks").write_text(done.stdout)
        lines.append(f'[[clients]]\nid = "{name}"\ntrust_domain = "example.org"\njwks = "{name}.jwks"\n')
    (home.root / "identity.toml").write_text("".join(lines))
    with points.process(home) as started:
        points.wait_for_socket(home, started)
        with Connection(home.socket, points.WAIT_S) as connection:
            shells.url = connection.ask("status")["http"]
        yield shells


@pytest.mark.slow
def test_a_task_is_opened_handed_on_shown_and_ended_with_all_below_it(shells: Shells) -> None:
    opened = shells.says("support", "open", "work", "--parameter", "order=4711", "--out", "grant.json")
    assert shells.active("support")
    ticket = shells("support", "delegate", "grant.json", "--to", "shipping", "--tool", "files/read_file")
    assert ticket.returncode == 0, ticket.stderr

    for agent in ("stranger", "shipping"):
        (shells.root / agent / "ticket").write_text(ticket.stdout)
    stolen = shells("stranger", "accept", "ticket", "--out", "grant.json")
    assert stolen.returncode == 77
    assert not (shells.root / "stranger" / "grant.json").exists()
    taken = shells.says("shipping", "accept", "ticket", "--out", "grant.json")
    assert taken["task"] != opened["task"]
    again = shells("shipping", "accept", "ticket", "--out", "second.json")
    assert again.returncode == 77

    shown = json.loads(shells("shipping", "show", "grant.json", "--json").stdout)
    assert (shown["client_id"], shown["txn"], shown["act"]["act"]["sub"]) == ("shipping", opened["task"], "support")
    assert shown["authorization_details"][0]["tools"] == ["files/read_file"]
    longer = shells("shipping", "extend", "grant.json", "--lifetime", "9d")
    assert longer.returncode == 77

    # a grant without its key is nothing: the stranger shows it with another
    grant = json.loads((shells.root / "support" / "grant.json").read_text())
    own = json.loads((shells.root / "stranger" / "key.jwk").read_text())
    stolen_file = shells.root / "stranger" / "grant.json"
    stolen_file.write_text(json.dumps({"token": grant["token"], "key": own}))
    stolen_file.chmod(0o600)
    assert shells("stranger", "complete", "grant.json").returncode == 77
    assert shells.active("support")

    shells.says("support", "complete", "grant.json")
    assert not shells.active("support")
    assert not shells.active("shipping")
    over = shells("support", "delegate", "grant.json", "--to", "shipping")
    assert over.returncode == 77
    assert "task_ended" in over.stderr
    kinds = points.kinds(shells.home)
    assert [kind for kind in kinds if kind in {"opened", "closed"}] == ["opened", "opened", "closed"]
    denials = points.entries(shells.home, Stream.DENIALS)
    assert denials
    for secret in (grant["token"], grant["key"]["d"], ticket.stdout.strip()):
        assert secret not in json.dumps(denials)


@pytest.mark.slow
def test_who_is_not_registered_and_what_no_mandate_gives(shells: Shells) -> None:
    unknown = shells("support", "open", "nothing", "--out", "grant.json")
    assert unknown.returncode == 77
    assert "unclear_intent" in unknown.stderr
    (shells.root / "support" / "key.jwk").unlink()
    assert shells("support", "key", "key.jwk").returncode == 0
    other = shells("support", "open", "work", "--parameter", "order=4711", "--out", "grant.json")
    assert other.returncode == 77
    assert "invalid_client" in other.stderr
