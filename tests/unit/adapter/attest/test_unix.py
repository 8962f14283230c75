"""Real processes, attested: what the kernel says of each, and nothing that they say."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from forestall.adapter.attest.interpreter import Interpreters
from forestall.adapter.attest.unix import Limits, Machine, require_supported, this_machine
from forestall.adapter.attest.value import Unknown
from forestall.core.ask import CannotDo
from forestall.core.errors import Unavailable
from forestall.core.reason import Reason
from tests.unit.adapter.attest.peers import (
    MadeUp,
    attestor,
    copy_of_python,
    no_handle,
    own_connection,
    peer,
)

PYTHON = Path(sys.executable).resolve()


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_an_agent_is_known_by_its_file(tmp_path: Path) -> None:
    agent = copy_of_python(tmp_path)
    with peer(tmp_path, agent) as one:
        seen = attestor().attest(one.connected)
    assert (seen.pid, seen.uid, seen.gid) == (one.pid, os.geteuid(), os.getegid())
    assert (seen.path, seen.digest, seen.gone) == (str(agent), digest(agent), False)
    assert (seen.is_interpreter, seen.asserted_script, seen.unknown) == (False, "", frozenset())
    assert seen.same_uid
    assert seen.selectors == (
        f"unix:uid:{os.geteuid()}",
        f"unix:gid:{os.getegid()}",
        f"unix:path:{agent}",
        f"unix:sha256:{digest(agent).removeprefix('sha256:')}",
    )


def test_an_interpreter_is_none_and_its_selectors_say_so(tmp_path: Path) -> None:
    with peer(tmp_path) as one:
        seen = attestor().attest(one.connected)
    assert (seen.path, seen.digest, seen.is_interpreter) == (str(PYTHON), digest(PYTHON), True)
    assert not [one for one in seen.selectors if one.startswith(("unix:path:", "unix:sha256:"))]
    assert f"unix:interpreter_path:{PYTHON}" in seen.selectors


def test_a_declared_interpreter_is_one_by_its_digest(tmp_path: Path) -> None:
    agent = copy_of_python(tmp_path)
    with peer(tmp_path, agent) as one:
        assert attestor(interpreters=Interpreters((digest(agent),))).attest(one.connected).is_interpreter


def test_a_process_keeps_its_instance_and_every_other_has_another(tmp_path: Path) -> None:
    attesting = attestor()
    with peer(tmp_path) as one:
        first = attesting.attest(one.connected)
        with one.connects_again():
            assert attesting.attest(one.connected).instance == first.instance
    with peer(tmp_path) as another:
        assert attesting.attest(another.connected).instance != first.instance
    assert first.instance == f"unix:{first.uid}:{this_machine().boot}:{first.pid}:{first.started}"


def test_a_fork_is_another_instance_and_names_its_parent(tmp_path: Path) -> None:
    attesting = attestor()
    with peer(tmp_path) as one:
        parent = attesting.attest(one.connected)
        with one.connects_again("fork-and-connect"):
            child = attesting.attest(one.connected)
    assert child.instance != parent.instance
    assert child.parents[0].instance == parent.instance


def test_the_chain_goes_up_through_whoever_started_it(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    with peer(tmp_path, before=(shell, "-c", '"$@"; exit', "sh")) as one:
        seen = attestor().attest(one.connected)
    first, second = seen.parents[:2]
    assert (first.pid, first.path, first.digest) == (one.pid, os.path.realpath(shell), digest(Path(shell)))
    assert (second.pid, second.path, second.digest) == (os.getpid(), str(PYTHON), digest(PYTHON))
    assert first.is_interpreter
    assert second.is_interpreter
    assert seen.complete == (seen.parents[-1].pid == 1)


def test_a_chain_that_is_cut_off_says_so(tmp_path: Path) -> None:
    with peer(tmp_path) as one:
        seen = attestor(limits=Limits(parents=1)).attest(one.connected)
    assert [parent.pid for parent in seen.parents] == [os.getpid()]
    assert not seen.complete


def test_a_file_that_was_deleted_is_still_digested_and_said_to_be_gone(tmp_path: Path) -> None:
    agent = copy_of_python(tmp_path)
    expected = digest(agent)
    with peer(tmp_path, agent) as one:
        agent.unlink()
        seen = attestor().attest(one.connected)
    assert (seen.path, seen.gone, seen.digest) == (str(agent), True, expected)
    assert not [one for one in seen.selectors if "path" in one]


def test_a_file_that_was_replaced_is_digested_as_it_runs(tmp_path: Path) -> None:
    agent = copy_of_python(tmp_path)
    expected = digest(agent)
    with peer(tmp_path, agent) as one:
        replacement = tmp_path / "replacement"
        replacement.write_bytes(b"trusted")
        replacement.replace(agent)
        seen = attestor().attest(one.connected)
    assert (seen.path, seen.gone, seen.digest) == (str(agent), True, expected)


def test_a_file_without_a_place_has_neither_path_nor_digest(tmp_path: Path) -> None:
    memory = os.memfd_create("agent")
    os.write(memory, PYTHON.read_bytes())
    with peer(tmp_path, f"/proc/self/fd/{memory}", pass_fds=(memory,)) as one:
        seen = attestor().attest(one.connected)
    os.close(memory)
    assert (seen.path, seen.digest, seen.gone) == ("", "", True)
    assert seen.unknown == {Unknown.ELSEWHERE, Unknown.FOREIGN}


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", b"a\xff".decode("utf-8", "surrogateescape")])
def test_a_path_that_cannot_be_shown_is_not_known(tmp_path: Path, name: str) -> None:
    agent = copy_of_python(tmp_path, name)
    with peer(tmp_path, agent) as one:
        seen = attestor().attest(one.connected)
    assert (seen.path, seen.digest, seen.unknown) == ("", digest(agent), {Unknown.UNPRINTABLE})


def test_a_file_that_is_too_large_or_takes_too_long_has_no_digest(tmp_path: Path) -> None:
    with peer(tmp_path) as one:
        large = attestor(max_bytes=100).attest(one.connected)
        slow = attestor(clock_ms=lambda: 0, limits=Limits(budget_ms=0)).attest(one.connected)
    assert (large.path, large.digest, large.unknown) == (str(PYTHON), "", {Unknown.TOO_LARGE})
    assert (slow.path, slow.digest, slow.unknown) == (str(PYTHON), "", {Unknown.TOO_SLOW})
    assert {parent.digest for parent in slow.parents} == {""}


def test_a_kernel_without_handles_attests_and_says_that_it_is_not_pinned(tmp_path: Path) -> None:
    with peer(tmp_path) as one:
        seen = attestor(handle_of=no_handle).attest(one.connected)
    assert (seen.pid, seen.pinned) == (one.pid, False)


def test_another_user_than_the_decision_points_is_said(tmp_path: Path) -> None:
    machine = this_machine()
    with peer(tmp_path) as one:
        seen = attestor(machine=Machine(machine.uid + 1, machine.boot)).attest(one.connected)
    assert not seen.same_uid


def descriptors() -> list[str]:
    return sorted(one.name for one in Path("/proc/self/fd").iterdir())


def test_nothing_stays_open(tmp_path: Path) -> None:
    attesting = attestor()
    with peer(tmp_path) as one:
        attesting.attest(one.connected)
        before = descriptors()
        attesting.attest(one.connected)
        one.ends()
        with pytest.raises(CannotDo):
            attesting.attest(one.connected)
        assert descriptors() == before


# -- what only a made-up /proc shows


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUp:
    made = MadeUp(tmp_path / "proc", os.geteuid())
    made.process(os.getpid(), 7, 300, PYTHON)
    made.process(7, 1, 200, PYTHON, uid=1)
    made.process(1, 0, 100, PYTHON, uid=0)
    return made


def test_the_chain_is_complete_where_it_ends_at_the_first_process(made_up: MadeUp) -> None:
    with own_connection() as connected:
        seen = attestor(machine=made_up.machine).attest(connected)
    assert [(one.pid, one.uid, one.started) for one in seen.parents] == [(7, 1, 200), (1, 0, 100)]
    assert seen.complete


@pytest.mark.parametrize("missing", ["a process that is not shown", "a parent outside of what is seen"])
def test_the_chain_is_not_complete_where_one_is_missing(made_up: MadeUp, missing: str) -> None:
    if "outside" in missing:
        made_up.process(7, 0, 200, PYTHON)
    else:
        shutil.rmtree(made_up.root / "1")
    with own_connection() as connected:
        seen = attestor(machine=made_up.machine).attest(connected)
    assert [one.pid for one in seen.parents] == [7]
    assert not seen.complete


def test_a_uid_that_stands_for_any_is_nobodys(made_up: MadeUp) -> None:
    """Within a user namespace, the kernel shows every user that has no number there as one and the same."""
    made_up.write("sys/kernel/overflowuid", f"{os.geteuid()}\n")
    with own_connection() as connected:
        assert attestor(machine=made_up.machine).attest(connected)
        made_up.write("self/uid_map", "0 1000 1\n")
        with pytest.raises(CannotDo) as refusal:
            attestor(machine=made_up.machine).attest(connected)
    assert refusal.value.reason is Reason.INVALID_PROOF


def test_a_machine_that_does_not_say_which_boot_this_is_attests_nobody(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"Linux 5\.14 or newer and its /proc: No such file"):
        this_machine(tmp_path)


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_another_system_is_refused_in_one_sentence(platform: str) -> None:
    with pytest.raises(Unavailable) as error:
        require_supported(platform)
    assert str(error.value) == (
        f"Peers of a local socket cannot be attested on {platform}, only on Linux; use an SVID or an OIDC token."
    )
