"""A ledger that was cut, changed or removed, a disk that is full or read-only, a clock that steps back."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import forestall_verify
from forestall.adapter.ledger.frames import CHECKPOINT, ENTRY, frames, read_header
from forestall.core.flow import PERMIT_LIFETIME_MS
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.server.point import Point
from tests.attack.scratch import Scratch, answers, call, directory, put, remove
from tests.flow.test_decision_point_crash import without_root_powers
from tests.mcpkit.session import Session, decision, gateway
from tests.points import WAIT_S, play

pytestmark = pytest.mark.slow

PERMITS, DENIALS = "ledger/permits.log", "ledger/denials.log"


def marks(log: Path) -> list[tuple[bytes, int, int]]:
    """Kind, start and end of every frame."""
    fd = os.open(log, os.O_RDONLY)
    try:
        head = read_header(fd, log)
        assert head is not None
        return [(frame.kind, frame.start, frame.end) for frame in frames(fd, head[1], log.stat().st_size, log)]
    finally:
        os.close(fd)


def unfinished(log: Path) -> bytes:
    """The bytes of a last group that was never written to its end: an entry, without the checkpoint that covers it."""
    kind, start, end = next(mark for mark in marks(log) if mark[0] == ENTRY)
    assert kind == ENTRY
    return log.read_bytes()[start:end]


@pytest.mark.parametrize("kept", ["a byte", "half", "all but a byte"])
@pytest.mark.parametrize("log", [PERMITS, DENIALS])
def test_a_tail_that_was_torn_in_an_entry_is_cut_and_no_acknowledged_entry_is_lost(
    used: Scratch, log: str, kept: str
) -> None:
    permit = used.permit
    before = used.entries()
    file = used.home.root / log
    whole, entry = file.read_bytes(), unfinished(file)
    torn = entry[: {"a byte": 1, "half": len(entry) // 2, "all but a byte": len(entry) - 1}[kept]]
    file.write_bytes(whole + torn)
    assert used.entries() == before, "readers stop at the tear"
    refused = used.verify()
    assert refused.code == 76
    assert refused.sentence("forestall-verify").endswith(
        "the last frame is incomplete; if there was a crash, a restart repairs it."
    )
    said = used.serve()
    assert said.code == 0
    assert said.sentence().startswith(f"{file} ended in the middle of an entry: {len(torn)} bytes ")
    assert file.read_bytes() == whole
    assert used.entries() == before
    assert used.verify().code == 0
    assert used.run("explain", permit).code == 0
    again = used.serve()
    assert (again.code, again.err) == (0, ""), "said once"
    assert answers(used.gateway(call(1)))[1]["result"]["content"]
    assert used.verify("--live").code == 0


async def at_once(_: Point) -> None:
    """Stop."""


@pytest.mark.parametrize("log", [PERMITS, DENIALS])
def test_a_cut_anywhere_in_the_last_group_is_repaired_to_its_last_whole_entry(used: Scratch, log: str) -> None:
    file = used.home.root / log
    whole, places = file.read_bytes(), marks(file)
    signed = [places[0][1], *(end for kind, _, end in places if kind == CHECKPOINT)][-2]
    for cut in range(signed + 1, len(whole), 97):
        file.write_bytes(whole[:cut])
        play(used.home, at_once)  # many a start, so in this process
        assert file.read_bytes().startswith(whole[:signed])
        assert forestall_verify.main([str(used.home.ledger)]) == 0
        entries = [end for kind, _, end in places if kind == ENTRY and end <= cut]
        assert len([mark for mark in marks(file) if mark[0] == ENTRY]) >= len(entries) - 1
        remove("state.sqlite")(used)


def flip(scratch: Scratch) -> None:
    """In an entry, wherever that is: what of a frame is around it is said otherwise."""
    file = scratch.home.root / PERMITS
    data = bytearray(file.read_bytes())
    _, start, end = next(mark for mark in marks(file) if mark[0] == ENTRY)
    data[(start + end) // 2] ^= 1
    file.write_bytes(data)


def append(scratch: Scratch) -> None:
    with (scratch.home.root / PERMITS).open("ab") as file:
        file.write(b"x" * 50)


TAMPERED: dict[str, tuple[Callable[[Scratch], object], str, int]] = {
    "a changed byte": (flip, "the frame does not match its check", 76),
    "bytes that are no frame": (append, "no frame begins here", 76),
    "another file": (put(PERMITS, "hello world, this is no log\n"), "byte 0: this is not a Forestall log", 76),
    "an empty file": (put(PERMITS, ""), "is missing or empty although the ledger has entries. Restore it from", 76),
    "no permits": (remove(PERMITS), "is missing or empty although the ledger has entries. Restore it from", 76),
    "no denials": (remove(DENIALS), "is missing or empty although the ledger has entries. Restore it from", 76),
    "a directory": (directory(PERMITS), "permits.log cannot be read: Is a directory; move what is in its place.", 78),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_ledger_that_does_not_verify_stops_it_with_a_sentence(used: Scratch, case: str) -> None:
    permit = used.permit
    breaks, says, code = TAMPERED[case]
    breaks(used)
    said = used.serve()
    assert (said.code, said.out) == (code, "")
    assert says in said.sentence()
    assert str(used.home.ledger) in said.sentence()
    client = used.gateway(call(1))
    assert (client.code, client.out) == (code, "")
    assert client.sentence() == f"The decision point could not start: {said.sentence()}"
    assert used.reached() == []
    refused = used.verify()
    assert refused.code in (76, 78)
    assert str(used.home.ledger) in refused.sentence("forestall-verify")
    for words in (("log",), ("explain", permit), ("prove", permit)):
        shown = used.run(*words)
        assert shown.code in (0, 65, 76, 78)
        assert shown.code == 0 or shown.sentence()


@pytest.mark.parametrize("harm", [put("state.sqlite", "nonsense"), remove("state.sqlite")], ids=["nonsense", "gone"])
def test_an_index_that_is_wrong_changes_nothing(used: Scratch, harm: Callable[[Scratch], object]) -> None:
    harm(used)
    said = used.serve()
    assert (said.code, said.err) == (0, "")


def test_an_index_that_cannot_be_kept_is_said_and_it_serves_even_so(used: Scratch) -> None:
    directory("state.sqlite")(used)
    said = used.serve()
    assert said.code == 0
    assert said.sentence().startswith("No index is kept (")
    assert used.gateway(call(1)).code == 0
    assert len(used.reached()) == 1


# -- what a lookup may be asked for


def test_an_id_that_is_not_there_is_said(used: Scratch) -> None:
    for words in (("explain", "nothing"), ("prove", "nothing"), ("prove", "nothing", "--kind", "settled")):
        said = used.run(*words)
        assert (said.code, said.out) == (65, "")
        assert "`forestall log`" in said.sentence()


def test_a_proof_is_not_written_over_anything(used: Scratch, tmp_path: Path) -> None:
    permit = used.permit
    (tmp_path / "mine").write_text("mine")
    said = used.run("prove", permit, "--kind", "permitted", "--out", str(tmp_path / "mine"))
    assert (said.code, said.sentence()) == (65, f"{tmp_path / 'mine'} exists; choose another name.")
    assert (tmp_path / "mine").read_text() == "mine"
    said = used.run("prove", permit, "--kind", "permitted", "--out", str(tmp_path / "no" / "proof"))
    assert (said.code, said.sentence()) == (
        69,
        f"{tmp_path / 'no' / 'proof'} cannot be written: No such file or directory; make its directory.",
    )


def test_what_the_verifier_is_given_and_cannot_use_is_said(used: Scratch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("nonsense")
    for words in (("--key", str(tmp_path / "none")), ("--key", str(tmp_path / "key")), ("--remembered", "/none")):
        said = used.verify(*words)
        assert (said.code, said.out) == (78, "")
        assert said.sentence("forestall-verify")
    shown = used.verify("--json", "--key", str(tmp_path / "none"))
    assert json.loads(shown.out)["verified"] is False
    remove("keys")(used)
    assert (
        used.verify()
        .sentence("forestall-verify")
        .endswith("keys/log.pub is missing; give the verifier key with --key.")
    )
    remove("ledger")(used)
    said = used.verify()
    assert said.code == 78
    assert said.sentence("forestall-verify").endswith("is not a directory; name that of permits.log and denials.log.")


# -- disks


def no_file_over(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_on_a_full_disk_a_running_one_denies_says_why_and_serves_again_when_there_is_room(used: Scratch) -> None:
    """A limit on the size of files, for a disk that is full: every user may set one."""
    client = used.gateway(*(call(n, to="x" * 60_000) for n in range(1, 5)), preexec_fn=no_file_over(100_000))
    assert client.code == 0
    told = [
        answer["result"]["structuredContent"]
        for answer in answers(client).values()
        if "result" in answer and answer["id"] != "init" and answer["result"].get("isError")
    ]
    assert told
    assert {one["reason"] for one in told} == {"unavailable"}
    assert len(used.reached()) + len(told) == 4
    used.end()
    said = (used.home.run / "serve.log").read_text().splitlines()
    (why,) = [line for line in said if line.startswith("forestall: Calls are denied (unavailable): ")]
    assert why.endswith(
        f"{used.home.root / PERMITS} could not be written: File too large; "
        "make room in the limit on the size of files. Nothing was permitted."
    )
    permits = [entry["id"] for entry in used.entries() if entry["kind"] == "permitted"]
    assert len(permits) == len(used.reached()) + 1
    assert used.gateway(call(9)).code == 0
    assert used.verify("--live").code == 0


FULL = """
mount -t tmpfs -o size=400k,mode=700 none {home} && cp -r {copy}/. {home} && chmod 700 {home} || exit 200
dd if=/dev/zero of={home}/filler bs=1024 count=1000 2> /dev/null
exec "$@"
"""


def test_on_a_disk_without_a_free_byte_it_says_so(scratch: Scratch, model: Home) -> None:
    home, copy = scratch.home.root, model.root
    script = FULL.format(home=home, copy=copy)
    serve = [sys.executable, "-m", "forestall.cli", "serve", "--home", str(home), "--idle-exit", "0.1"]
    for command in (serve, gateway(home)):
        inside = ["unshare", "-m", "sh", "-c", script, "sh", *command]
        done = subprocess.run(inside, capture_output=True, input=b"", check=False, timeout=60)
        if done.returncode in (1, 200) and b"forestall" not in done.stderr:
            pytest.skip("needs the right to mount a file system")
        (line,) = done.stderr.decode().splitlines()
        assert done.returncode == 69
        assert line.startswith("forestall: ")
        assert "make room on " in line


def test_a_home_that_may_not_be_written_is_said(used: Scratch) -> None:
    directories = [used.home.root, used.home.run, used.home.ledger]
    files = [*used.home.ledger.iterdir(), used.home.run / "lock", used.home.run / "serve.log"]
    for path in (*directories, *files):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        said = used.run("serve", preexec_fn=without_root_powers)
        client = used.gateway(call(1), preexec_fn=without_root_powers)
        shown = used.run("log", "--json", preexec_fn=without_root_powers)
    finally:
        for path in (*directories, *files):
            path.chmod(path.stat().st_mode | 0o200)
    assert said.code == 69
    assert said.sentence().endswith("run/lock cannot be opened: Permission denied; mend its permissions.")
    assert client.code == 69
    assert client.sentence().endswith("run/serve.log cannot be written: Permission denied; mend its permissions.")
    assert used.reached() == []
    assert shown.code == 0, "it can still be read"


# -- a clock that steps back

STEPS_BACK = """
import os, sys, time
real = time.time_ns
time.time_ns = lambda: real() - (3_600_000_000_000 if os.path.exists({flag!r}) else 0)
from forestall.cli import main
raise SystemExit(main(sys.argv[1:]))
"""
"""The machine's clock is set back by an hour, as this process sees it, when a file appears."""


@contextmanager
def stepping_back(scratch: Scratch, flag: Path) -> Iterator[None]:
    """A decision point with such a clock; it ends well, and has nothing to say."""
    command = [sys.executable, "-c", STEPS_BACK.format(flag=str(flag)), "serve", "--home", str(scratch.home.root)]
    with scratch.running(command) as served:
        assert served.poll() is None
        yield
        with Connection(scratch.home.socket, WAIT_S) as connection:
            connection.ask("stop")
        assert served.communicate(timeout=WAIT_S) == (b"", b"")
        assert served.returncode == 0


def test_a_clock_that_steps_back_gives_no_permit_a_longer_life_and_keeps_the_order(
    scratch: Scratch, tmp_path: Path
) -> None:
    flag = tmp_path / "back"
    with stepping_back(scratch, flag), Session(gateway(scratch.home.root)) as client:
        client.initialize()
        for number in range(20):
            if number == 10:
                flag.touch()
            client.call(number, "echo", n=number)
            assert "isError" not in client.answer_to(number)["result"]
    entries = [entry for entry in scratch.entries() if entry["stream"] == "permits"]
    times = [entry["at"] for entry in entries]
    assert times == sorted(times)
    lives = [entry["expires_at"] - entry["at"] for entry in entries if entry["kind"] == "permitted"]
    assert len(lives) == 20
    assert all(0 < life <= PERMIT_LIFETIME_MS for life in lives)
    assert scratch.verify().code == 0


def test_a_permit_that_has_run_out_by_the_gateways_clock_starts_nothing(scratch: Scratch, tmp_path: Path) -> None:
    """The decision point was started while the clock was an hour behind; then it was set right."""
    flag, wire = tmp_path / "back", tmp_path / "wire"
    flag.touch()
    with stepping_back(scratch, flag), Session(gateway(scratch.home.root), WIRE=str(wire)) as client:
        client.initialize()
        client.call(1, "echo")
        assert decision(client.answer_to(1))["reason"] == "unavailable"
    assert b"tools/call" not in wire.read_bytes()
    assert [entry["fate"] for entry in scratch.entries() if entry["kind"] == "settled"] == ["not_started"]
