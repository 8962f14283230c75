"""Approvals end to end: a client, the gateway, a decision point, a server and a command line, each a process."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.home import Home
from forestall.server.listening import answers
from tests.mcpkit.home import home_of, stop
from tests.mcpkit.session import PLAIN, Session, decision, gateway
from tests.points import POLICY as POINTS
from tests.points import WAIT_S, Peer, entries, kinds, make_home, process, until, wait_for_socket

POLICY = """\
@id("all") permit (principal, action, resource) unless { action == Action::"plain/echo" };
@id("who") @approvers("local") permit (principal, action == Action::"plain/echo", resource)
when { context has approval && context.approval.granted };
"""


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of({"plain": PLAIN}, POLICY) as home:
        yield home


def forestall(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forestall.cli", words[0], "--home", str(home.root), *words[1:]]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_S, check=False, stdin=subprocess.DEVNULL
    )


def at_a_terminal(home: Home, *words: str, say: str) -> tuple[str, int]:
    """As a person: what the terminal showed in the end, and the exit code."""
    command = [sys.executable, "-m", "forestall.cli", words[0], "--home", str(home.root), *words[1:]]
    main, other = pty.openpty()
    wide = {**os.environ, "COLUMNS": "200", "LINES": "500"}
    with subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env=wide) as started:
        os.close(other)
        os.write(main, say.encode())
        shown = b""
        try:
            while part := os.read(main, 65536):
                shown += part
        except OSError:
            pass  # the other end is closed
        finally:
            os.close(main)
        return shown.decode(), started.wait(WAIT_S)


def test_a_call_is_held_then_approved_at_the_command_line_and_then_happens_once(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.call(1, "echo", to="no\u202eyes\x7f")
        answer = client.answer_to(1)
        hold = decision(answer)["decision_id"]
        assert hold in answer["result"]["content"][0]["text"]
        listed = json.loads(forestall(home, "approvals", "--json").stdout)
        assert (listed["hold"], listed["tool"]) == (hold, "plain/echo")
        assert hold in forestall(home, "approvals").stdout

        refused = forestall(home, "approve", hold)
        assert (refused.returncode, "no terminal" in refused.stderr) == (2, True)
        seen = json.loads(forestall(home, "approve", hold, "--json").stdout)
        assert seen["action"]["arguments"] == {"to": "no\u202eyes\x7f"}
        wrong = forestall(home, "approve", hold, "--yes", "--digest", "0" * 12)
        assert (wrong.returncode, "look at it again" in wrong.stderr) == (77, True)
        assert at_a_terminal(home, "approve", hold, say="y\n")[1] == 77
        client.call(2, "echo", to="no\u202eyes\x7f")
        assert decision(client.answer_to(2))["decision"] == "hold"

        shown, code = at_a_terminal(home, "approve", hold, say="yes\n")
        assert code == 0, shown
        assert "\u202e" not in shown
        assert "no<U+202E>yes" in shown
        client.call(3, "echo", to="no\u202eyes\x7f")
        assert not client.answer_to(3)["result"].get("isError")
        client.call(4, "echo", to="no\u202eyes\x7f")
        hold = decision(client.answer_to(4))["decision_id"]

        assert forestall(home, "deny", hold, "--why", "enough").returncode == 0
        client.call(5, "echo", to="no\u202eyes\x7f")
        assert decision(client.answer_to(5))["reason"] == "not_approved"
        gone = forestall(home, "approve", hold, "--json")
        assert (gone.returncode, "final for its task" in gone.stderr) == (77, True)
        client.end()
    stop(home)
    assert kinds(home) == ["opened", "approved", "permitted", "settled", "declined", "closed"]


def test_a_script_names_what_it_has_looked_at(home: Home) -> None:
    with Session(gateway(home.root)) as client:
        client.initialize()
        client.call(1, "echo", a=1)
        hold = decision(client.answer_to(1))["decision_id"]
        digest = json.loads(forestall(home, "approve", hold, "--json").stdout)["digest"]
        done = forestall(home, "approve", hold, "--yes", "--digest", digest[7:19])
        assert done.returncode == 0, done.stderr
        client.call(2, "echo", a=1)
        assert not client.answer_to(2)["result"].get("isError")
        client.end()


def test_a_yes_that_was_recorded_and_not_answered_is_not_lost_and_not_used_by_another_task(tmp_path: Path) -> None:
    policy = POINTS.replace("ada", "local")
    home = make_home(tmp_path, policy)
    command = [sys.executable, "-m", "tests.flow.dying_approver", str(home.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as started:
        wait_for_socket(home, started)

        async def scenario() -> None:
            async with await Peer.gateway(home.socket) as agent, await Peer.cli(home.socket) as ann:
                hold = (await agent.ask("send"))["decision"]["decision_id"]
                ann.request("approvals", hold=hold)
                seen = await ann.receive()
                ann.request("approve", hold=hold, digest=seen["digest"])
                assert await ann.ended()

        asyncio.run(scenario())
        assert started.wait(WAIT_S) == -9
    assert kinds(home) == ["opened", "approved"]
    with process(home) as started:
        wait_for_socket(home, started)

        async def again() -> None:
            async with await Peer.gateway(home.socket) as agent:
                assert (await agent.ask("send"))["type"] == "hold"

        asyncio.run(again())
    assert "permitted" not in [entry["kind"] for entry in entries(home)]


def test_a_person_of_another_user_comes_in_by_the_socket_and_is_who_the_kernel_says(tmp_path: Path) -> None:
    """Where this runs as root, as another user for real; elsewhere as the agent's own, whose yes does not count."""
    other = 65534 if os.geteuid() == 0 else os.geteuid()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        socket = Path(place) / "socket"
        settings = f'[serve]\nsocket = "{socket}"\nallowed_uids = [{other}]\n'
        home = make_home(tmp_path, POINTS.replace('"ada"', f'"uid:{other}"'), settings)
        with process(home) as started:
            until(lambda: answers(socket) or started.poll() is not None)

            async def scenario() -> None:
                async with await Peer.gateway(socket) as agent:
                    hold = (await agent.ask("send"))["decision"]["decision_id"]
                    said = await asyncio.to_thread(_as_user, other, socket, hold)
                    if other == os.geteuid():
                        assert (said.returncode, "user that the agent runs as" in said.stderr) == (77, True)
                    else:
                        assert said.returncode == 0, said.stderr
                        assert (await agent.ask("send"))["type"] == "permit"

            asyncio.run(scenario())
    said = [entry for entry in entries(home) if entry["kind"] == "approved"]
    assert [entry["uid"] for entry in said] == ([] if other == os.geteuid() else [other])


def test_what_is_unbound_waits_for_the_owner_though_no_policy_asks_anybody(tmp_path: Path) -> None:
    """Where this runs as root, of an agent that is another user for real; elsewhere the agent's user is the owner."""
    other = 65534 if os.geteuid() == 0 else os.geteuid()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        socket = Path(place) / "socket"
        settings = f'[serve]\nsocket = "{socket}"\nallowed_uids = [{other}]\n'
        home = make_home(tmp_path, '@id("all") permit (principal, action, resource);', settings)
        catalogue = home.catalogue / "files.toml"
        text = catalogue.read_text()
        catalogue.write_text(text.replace('control = ["to"]', 'control = ["to"]\nreferences = ["to"]'))
        with process(home) as started:
            until(lambda: answers(socket) or started.poll() is not None)

            async def scenario() -> None:
                async with await _agent_of(other, socket) as agent:
                    answer = await agent.ask("send")
                    assert (answer["type"], answer["decision"]["reason"]) == ("hold", "needs_approval")
                    hold = answer["decision"]["decision_id"]
                    shown = json.loads(forestall(home, "approve", hold, "--json", "--socket", str(socket)).stdout)
                    assert shown["action"]["unbound"] == ["to"]
                    assert shown["missing"] == [{"approvers": ["owner"], "count": 1}]
                    said = await asyncio.to_thread(_as_user, os.geteuid(), socket, hold)
                    if other == os.geteuid():
                        assert (said.returncode, "context.unbound" in said.stderr) == (77, True)
                        return
                    assert said.returncode == 0, said.stderr
                    assert (await agent.ask("send", {"to": "another"}))["type"] == "hold"
                    assert (await agent.ask("send"))["type"] == "permit"
                    assert (await agent.ask("send"))["type"] == "hold"

            asyncio.run(scenario())


async def _agent_of(uid: int, socket: Path) -> Peer:
    """One that the kernel says is this user's: it looks when a connection is made."""
    before = os.geteuid()
    os.seteuid(uid)
    try:
        return await Peer.gateway(socket)
    finally:
        os.seteuid(before)


def _as_user(uid: int, socket: Path, hold: str) -> subprocess.CompletedProcess[str]:
    """Look, and say yes to what was seen, in a process that becomes this user once its code is loaded."""
    program = (
        "import io, json, os, sys, contextlib\n"
        "from forestall.cli import main, approve\n"
        f"os.geteuid() == {uid} or os.setuid({uid})\n"
        "shown = io.StringIO()\n"
        "with contextlib.redirect_stdout(shown):\n"
        f"    main(['approve', '{hold}', '--json', '--socket', '{socket}'])\n"
        "digest = json.loads(shown.getvalue())['digest']\n"
        f"sys.exit(main(['approve', '{hold}', '--yes', '--digest', digest, '--socket', '{socket}']))\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S, check=False)
