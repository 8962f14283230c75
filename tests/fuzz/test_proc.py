"""Whatever /proc holds, its parsers answer or say that there is no such process, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forestall.adapter.attest import mounts
from forestall.adapter.attest.interpreter import Interpreters, script_of
from forestall.adapter.attest.proc import Vanished, parse_stat, parse_uid

pieces = st.sampled_from([b"9", b"(", b")", b" ", b"S", b"Z", b"\n", b"-", b"Uid:", b"\t", b"\xff", "²".encode(), b"/"])
data = st.binary(max_size=200) | st.lists(pieces, max_size=120).map(b"".join)


@given(data)
def test_any_stat_is_a_process_or_none(given: bytes) -> None:
    try:
        found = parse_stat(given)
    except Vanished:
        return
    assert found.parent >= 0
    assert found.started >= 0


@given(name=st.binary(max_size=64), parent=st.integers(0, 2**22), started=st.integers(0, 2**63))
def test_a_stat_reads_back_whatever_the_name(name: bytes, parent: int, started: int) -> None:
    line = b"9 (" + name + f") S {parent} {' '.join(['0'] * 17)} {started} 0 0\n".encode()
    found = parse_stat(line)
    assert (found.parent, found.started) == (parent, started)


@given(data)
def test_any_status_has_a_uid_or_none(given: bytes) -> None:
    try:
        assert parse_uid(given) >= 0
    except Vanished:
        return


@given(data)
def test_any_list_of_mounts_is_one(given: bytes) -> None:
    assert all(kind for kind in mounts.parse(given).values())


@given(st.lists(st.text(max_size=30) | st.sampled_from(["-c", "-m", "-X", "--", "-", ""]), max_size=6))
def test_any_command_line_names_a_script_of_its_own_or_none(arguments: list[str]) -> None:
    found = script_of(arguments)
    assert found == "" or found in arguments[1:]


@given(st.text(), st.text())
def test_any_path_is_an_interpreters_or_not(path: str, digest: str) -> None:
    assert Interpreters().includes(path, digest) in {True, False}
