"""Real processes that are killed, stopped, started twice, and put on bad disks. Nothing is permitted unrecorded."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forestall.core.entry import Stream
from forestall.core.errors import ForestallError, Unavailable
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.pep.start import ensure_running
from forestall.server.listening import Lock, answers
from tests.points import WAIT_S, Peer, entries, kinds, make_home, process, until, verify_ledger, wait_for_socket

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def stop(home: Home) -> None:
    """End whatever serves this home, and wait until it has."""
    if answers(home.socket):
        with Connection(home.socket, WAIT_S) as connection:
            connection.ask("stop")
    until(lambda: _is_free(home))


def _is_free(home: Home) -> bool:
    try:
        Lock.acquire(home.run / "lock").release()
    except Unavailable:
        return False
    return True


def killed_in_flight(home: Home, count: int, started: subprocess.Popen[bytes]) -> list[str]:
    """Permits that were released, and not reported on when the decision point was killed."""

    async def ask() -> list[str]:
        async with await Peer.gateway(home.socket) as peer:
            permits = [await peer.ask(arguments={"path": str(i), "content": ""}) for i in range(count)]
            started.kill()
            assert await peer.ended()
            started.wait(WAIT_S)
            return [permit["permit"]["id"] for permit in permits]

    return asyncio.run(ask())


def test_many_that_start_it_at_once_get_one(home: Home) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            ensure_running(home, int(WAIT_S * 1000))
        except BaseException as error:
            failures.append(error)

    starters = [threading.Thread(target=start) for _ in range(5)]
    try:
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join(WAIT_S)
        assert not failures
        holder = int((home.run / "lock").read_text())
        with Connection(home.socket, WAIT_S) as connection:
            assert connection.ask("status")["pid"] == holder
    finally:
        stop(home)
    assert not home.socket.exists()


def test_a_second_one_says_who_is_there(home: Home) -> None:
    with process(home) as first:
        wait_for_socket(home, first)
        with process(home) as second:
            _, said = second.communicate(timeout=WAIT_S)
            assert second.returncode == 69
            assert f"process {first.pid} holds {home.run / 'lock'}" in said.decode()
        with process(home, "--on-demand") as third:
            third.communicate(timeout=WAIT_S)
            assert third.returncode == 0
        with Connection(home.socket, WAIT_S) as connection:
            assert connection.ask("status")["pid"] == first.pid


def test_a_stale_socket_is_replaced(home: Home) -> None:
    with process(home) as first:
        wait_for_socket(home, first)
        first.kill()
        first.wait(WAIT_S)
    assert home.socket.exists()
    assert not answers(home.socket)
    with process(home) as second:
        wait_for_socket(home, second)
        assert home.socket.stat().st_mode & 0o777 == 0o600


def test_something_else_in_the_sockets_place_is_left_alone(home: Home) -> None:
    home.socket.write_text("mine")
    with process(home) as started:
        _, said = started.communicate(timeout=WAIT_S)
    assert started.returncode == 69
    assert "is not a socket; move it" in said.decode()
    assert home.socket.read_text() == "mine"


def test_calls_in_flight_at_a_kill_are_ambiguous_after_the_next_start(home: Home) -> None:
    with process(home) as first:
        wait_for_socket(home, first)

        async def ask_and_kill() -> list[str]:
            peer = await Peer.gateway(home.socket)
            permits = [await peer.ask(arguments={"path": str(i), "content": ""}) for i in range(3)]
            assert (await peer.performed(permits[0]))["type"] == "release"
            first.kill()
            assert await peer.ended()
            await peer.close()
            return [permit["permit"]["id"] for permit in permits]

        ids = asyncio.run(ask_and_kill())
        first.wait(WAIT_S)
    with process(home) as second:
        wait_for_socket(home, second)
        with Connection(home.socket, WAIT_S) as connection:
            status = connection.ask("status")
        assert (status["unsettled"], status["open_tasks"]) == (0, 0)
        stop(home)
        assert second.wait(WAIT_S) == 0
    fates = {entry["id"]: entry["fate"] for entry in entries(home) if entry["kind"] == "settled"}
    assert [fates[name] for name in ids] == ["done", "ambiguous", "ambiguous"]
    assert entries(home)[-1]["kind"] == "closed"
    assert entries(home)[-1]["why"] == "swept"
    verify_ledger(home)


def test_whenever_it_is_killed_every_released_permit_is_on_disk(home: Home) -> None:
    released: list[str] = []
    for last in (1, 10, 50):
        with process(home) as started:
            wait_for_socket(home, started)

            async def ask_until_dead(left: int) -> None:
                async with await Peer.gateway(home.socket) as peer:
                    for _ in range(8):
                        peer.asks()
                    while True:
                        answer = await peer.receive()
                        if answer["type"] == "permit":
                            released.append(answer["permit"]["id"])
                            peer.request("performed", permit=answer["permit"]["id"], fate="done")
                            left -= 1
                            if left == 0:  # seven others are on their way
                                started.kill()
                        elif answer["type"] == "release":
                            peer.asks()

            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                asyncio.run(ask_until_dead(last))
    with process(home) as again:
        wait_for_socket(home, again)
        stop(home)
        assert again.wait(WAIT_S) == 0
    found = entries(home)
    permitted = [entry["id"] for entry in found if entry["kind"] == "permitted"]
    settled = [entry["id"] for entry in found if entry["kind"] == "settled"]
    assert len(released) >= 1 + 10 + 50
    assert set(released) <= set(permitted)
    assert sorted(permitted) == sorted(settled), "each is settled, and once"
    verify_ledger(home)


def test_one_that_does_not_answer_gives_no_permit_and_a_cancelled_call_never_gets_one(home: Home) -> None:
    with process(home) as started:
        wait_for_socket(home, started)

        async def scenario() -> None:
            peer = await Peer.gateway(home.socket)
            os.kill(started.pid, signal.SIGSTOP)
            number = peer.asks()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(peer.receive(), 0.3)
            peer.send({"type": "cancel", "id": number})
            await peer.writer.drain()
            with pytest.raises(Unavailable, match=r"does not answer|too slow"):
                await asyncio.to_thread(_ask_status, home)
            os.kill(started.pid, signal.SIGCONT)
            peer = Peer(peer.reader, peer.writer)
            assert (await peer.receive())["decision"]["reason"] == "cancelled"
            await peer.close()

        asyncio.run(scenario())


def _ask_status(home: Home) -> None:
    with Connection(home.socket, 0.3) as connection:
        connection.ask("status")


def test_on_a_full_disk_it_denies_and_no_permit_is_without_a_record(home: Home) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    released = []
    with process(home, preexec_fn=limit) as started:
        wait_for_socket(home, started)

        async def fill() -> str:
            async with await Peer.gateway(home.socket) as peer:
                for i in range(100):
                    answer = await peer.ask(arguments={"path": str(i), "content": "x" * 5000})
                    if answer["type"] == "deny":
                        return str(answer["decision"]["reason"])
                    released.append(answer["permit"]["id"])
                return "never"

        assert asyncio.run(fill()) == "unavailable"
    assert released
    assert set(released) <= {entry["id"] for entry in entries(home) if entry["kind"] == "permitted"}
    with process(home) as again:
        wait_for_socket(home, again)
        stop(home)
    verify_ledger(home)


def without_root_powers() -> None:
    """Root obeys the permission bits from the next program on; for others nothing changes."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.parametrize("target", ["permits.log", "."])
def test_a_read_only_ledger_is_one_clear_sentence(home: Home, target: str) -> None:
    with process(home) as first:
        wait_for_socket(home, first)
        stop(home)
    path = home.ledger / target
    before = path.stat().st_mode
    if target == ".":
        for file in home.ledger.iterdir():
            file.chmod(0o400)
    path.chmod(0o500 if target == "." else 0o400)
    with process(home, preexec_fn=without_root_powers) as started:
        _, said = started.communicate(timeout=WAIT_S)
    path.chmod(before)
    assert started.returncode == 69
    (line,) = said.decode().splitlines()
    assert line.startswith("forestall: ")
    assert str(home.ledger) in line
    assert line.endswith(".")


@pytest.mark.parametrize("harm", ["deleted", "corrupt", "emptied", "of another log"])
def test_without_a_sound_index_everything_is_found_in_the_log(home: Home, tmp_path: Path, harm: str) -> None:
    with process(home) as first:
        wait_for_socket(home, first)
        ids = killed_in_flight(home, 2, first)
    for suffix in ("-wal", "-shm"):
        home.state.with_name(home.state.name + suffix).unlink(missing_ok=True)
    if harm == "deleted":
        home.state.unlink()
    elif harm == "of another log":
        other = make_home(tmp_path / "other")
        with process(other) as elsewhere:
            wait_for_socket(other, elsewhere)
            killed_in_flight(other, 3, elsewhere)
        home.state.write_bytes(other.state.read_bytes())
    else:
        home.state.write_bytes(b"" if harm == "emptied" else b"\x07" * 8192)
    with process(home) as second:
        wait_for_socket(home, second)
        with Connection(home.socket, WAIT_S) as connection:
            status = connection.ask("status")
        assert (status["unsettled"], status["open_tasks"], status["notice"]) == (0, 0, "")
        stop(home)
    assert {entry["id"] for entry in entries(home) if entry["kind"] == "settled"} == set(ids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_closes_the_books(home: Home, number: signal.Signals) -> None:
    with process(home) as started:
        wait_for_socket(home, started)

        async def scenario() -> None:
            peer = await Peer.gateway(home.socket)
            permit = await peer.ask()
            os.kill(started.pid, number)
            assert (await peer.performed(permit))["type"] == "release"
            assert await peer.ended()
            await peer.close()

        asyncio.run(scenario())
        assert started.wait(WAIT_S) == 0
    assert kinds(home) == ["opened", "permitted", "settled", "closed"]
    assert not home.socket.exists()
    verify_ledger(home)


def test_a_hangup_reloads(home: Home) -> None:
    with process(home) as started:
        wait_for_socket(home, started)
        assert _policies(home) > 0, "it answers, and so heeds signals"
        (home.policy / "own.cedar").write_text("")
        os.kill(started.pid, signal.SIGHUP)
        until(lambda: _policies(home) == 0)
        (home.policy / "own.cedar").write_text("permit (principal")
        os.kill(started.pid, signal.SIGHUP)
        assert started.stderr is not None
        said = [started.stderr.readline().decode() for _ in range(2)]
        assert "taken in anew" in said[0]
        assert "stays in force" in said[1]
        assert "own.cedar" in said[1]


def _policies(home: Home) -> int:
    with Connection(home.socket, WAIT_S) as connection:
        return int(connection.ask("status")["policies"])


def _break_settings(home: Home) -> str:
    home.config.write_text("[serve]\nmax_aks = 3\n")
    return f"{home.config}:2"


def _break_policy(home: Home) -> str:
    (home.policy / "own.cedar").write_text("permit (principal")
    return "own.cedar"


def _break_key(home: Home) -> str:
    (home.keys / "log.key").write_text("x")
    return "log.key"


def _break_log(home: Home) -> str:
    path = home.ledger / "permits.log"
    data = bytearray(path.read_bytes())
    data[len(data.rstrip(b"\0")) // 2] ^= 1
    path.write_bytes(data)
    return "permits.log"


@pytest.mark.tampers
@pytest.mark.parametrize(
    ("harm", "code"), [(_break_settings, 78), (_break_policy, 78), (_break_key, 78), (_break_log, 76)]
)
def test_what_is_wrong_is_said_to_whoever_started_it(home: Home, harm: Callable[[Home], str], code: int) -> None:
    with process(home) as first:
        wait_for_socket(home, first)
        killed_in_flight(home, 3, first)
    named = harm(home)
    with process(home) as started:
        _, said = started.communicate(timeout=WAIT_S)
    assert started.returncode == code
    assert named in said.decode()
    assert "Traceback" not in said.decode()
    with pytest.raises(ForestallError) as caught:
        ensure_running(home, int(WAIT_S * 1000))
    assert named in str(caught.value)
    assert _is_free(home)


def test_one_that_was_started_on_demand_outlives_its_starter_and_ends_when_idle(home: Home) -> None:
    home.config.write_text("[serve]\nidle_exit_s = 1\n")
    code = "import sys; from pathlib import Path; from forestall.home import Home\n"
    code += "from forestall.pep.start import ensure_running; ensure_running(Home(Path(sys.argv[1])), 60000)\n"
    code += "print('there', flush=True); sys.stdin.read()"
    try:
        with subprocess.Popen(
            [sys.executable, "-c", code, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as starter:
            assert starter.stdout is not None
            assert starter.stdout.readline() == "there\n"
            with Connection(home.socket, WAIT_S) as connection:  # so that it is not idle
                starter.communicate(timeout=WAIT_S)
                assert starter.returncode == 0
                assert connection.ask("status")["pid"] == int((home.run / "lock").read_text())
        until(lambda: _is_free(home))
        assert not home.socket.exists()
    finally:
        stop(home)


def test_a_new_home_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    try:
        ensure_running(home, int(WAIT_S * 1000))
        modes = {
            path: path.stat().st_mode & 0o077 for path in (home.root, home.run, home.keys, home.ledger, home.socket)
        }
        assert set(modes.values()) == {0}
        with Connection(home.socket, WAIT_S) as connection:
            status = connection.ask("status")
        assert status["policies"] == 0
        assert "every call is denied" in status["notice"]
        assert status["mandates"] == ["default"]
        assert (home.keys / "log.key").stat().st_mode & 0o077 == 0
        key = (home.keys / "log.key").read_bytes()
        stop(home)
        ensure_running(home, int(WAIT_S * 1000))
        assert (home.keys / "log.key").read_bytes() == key
        assert entries(home, Stream.DENIALS) == []
    finally:
        stop(home)


def test_a_start_that_never_answers_is_bounded(home: Home) -> None:
    lock = Lock.acquire(home.run / "lock")
    began = time.monotonic()
    try:
        with pytest.raises(Unavailable, match="did not start within 300 ms"):
            ensure_running(home, 300)
    finally:
        lock.release()
    assert time.monotonic() - began < WAIT_S
    until(lambda: answers(home.socket))  # the one that was started gets the lock now
    stop(home)
