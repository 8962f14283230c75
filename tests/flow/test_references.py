"""Referenced content, end to end: decision point, gateway and server are real, and files are really swapped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forestall.cli.explain import as_text, examine
from forestall.core.entry import Stream
from forestall.home import Home
from forestall.pep.mcp.copies import MAX_FILE
from forestall.pep.mcp.presented import PERMIT, PROOF
from forestall_edge import SqliteBurns
from tests.flow import test_remote as remote
from tests.flow.test_approvals_processes import forestall
from tests.mcpkit.home import home_of, stop
from tests.mcpkit.session import Session, decision, gateway
from tests.points import entries, until

pytestmark = pytest.mark.slow

AUDIENCE = "urn:example:reading"
KIT = Path(__file__).parents[1] / "mcpkit"
SERVER = [sys.executable, str(KIT / "reading_server.py")]
GOOD = "sha256:" + hashlib.sha256(b"good").hexdigest()
POLICY = f"""\
@id("known") permit (principal, action == Action::"reading/run", resource)
unless {{ context.references has script && context.references.script != "{GOOD}" }};
@id("send") permit (principal, action == Action::"reading/send", resource);
@id("loose") @approvers("uid:4242") forbid (principal, action == Action::"reading/send", resource)
when {{ context.unbound }} unless {{ context has approval && context.approval.granted }};
"""


def referring(text: str) -> str:
    return text.replace('control = ["script"]', 'control = ["script"]\nreferences = ["script"]').replace(
        'control = ["files"]', 'control = ["files"]\nreferences = ["files"]'
    )


@dataclass
class Place:
    home: Home
    folder: Path
    permits: bool = False

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def copies(self) -> list[Path]:
        return [path for path in (self.home.run / "copies").rglob("*") if path.is_file() and path.name != "lock"]

    @property
    def command(self) -> list[str]:
        own = [AUDIENCE, str(self.home.run / "permits.json"), str(self.folder / "burns")] if self.permits else []
        return [sys.executable, str(KIT / "tee.py"), str(self.folder / "wire"), *SERVER, *own]

    def session(self, **environment: str) -> Session:
        command = gateway(self.home.root, self.command, "--directory", str(self.work), name="reading")
        return Session(command, **environment)

    def calls(self) -> list[dict[str, Any]]:
        lines = map(json.loads, (self.folder / "wire.in").read_bytes().splitlines())
        return [line["params"] for line in lines if line.get("method") == "tools/call"]


@pytest.fixture(scope="module")
def prepared() -> Iterator[Home]:
    with home_of({"reading": SERVER}, edit=referring) as home:
        assert (home.catalogue / "reading.toml").read_text().count("references = [") == 2
        yield home


@pytest.fixture
def place(prepared: Home, tmp_path: Path) -> Iterator[Place]:
    with home_of({}, POLICY) as home:
        for file in prepared.catalogue.iterdir():
            (home.catalogue / file.name).write_bytes(file.read_bytes())
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "a.sh").write_text("good")
        yield Place(home, tmp_path)


def text(answer: Any) -> str:
    assert answer["result"].get("isError") is not True, answer
    return str(answer["result"]["content"][0]["text"])


def test_what_is_decided_about_is_what_is_used(place: Place) -> None:
    with place.session() as client:
        client.initialize()
        client.call(1, "run", script="a.sh")
        used, content = text(client.answer_to(1)).split("\n")
        assert content == "good"
        assert Path(used).name == "a.sh"
        assert Path(used).is_relative_to(place.home.run / "copies")
        (place.work / "a.sh").write_text("bad")
        client.call(2, "run", script="a.sh")
        assert decision(client.answer_to(2))["reason"] == "no_policy"
        client.end()
    assert not list((place.home.run / "copies").iterdir())
    stop(place.home)
    (entry,) = (entry for entry in entries(place.home) if entry["kind"] == "permitted")
    assert entry["references"].startswith("sha256:")
    assert GOOD not in json.dumps(entry)
    assert "unbound" not in entry
    account = examine(place.home, entry["id"])
    assert f"content    of script: {GOOD}" in list(as_text(account))
    assert account.explanation is not None
    assert account.explanation.ruling.decision == "permit"


@pytest.mark.parametrize("swap", ["write", "rename", "link", "folder"])
def test_a_swap_between_the_decision_and_the_deed_changes_nothing(place: Place, swap: str) -> None:
    (place.work / "bad").mkdir()
    (place.work / "bad" / "a.sh").write_text("bad")
    (place.work / "in").mkdir()
    (place.work / "in" / "a.sh").write_text("good")
    go, ran = place.folder / "go", place.folder / "ran"
    os.mkfifo(go)
    with place.session(GO=str(go), RAN=str(ran)) as client:
        client.initialize()
        client.call(1, "run", script="in/a.sh")
        until(ran.exists)
        script = place.work / "in" / "a.sh"
        match swap:
            case "write":
                script.write_text("bad")
            case "rename":
                (place.work / "bad" / "a.sh").rename(script)
            case "link":
                script.unlink()
                script.symlink_to(place.work / "bad" / "a.sh")
            case "folder":
                (place.work / "in").rename(place.work / "out")
                (place.work / "in").symlink_to("bad")
        assert script.read_text() == "bad"
        go.write_bytes(b"go")
        assert text(client.answer_to(1)).endswith("\ngood")
        client.end()


def test_what_cannot_be_bound_is_held_also_where_no_policy_asks_anybody(place: Place) -> None:
    os.mkfifo(place.work / "fifo")
    (place.work / "folder").mkdir()
    (place.work / "huge").touch()
    os.truncate(place.work / "huge", MAX_FILE + 1)
    os.link(place.work / "a.sh", place.work / "twice")
    names = ["fifo", "folder", "huge", "twice", "none", "~/a.sh", "/dev/zero"]
    with place.session() as client:
        client.initialize()
        for number, name in enumerate(names):
            client.call(number, "run", script=name)
            said = decision(client.answer_to(number))
            assert (said["decision"], said["reason"]) == ("hold", "needs_approval"), name
        shown = forestall(place.home, "approve", said["decision_id"], "--json")
        assert json.loads(shown.stdout)["action"]["unbound"] == ["script"]
        assert json.loads(shown.stdout)["missing"] == [{"approvers": ["owner"], "count": 1}]
        account = examine(place.home, said["decision_id"])
        assert account.explanation is not None
        assert account.explanation.ruling.decision == "hold"
        client.call(98, "send", files=["fifo", "a.sh"])
        assert decision(client.answer_to(98))["decision"] == "hold"
        client.end()
    assert place.calls() == []
    stop(place.home)
    own = {"reading/run", "reading/send"}  # and not a canary
    refused = [entry for entry in entries(place.home, Stream.DENIALS) if entry["tool"] in own]
    assert [entry.get("unbound") for entry in refused] == [["script"]] * len(names) + [["files"]]


def test_each_of_several_files_is_bound(place: Place) -> None:
    (place.work / "b").write_text("-two")
    (place.work / "link").symlink_to("b")
    with place.session() as client:
        client.initialize()
        client.call(1, "send", files=["a.sh", "b", "link", "a.sh"])
        assert text(client.answer_to(1)) == "good-two-twogood"
        client.end()


def test_a_gateway_that_was_killed_leaves_copies_to_the_next(place: Place) -> None:
    go, ran = place.folder / "go", place.folder / "ran"
    os.mkfifo(go)
    with place.session(GO=str(go), RAN=str(ran)) as client:
        client.initialize()
        client.call(1, "run", script="a.sh")
        until(ran.exists)
        client.process.send_signal(signal.SIGKILL)
        client.process.wait()
        assert len(place.copies) == 1
    with go.open("r+b", buffering=0) as gate:  # for both, since its server may be gone already, or come to it later
        gate.write(b"go")
        with place.session() as client:
            client.initialize()
            client.call(1, "run", script="a.sh")
            assert text(client.answer_to(1)).endswith("\ngood")
            client.end()
    assert place.copies == []


def test_a_server_that_demands_permits_looks_at_the_content_itself(place: Place) -> None:
    place.home.config.write_text(f'[permits.reading]\naudience = "{AUDIENCE}"\n')
    SqliteBurns(place.folder / "burns", lambda: time.time() - 60).close()
    place.permits = True
    with place.session() as client:
        client.initialize()
        client.call(1, "run", script="a.sh")
        assert text(client.answer_to(1)).endswith("\ngood")
        client.call(2, "send", files=["a.sh", "a.sh"])
        assert text(client.answer_to(2)) == "goodgood"
        client.end()
    assert all({PERMIT, PROOF} <= set(sent["_meta"]) for sent in place.calls())


ASKS = """\
@id("run") permit (principal, action == Action::"reading/run", resource);
@id("ask") @approvers("local") forbid (principal, action == Action::"reading/run", resource)
unless { context has approval && context.approval.granted };
"""


def approve(place: Place, answer: Any) -> None:
    """As a person does who looks at all of it."""
    said = decision(answer)
    assert said["decision"] == "hold", said
    shown = json.loads(forestall(place.home, "approve", said["decision_id"], "--json").stdout)
    digest = shown["digest"].removeprefix("sha256:")
    assert forestall(place.home, "approve", said["decision_id"], "--yes", "--digest", digest).returncode == 0


def test_a_yes_is_to_one_content_and_to_no_other(place: Place) -> None:
    (place.home.policy / "own.cedar").write_text(ASKS)
    with place.session() as client:
        client.initialize()
        client.call(1, "run", script="a.sh")
        approve(place, client.answer_to(1))
        (place.work / "a.sh").write_text("bad")
        client.call(2, "run", script="a.sh")
        assert decision(client.answer_to(2))["decision"] == "hold"
        (place.work / "a.sh").unlink()
        (place.work / "a.sh").symlink_to("none")
        client.call(3, "run", script="a.sh")
        assert decision(client.answer_to(3))["decision"] == "hold"
        (place.work / "a.sh").unlink()
        (place.work / "a.sh").write_text("good")
        client.call(4, "run", script="a.sh")
        assert text(client.answer_to(4)).endswith("\ngood")
        client.end()


def test_what_is_unbound_runs_by_its_name_once_a_person_agreed(place: Place) -> None:
    (place.home.policy / "own.cedar").write_text(ASKS)
    os.link(place.work / "a.sh", place.work / "twice")
    name = str(place.work / "twice")
    with place.session() as client:
        client.initialize()
        client.call(1, "run", script=name)
        approve(place, client.answer_to(1))
        client.call(2, "run", script=name)
        assert text(client.answer_to(2)) == f"{name}\ngood"
        client.call(3, "run", script=name)
        assert decision(client.answer_to(3))["decision"] == "hold"
        client.end()


def test_nothing_is_bound_for_a_server_of_elsewhere(place: Place) -> None:
    """It could not read the copy, and what it reads by that name is another file."""

    def edit(text: str) -> str:
        return text.replace('content = ["text"]', 'references = ["text"]')

    with home_of({"full": remote.FULL}, edit=edit) as home, remote.served("events") as url:
        assert 'references = ["text"]' in (home.catalogue / "full.toml").read_text()
        with Session(remote.gateway(home, url)) as client:
            client.initialize()
            client.call(1, "echo", text=str(place.work / "a.sh"))
            assert decision(client.answer_to(1))["decision"] == "hold"
            client.end()
        assert not (home.run / "copies").exists()
