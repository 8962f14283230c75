"""Peers that would be taken for another between the accept and the hello: none is welcomed, and none gets a task."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.attest.value import Attested
from forestall.core.ask import CannotDo
from forestall.core.errors import Unavailable
from forestall.core.reason import Reason
from forestall.home import Home
from forestall.server import greeting
from forestall.server.point import Point
from forestall.wire import build
from tests.clients import LAUNCHER, client, hello, point
from tests.points import WAIT_S, Peer, entries, kinds, make_home, play, process, wait_for_socket
from tests.unit.adapter.attest.peers import CAT, MadeUp, attestor, copy_of_python

HELLO = hello(kind="agent")

TURNCOAT = """
import json, os, socket, sys
path, hello, how, program = sys.argv[1:5]
def receive(connection):
    stream = connection.makefile("rb")
    return json.loads(stream.read(int.from_bytes(stream.read(4), "big")))
def answer(connection, nonce):
    data = json.dumps({**json.loads(hello), "nonce": nonce}).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)
    print(json.dumps(receive(connection)), flush=True)
if how == "answer":
    answer(socket.socket(fileno=int(sys.argv[5])), sys.argv[6])
    sys.exit()
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
nonce = receive(connection)["nonce"]
os.set_inheritable(connection.fileno(), True)
rest = [path, hello, "answer", "", str(connection.fileno()), nonce]
if how == "exec":
    os.execv(program, [program, "-c", os.environ["TURNCOAT"], *rest])
parent = os.getpid()
if os.fork() == 0:
    if how == "end":
        while os.getppid() == parent:
            pass
    else:
        while os.readlink(f"/proc/{parent}/exe") != program:
            pass
    answer(connection, nonce)
    os._exit(0)
if how == "hand-over":
    os.execv(program, [program])
os._exit(0)
"""
"""Connects, hears the challenge, and answers it as somebody else: by `exec`; through a child, while it runs another
program itself (`hand-over`) or has ended (`end`)."""


ORPHANED = """\
    parent = os.getppid()
    os.kill(parent, 9)
    while os.getppid() == parent:
        pass
"""
"""What a gateway does before its hello that has lost the launcher in front of it."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@contextmanager
def serving(home: Home) -> Iterator[None]:
    with process(home) as started:
        wait_for_socket(home, started)
        yield


def turned(home: Home, how: str, program: Path | str) -> dict[str, Any]:
    """What the turncoat hears."""
    words = [sys.executable, "-c", TURNCOAT, str(home.socket), json.dumps(HELLO), how, str(program)]
    environment = {**os.environ, "TURNCOAT": TURNCOAT, "PYTHONHOME": sys.base_prefix}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as one:
        assert one.stdout is not None
        told = one.stdout.readline()
        assert one.stdin is not None
        one.stdin.close()
        one.wait(WAIT_S)
    return dict(json.loads(told))


@pytest.mark.parametrize("how", ["exec", "hand-over"])
def test_who_runs_another_program_by_the_time_of_its_hello_is_refused(home: Home, tmp_path: Path, how: str) -> None:
    program = copy_of_python(tmp_path) if how == "exec" else CAT
    with serving(home):
        told = turned(home, how, program)
    assert told["type"] == "refused"
    assert "another program" in told["sentence"]
    assert kinds(home) == []


def test_who_has_ended_by_the_time_of_its_hello_is_refused(home: Home) -> None:
    """Its child has the socket, and is not who connected."""
    with serving(home):
        told = turned(home, "end", "")
    assert told["type"] == "refused"
    assert "has ended" in told["sentence"]
    assert kinds(home) == []


def test_a_gateway_whose_launcher_ended_meanwhile_is_refused(home: Home) -> None:
    """By then it has another parent, which may know less than its client did."""
    orphaned = point(home.socket)
    greets = "    send({**hello"
    assert orphaned[2].count(greets) == 1
    orphaned[2] = orphaned[2].replace(greets, ORPHANED + greets)
    with serving(home), client() as one:
        told = one.start([*LAUNCHER, *orphaned])
    assert told["type"] == "refused"
    assert "another process by now" in told["sentence"]
    assert kinds(home) == []


async def refused(peer: Peer) -> str:
    answer = await peer.receive()
    assert answer["type"] == "refused", answer
    assert await peer.ended()
    await peer.close()
    return str(answer["sentence"])


def test_a_hello_before_the_challenge_answers_none(home: Home) -> None:
    async def scenario(_: Point) -> None:
        for nonce in ({"nonce": ""}, {"nonce": "guessed"}):
            peer = await Peer.connect(home.socket)
            peer.send({**HELLO, **nonce})
            await peer.challenge()
            assert "does not answer the challenge" in await refused(peer)

    play(home, scenario)
    assert kinds(home) == []


def test_the_nonce_of_another_connection_answers_none(home: Home) -> None:
    async def scenario(_: Point) -> None:
        open_, done = await Peer.connect(home.socket), await Peer.connect(home.socket)
        nonces = [await open_.challenge(), await done.challenge()]
        done.send({**HELLO, "nonce": nonces[1]})
        assert (await done.receive())["type"] == "welcome"
        await done.close()
        for nonce in nonces:
            peer = await Peer.connect(home.socket)
            assert await peer.challenge() not in nonces
            peer.send({**HELLO, "nonce": nonce})
            assert "does not answer the challenge" in await refused(peer)
        await open_.close()

    play(home, scenario)
    assert kinds(home).count("opened") == 1


def test_nothing_is_answered_between_hello_and_welcome(home: Home) -> None:
    """Neither a second hello, nor a call."""

    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        answering = {**HELLO, "nonce": await peer.challenge()}
        peer.send(answering)
        peer.send(answering)
        assert (await peer.receive())["type"] == "welcome"
        assert "does not send 'hello'" in await refused(peer)

    play(home, scenario)


def test_where_processes_are_shown_one_that_is_not_is_refused(home: Home, tmp_path: Path) -> None:
    """As with `hidepid` on /proc. There is no falling back to the user alone."""
    parts = build(home)
    parts.attestor = attestor(machine=MadeUp(tmp_path / "proc", 0).machine)

    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        peer.send({**HELLO, "nonce": ""})
        assert "is not shown" in await refused(peer)

    play(home, scenario, parts=parts)
    assert kinds(home) == []


class Stuck:
    """An attestor on a disk that does not answer."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def attest(self, connected: socket.socket) -> Attested:
        self.goes_on.wait(WAIT_S)
        raise CannotDo(Reason.UNAVAILABLE, f"nobody could look at {connected.family}")


def test_a_look_that_takes_too_long_is_a_refusal(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "LOOK_WITHIN_S", 0.01)
    parts = build(home)
    stuck = Stuck()
    parts.attestor = stuck  # type: ignore[assignment]

    async def scenario(_: Point) -> None:
        peer = await Peer.connect(home.socket)
        assert "too long to see who connects" in await refused(peer)
        stuck.goes_on.set()

    play(home, scenario, parts=parts)


def test_where_nothing_can_be_shown_a_peer_is_its_user_and_status_says_so(home: Home) -> None:
    parts = build(home)
    parts.attestor, parts.unattested = None, str(Unavailable("Peers cannot be attested here."))

    async def scenario(_: Point) -> None:
        peer, again = await Peer.gateway(home.socket), await Peer.gateway(home.socket, again=True)
        assert [one.welcome["assurance"] for one in (peer, again)] == ["local", "local"]
        command = await Peer.cli(home.socket)
        number = command.request("status")
        status = await command.receive()
        assert (status["id"], status["unattested"]) == (number, "Peers cannot be attested here.")
        for one in (peer, again, command):
            await one.close()

    play(home, scenario, parts=parts)
    opened = [entry for entry in entries(home) if entry["kind"] == "opened"]
    assert not any({"instance", "executable"} & set(entry["subject"]) for entry in opened)
    assert [entry["seen"]["integrity"] for entry in opened] == ["trusted", "untrusted"]
