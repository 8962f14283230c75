"""What every command says of itself, and to a program: help with examples, JSON where it prints data, no colours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from forestall import cli
from tests.attack.scratch import Scratch
from tests.mcpkit.session import PLAIN

PRINTS_DATA = ["init", "status", "check", "test", "log", "explain"]
ANSWERED = [
    "keys",
    "credentials",
    "tasks",
    "leases",
    "kill",
    "suspend",
    "resume",
    "risk",
    "approvals",
    "approve",
    "deny",
]
"""They print what the decision point answers, and so want one that runs; `keys` and `credentials` want a home's."""

"""The others print nothing, or (`prove`) a proof, which has a format of its own."""


def shown(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("words", [["forestall.cli", name] for name in cli.COMMANDS] + [["forestall_verify"]])
def test_every_help_has_examples_that_run(words: list[str]) -> None:
    text = shown(*words)
    assert "examples:\n" in text
    program = "forestall-verify" if len(words) == 1 else f"forestall {words[1]}"
    assert len(re.findall(rf"^  {program}", text, re.MULTILINE)) >= 2 or words[-1] == "prove"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_what_prints_data_does_so_for_programs(name: str) -> None:
    assert ("--json" in shown("forestall.cli", name)) is (name in PRINTS_DATA + ANSWERED)


def test_the_exit_codes_are_in_the_help() -> None:
    text = shown("forestall.cli")
    for code in (0, 1, 2, 65, 69, 70, 76, 77, 78, 126, 127, 130):
        assert re.search(rf"^  {code} +\w", text, re.MULTILINE)
    assert re.findall(r"^  (\d+) ", shown("forestall_verify"), re.MULTILINE) == ["0", "2", "76", "78", "130"]


def commands(used: Scratch) -> dict[str, tuple[str, ...]]:
    file = used.home.root.with_name("client.json")
    file.write_text(json.dumps({"mcpServers": {"plain": {"command": PLAIN[0], "args": PLAIN[1:]}}}))
    return {
        "init": ("init", "--yes", str(file)),
        "status": ("status", str(file)),
        "check": ("check",),
        "test": ("test",),
        "log": ("log",),
        "explain": ("explain", used.permit),
    }


@pytest.mark.parametrize("name", PRINTS_DATA)
def test_nothing_is_coloured_and_json_is_all_there_is(used: Scratch, name: str) -> None:
    words = commands(used)[name]
    for said in (used.run(*words), used.run(*words, "--json")):
        assert said.code in (0, 1)
        assert "\x1b" not in said.out + said.err
    for text in said.out.splitlines() if name == "log" else [said.out]:
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    "words",
    [
        "nonsense",
        "--nonsense",
        "check --nonsense",
        "gateway x",
        "log --since ever",
        "log -n-1",
        "serve --idle-exit x",
        "gateway --directory /nowhere x -- true",
    ],
)
def test_a_wrong_command_line_is_one_sentence(words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "forestall.cli", *words.split()], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("forestall: ")
    assert line.endswith((".", "?"))


@pytest.mark.parametrize("name", ["my server!", "mcp", "forestall"])
def test_a_server_of_a_name_that_no_catalogue_can_have_is_not_started(scratch: Scratch, name: str) -> None:
    """Every call of it would be denied, without a word to its user."""
    command = [sys.executable, "-m", "forestall.cli", "gateway", "--home", str(scratch.home.root), name, "--", *PLAIN]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (78, "")
    assert "A server cannot be" in done.stderr
    assert repr(name) in done.stderr
    assert scratch.reached() == []


@pytest.mark.parametrize("words", [[], ["--nonsense"], ["--proof", "x"], ["a", "b"]])
def test_a_wrong_command_line_of_the_verifier_is_one_sentence(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "forestall_verify", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("forestall-verify: ")
    assert line.endswith("; see forestall-verify --help.")


# -- init: a configuration, and servers, that are not what they should be


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ('{"mcpServers": {\n"x": }', 78, "client.json:2: not a JSON value."),
        ("", 78, "client.json:1: not a JSON value."),
        (None, 78, "client.json: cannot be read: No such file or directory. Name the client's configuration."),
    ],
)
def test_a_configuration_that_is_wrong_is_one_sentence(
    scratch: Scratch, tmp_path: Path, text: str | None, code: int, says: str
) -> None:
    file = tmp_path / "client.json"
    if text is not None:
        file.write_text(text)
    for words in (("init", "--yes", str(file)), ("init", "--yes", "--json", str(file)), ("status", str(file))):
        said = scratch.run(*words)
        assert (said.code, said.out) == (code, "")
        assert said.sentence().endswith(says)


def test_a_configuration_that_names_no_server_is_said(scratch: Scratch, tmp_path: Path) -> None:
    file = tmp_path / "client.json"
    file.write_text('{"servers": {}}')
    said = scratch.run("init", "--yes", str(file))
    assert said.code == 0
    assert f"{file} names no MCP server: it has no `mcpServers`, or an empty one." in said.out


SERVERS = {
    "is not there": ("no-such-server", [], "does not start: No such file or directory. Check `command`"),
    "ends at once": ("sh", ["-c", "echo no database >&2; exit 3"], "exit code 3; it said: no database"),
    "sends nonsense": ("yes", [], "sent what cannot be read: "),
}


@pytest.mark.parametrize("case", SERVERS)
def test_a_server_that_fails_is_said_and_its_configuration_left(scratch: Scratch, tmp_path: Path, case: str) -> None:
    command, arguments, says = SERVERS[case]
    file = tmp_path / "client.json"
    file.write_text(json.dumps({"mcpServers": {"x": {"command": command, "args": arguments}}}))
    before = file.read_bytes()
    said = scratch.run("init", "--yes", str(file))
    assert said.code == 69
    assert says in said.out
    assert "Listing x (at most 90 s) ...\n" in said.err
    assert "Traceback" not in said.out + said.err
    assert file.read_bytes() == before
    assert not (scratch.home.catalogue / "x.toml").exists()


def test_a_change_that_nobody_made_is_not_accepted_in_silence(scratch: Scratch, tmp_path: Path) -> None:
    file = tmp_path / "client.json"
    file.write_text(json.dumps({"mcpServers": {"plain": {"command": PLAIN[0], "args": PLAIN[1:]}}}))
    said = scratch.run("init", "--yes", "--accept-change", "plain/ecoh", str(file))
    assert said.code == 2
    assert "forestall: --accept-change plain/ecoh: no such tool changed; name one marked !, as SERVER/TOOL." in said.err
