"""`forestall leases`, and what status, explain, log, check and kill say of credentials: on a real decision point."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.cli import main
from forestall.home import Home
from tests.backends import Desk, install
from tests.points import Peer, entries, make_home, process, until, wait_for_socket

POLICY = """\
@id("reads") permit (principal, action in Action::"read", resource);
@id("writes") @credential("desk") permit (principal, action in Action::"write", resource);
"""
PLACE = 'place = { where = "header", name = "Authorization", template = "{token}" }\n'
DESK = f'[credentials.desk]\nbackend = "files"\npath = "desk"\nscope = "task"\n{PLACE}'
MAIL = f'[credentials.mail]\nbackend = "static"\nsecrets = {{ token = "file:token" }}\n{PLACE}'

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = str(install(tmp_path / "site"))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}:{Path(__file__).parent.parent.parent.parent}")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path, POLICY)
    home.credentials.write_text(DESK + MAIL)
    return home


@pytest.fixture
def desk(home: Home) -> Desk:
    return Desk(home.root / "desk")


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*words: str) -> tuple[int, str]:
        code = main([words[0], "--home", str(home.root), *words[1:]])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def serving(home: Home) -> Iterator[None]:
    with process(home) as started:
        wait_for_socket(home, started)
        yield


def talk(home: Home, conversation: Callable[[Peer], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with await Peer.gateway(home.socket) as peer:
            await conversation(peer)

    asyncio.run(whole())


def test_what_lives_is_shown_with_what_it_may_and_then_what_became_of_it(
    home: Home, desk: Desk, run: Any, serving: None
) -> None:
    async def conversation(peer: Peer) -> None:
        permit = await peer.ask()
        code, text = await asyncio.to_thread(run, "leases")
        assert code == 0
        assert text.startswith("alive     desk             ends in ")
        assert "files, for the task" in text
        assert "in the header Authorization" in text
        (row,) = json.loads((await asyncio.to_thread(run, "leases", "--json"))[1])["leases"]
        assert (row["state"], row["permit"], row["exposed"], row["standing"]) == (
            "alive", permit["permit"]["id"], False, False
        )  # fmt: skip
        for option, value in (("--task", "nobody"), ("--credential", "mail")):
            assert (await asyncio.to_thread(run, "leases", option, value))[1] == "No credential is alive.\n"
        await peer.performed(permit)

    talk(home, conversation)
    until(lambda: not desk.live)
    until(lambda: run("leases")[1] == "No credential is alive.\n")
    code, text = run("leases", "--ended")
    assert code == 0
    assert " desk             task_ended   lived " in text
    (ended,) = json.loads(run("leases", "--ended", "--json")[1])["ended"]
    assert ended["lived_ms"] == ended["ended"] - ended["since"]
    assert run("leases", "--ended", "--since", "2999-01-01")[1] == "No credential has ended.\n"

    name, permit = ended["name"], ended["permit"]
    code, told = run("explain", name)
    assert code == 0
    assert "leased" in told
    assert "desk of files, for the task, in the header Authorization, until " in told
    assert f"desk: task_ended ({name})" in told
    assert f"credential desk: {name}\n" in run("explain", permit)[1]
    assert json.loads(run("explain", permit, "--json")[1])["leases"][0]["id"] == name
    assert name in run("explain", ended["task"])[1]
    log = run("log")[1]
    assert "  lease       @desk                         task " in log
    assert "  revoke      @desk                         task_ended " in log


def test_what_cannot_be_ended_is_loud(home: Home, desk: Desk, run: Any, serving: None) -> None:
    desk.fault(revoke="down")
    talk(home, _one_call)
    until(lambda: run("leases")[0] == 1)
    text = run("leases")[1]
    assert text.startswith("failing   desk ")
    assert "the directory does not answer" in text
    status = run("status")[1]
    assert "Credentials     0 alive, 1 COULD NOT BE ENDED and are tried again: see `forestall leases`" in status
    assert "Standing secret mail: it stands before and after each call" in status
    desk.fault()
    until(lambda: run("leases")[0] == 0)
    assert "COULD NOT" not in run("status")[1]


async def _one_call(peer: Peer) -> None:
    await peer.performed(await peer.ask())


def test_a_kill_says_what_it_ended_and_what_it_could_not(home: Home, desk: Desk, run: Any, serving: None) -> None:
    async def conversation(peer: Peer) -> None:
        await _one_call(peer)
        killing = asyncio.create_task(asyncio.to_thread(run, "kill", str(peer.welcome["task"])))
        told = await peer.receive()
        peer.send({"type": "confirmed", "epoch": told["epoch"]})
        assert "1 credential ended." in (await killing)[1]

    talk(home, conversation)

    async def stuck(peer: Peer) -> None:
        await _one_call(peer)
        desk.fault(revoke="slow")
        killing = asyncio.create_task(asyncio.to_thread(run, "kill", str(peer.welcome["task"])))
        told = await peer.receive()
        peer.send({"type": "confirmed", "epoch": told["epoch"]})
        assert "1 credential may still be alive: a backend has not answered." in (await killing)[1]
        desk.fault()

    talk(home, stuck)
    until(lambda: run("leases")[0] == 0 and not desk.live)


def test_where_nobody_watches_what_the_ledger_has_no_end_of_is_shown(home: Home, desk: Desk, run: Any) -> None:
    with process(home) as started:
        wait_for_socket(home, started)
        talk(home, lambda peer: _call_and(peer, started.kill))
        started.wait()
    home.socket.unlink(missing_ok=True)
    code, text = run("leases")
    assert code == 1
    assert text.startswith("unwatched desk ")
    assert len(desk.live) == 1
    with process(home) as started:
        wait_for_socket(home, started)
        until(lambda: not desk.live)
        until(lambda: run("leases")[0] == 0)
    assert [entry["why"] for entry in entries(home) if entry["kind"] == "revoked"] == ["swept"]


async def _call_and(peer: Peer, then: Callable[[], None]) -> None:
    await _one_call(peer)
    then()


def test_check_reads_credentials_and_what_policy_names(home: Home, run: Any) -> None:
    assert run("check")[0] == 0
    home.credentials.write_text(DESK.replace("desk]", "desks]"))
    code, text = run("check")
    assert code == 1
    assert "own.cedar:2:" in text
    assert "credentials.toml has no class `desk`. Did you mean `desks`?" in text
    home.credentials.write_text(DESK.replace("path", "paht"))
    code, text = run("check")
    assert code == 1
    assert f"{home.credentials}:3: unknown key `paht`" in text
