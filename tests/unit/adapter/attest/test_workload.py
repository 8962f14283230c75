"""Which of the processes that were seen is the client of a gateway: on values, one chain after another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.attest.value import Attested, Process
from forestall.adapter.attest.workload import INITS, client_of, executable_of, workload_of
from forestall.core.model import Assurance, Executable
from tests.unit.adapter.attest.peers import attestor, own_connection, peer

PIPE = "pipe:[1]"


def above(pid: int, stdin: str | None = "pipe:[9]", *, uid: int = 1000, path: str = "/usr/bin/agent") -> Process:
    return Process(pid=pid, uid=uid, boot="b", started=pid, path=path, stdin=stdin, is_interpreter=False, digest="d")


def gateway(*parents: Process, stdin: str | None = PIPE, complete: bool = True, **more: Any) -> Attested:
    told = {"gid": 1000, "same_uid": True, **more}
    return Attested(pid=50, uid=1000, boot="b", started=50, stdin=stdin, parents=parents, complete=complete, **told)


ROOT = above(1, "/dev/null", uid=0, path="/usr/lib/systemd/systemd")
CLIENT = above(40)
TERMINAL = above(30, "/dev/null")


@pytest.mark.parametrize(
    ("seen", "client"),
    [
        (gateway(CLIENT, TERMINAL, ROOT), CLIENT),
        (gateway(above(45, PIPE), CLIENT, TERMINAL, ROOT), CLIENT),
        (gateway(above(46, PIPE), above(45, PIPE), CLIENT, ROOT), CLIENT),
        (gateway(above(45, "socket:[1]"), CLIENT, ROOT, stdin="socket:[1]"), CLIENT),
        (gateway(above(45, ""), CLIENT, ROOT, stdin=""), above(45, "")),
        (gateway(CLIENT, complete=False), CLIENT),
        # a terminal, a file or nothing is handed on by everybody
        (gateway(above(45, "/dev/pts/1"), TERMINAL, stdin="/dev/pts/1"), above(45, "/dev/pts/1")),
        (gateway(above(45, "/dev/null"), CLIENT, stdin="/dev/null"), above(45, "/dev/null")),
        # an agent that is the first process of its container
        (gateway(above(1)), above(1)),
    ],
)
def test_the_client_is_the_nearest_that_does_not_hand_its_input_on(seen: Attested, client: Process) -> None:
    assert client_of(seen) == client


@pytest.mark.parametrize(
    "seen",
    [
        gateway(),
        gateway(complete=False),
        gateway(ROOT),
        gateway(above(45, PIPE), ROOT),
        gateway(above(45, PIPE), complete=False),
        gateway(above(40, uid=1001), TERMINAL),
        *(gateway(above(1, path=f"/sbin/{name}")) for name in sorted(INITS)),
        gateway(above(20, path="/usr/lib/systemd/systemd"), ROOT),
        gateway(above(45, PIPE), above(20, path="/usr/lib/systemd/systemd"), ROOT),
        # what cannot be seen may go on above
        gateway(above(45, None), complete=False),
        gateway(above(45, None), TERMINAL, complete=False, stdin=None),
        gateway(ROOT, stdin=None),
    ],
)
def test_nobody_knows_for_whom_an_orphan_works(seen: Attested) -> None:
    assert client_of(seen) is None
    found = workload_of(seen, itself=False)
    assert (found.known, found.instance, found.executable) == (False, seen.instance, None)
    assert workload_of(seen, itself=True).known


@pytest.mark.parametrize(
    "seen",
    [
        gateway(above(45, None), CLIENT, TERMINAL, ROOT),
        gateway(above(45, PIPE), above(42, None), CLIENT, TERMINAL, ROOT),
        gateway(above(45), CLIENT, TERMINAL, ROOT, stdin=None),
        gateway(above(45, None), CLIENT, TERMINAL, above(20, uid=0), complete=False),
    ],
)
def test_where_inputs_cannot_be_seen_it_is_the_outermost_of_the_user(seen: Attested) -> None:
    assert client_of(seen) == TERMINAL


def test_what_cannot_be_seen_above_the_client_does_not_matter() -> None:
    assert client_of(gateway(above(45, PIPE), CLIENT, above(20, None), ROOT)) == CLIENT


def test_the_lineage_is_everybody_whose_words_may_have_come_down() -> None:
    seen = gateway(above(45, PIPE), CLIENT, TERMINAL, ROOT)
    found = workload_of(seen, itself=False)
    assert found.instance == CLIENT.instance == found.lineage[0]
    assert set(found.lineage) == {one.instance for one in (seen, *seen.parents)}
    assert workload_of(seen, itself=True).instance == seen.instance


def test_another_user_than_the_decision_points_is_attested() -> None:
    found = workload_of(gateway(CLIENT, same_uid=False), itself=False)
    assert found.assurance is Assurance.ATTESTED
    assert found.executable == Executable("/usr/bin/agent", "d", interpreter=False, same_uid=False)
    assert workload_of(gateway(CLIENT), itself=False).assurance is Assurance.LOCAL


def test_an_interpreter_has_no_digest_and_a_file_that_was_replaced_no_path() -> None:
    assert executable_of(replace(CLIENT, is_interpreter=True), same_uid=True).digest == ""
    assert executable_of(replace(CLIENT, gone=True), same_uid=True) == Executable("", "d", interpreter=False)


def test_standard_inputs_are_as_the_kernel_names_them(tmp_path: Path) -> None:
    with peer(tmp_path) as one:
        seen = attestor().attest(one.connected)
        own = attestor().attest(one.connected).parents[0]
    assert seen.stdin is not None
    assert seen.stdin.startswith("pipe:[")
    assert own.stdin not in {None, seen.stdin}
    with own_connection() as connected:
        assert attestor().attest(connected).stdin == own.stdin
