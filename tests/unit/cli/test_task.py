from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall import cli
from forestall.proof.jwk import parse_set
from forestall.server.http.message import Response
from tests.tokens import SECONDS, key, token
from tests.unit.agent.test_client import Desk
from tests.web import beside

GRANT = token({"task": "t1", "exp": SECONDS}, key())
GRANTED = {"access_token": GRANT, "token_type": "DPoP"}


class Shell:
    """Somebody with a terminal, a key, and a decision point that answers as it is told to."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        self.folder, self.desk = folder, desk

    def __call__(self, *words: str, answer: Response | dict[str, Any] | None = None) -> int:
        if answer is not None:
            self.desk.answers.append(answer)
        who = () if words[0] == "key" else ("--client", "support", "--key", "agent.jwk")
        return cli.main(["task", *words, *who])


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    desk = Desk()
    with beside({("POST", path): desk for path in ("/token", "/revoke", "/introspect")}) as url:
        monkeypatch.setenv("FORESTALL_URL", url)
        shell = Shell(tmp_path, desk)
        assert shell("key", "agent.jwk") == 0
        (public,) = parse_set(capsys.readouterr().out).keys
        assert public.kid == public.thumbprint
        yield shell


def opened(shell: Shell) -> None:
    assert shell("open", "refund", "--out", "grant.json", answer=GRANTED) == 0


def test_a_key_is_never_written_over(shell: Shell) -> None:
    before = (shell.folder / "agent.jwk").read_text()
    assert shell("key", "agent.jwk") == 78
    assert (shell.folder / "agent.jwk").read_text() == before


def test_open_keeps_the_grant_for_its_owner(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("open", "refund", "--parameter", "order=a=b", "--lifetime", "20m", "--purpose", "p", "--out", "grant.json")
    (shell.folder / "id").write_text("id.to.ken\n")
    assert shell(*words, "--user-token", "id", "--json", answer=GRANTED) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"task": "t1", "expires_at": SECONDS * 1000, "grant": "grant.json"}
    assert GRANT not in shown
    file = shell.folder / "grant.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["token"] == GRANT
    (form,) = shell.desk.forms
    (detail,) = form["authorization_details"]
    assert (detail["parameters"], detail["expires_in_s"], detail["purpose"]) == ({"order": "a=b"}, 1200, "p")
    assert form["subject_token"] == "id.to.ken"


def test_delegate_and_accept(shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened(shell)
    capsys.readouterr()
    words = ("delegate", "grant.json", "--to", "shipping", "--tool", "a/*", "--tool", "b/c", "--budget", "write=5")
    assert shell(*words, "--max-depth", "1", answer={"access_token": "a.b.c", "expires_in": 60}) == 0
    assert capsys.readouterr().out == "a.b.c\n"
    (detail,) = shell.desk.forms[-1]["authorization_details"]
    assert (detail["tools"], detail["budget"], detail["max_depth"]) == (["a/*", "b/c"], {"write": 5}, 1)
    assert "effects" not in detail

    assert shell(*words, "--out", "ticket", answer={"access_token": "a.b.c", "expires_in": 60}) == 0
    assert "a.b.c" not in capsys.readouterr().out
    assert stat.S_IMODE((shell.folder / "ticket").stat().st_mode) == 0o600
    assert shell("accept", "ticket", "--out", "child.json", answer=GRANTED) == 0
    assert shell.desk.forms[-1]["subject_token"] == "a.b.c"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"d.e.f\n")))
    assert shell("accept", "-", "--out", "child.json", answer=GRANTED) == 0
    assert shell.desk.forms[-1]["subject_token"] == "d.e.f"


def test_extend_keeps_the_key_and_complete_ends(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    opened(shell)
    before = json.loads((shell.folder / "grant.json").read_text())
    longer = token({"task": "t1", "exp": SECONDS + 60}, key())
    assert shell("extend", "grant.json", "--lifetime", "1h", answer={"access_token": longer}) == 0
    after = json.loads((shell.folder / "grant.json").read_text())
    assert (after["token"], after["key"]) == (longer, before["key"])
    assert shell("complete", "grant.json", "--failed", answer={}) == 0
    assert shell.desk.forms[-1]["outcome"] == "failed"
    assert "t1 has ended" in capsys.readouterr().out


def test_show_says_whether_it_counts_and_nothing_moves_the_terminal(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(shell)
    capsys.readouterr()
    assert shell("show", "grant.json", answer={"active": True, "sub": "\x1b[31mada", "act": {"sub": "x"}}) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert '{"sub": "x"}' in shown
    assert shell("show", "grant.json", "--json", answer={"active": False}) == 1
    assert json.loads(capsys.readouterr().out) == {"active": False}


def test_a_refusal_is_77_and_leaves_the_grant_as_it_is(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    opened(shell)
    before = (shell.folder / "grant.json").read_text()
    said = {"error": "access_denied", "reason": "beyond_mandate", "error_description": "Too long.", "decision": "d"}
    assert shell("extend", "grant.json", "--lifetime", "9d", answer=said) == 77
    assert (shell.folder / "grant.json").read_text() == before
    assert "beyond_mandate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["open", "m"], 2),
        (["open", "m", "--out", "g", "--lifetime", "20"], 2),
        (["open", "m", "--out", "g", "--lifetime", "-5m"], 2),
        (["open", "m", "--out", "g", "--parameter", "order"], 65),
        (["open", "m", "--out", "g", "--user-token", "missing"], 78),
        (["open", "m", "--out", "g", "--token-file", "x"], 78),
        (["open", "m", "--out", "g", "--certificate", "x"], 78),
        (["open", "m", "--out", "g", "--spiffe"], 78),
        (["delegate", "missing", "--to", "x"], 78),
        (["accept", "agent.jwk", "--out", "g"], 65),
        (["show", "agent.jwk"], 78),
        (["nothing"], 2),
    ],
)
def test_command_lines_that_cannot_be(shell: Shell, words: list[str], code: int) -> None:
    assert shell(*words) == code
    assert shell.desk.requests == []


def test_it_has_to_know_where_and_who(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["task", "open", "m", "--out", "g"]) == 78
    assert cli.main(["task", "open", "m", "--out", "g", "--client", "support"]) == 78
    monkeypatch.delenv("FORESTALL_URL")
    assert shell("open", "m", "--out", "g") == 78
