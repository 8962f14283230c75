"""Where an executable lies decides what is said of it: its path only if it is ours too, its content only if it is the
kernel's own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from forestall.adapter.attest import mounts
from forestall.adapter.attest.digest import Digests
from forestall.adapter.attest.executable import Looking, Program, place_now
from forestall.adapter.attest.interpreter import Interpreters
from forestall.adapter.attest.proc import process
from forestall.adapter.attest.value import Unknown
from tests.unit.adapter.attest.peers import CAT, GIB, MadeUp

PROC = Path("/proc")
PYTHON = str(Path(sys.executable).resolve())


def look(mounted: Mapping[int, str], users: str | None = None, root: Path = PROC) -> Program:
    digests = Digests(max_bytes=GIB, clock_ms=lambda: 0, wall_ns=time.time_ns)
    with ExitStack() as held:
        own = held.enter_context(process(os.getpid(), PROC))
        users = own.namespace("user") if users is None else users
        entry = held.enter_context(process(os.getpid(), root))
        return Looking(digests, Interpreters(), mounted, users, 1).at(entry, held)


def place() -> mounts.Place:
    with process(os.getpid(), PROC) as own:
        found = place_now(own)
    assert found is not None
    return found


def mount() -> int:
    return place().mount


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "tmpfs", "overlay"])
def test_on_a_file_system_of_the_kernels_own_all_is_known(kind: str) -> None:
    found = look({mount(): kind})
    assert (found.place, found.path, found.unknown) == (place(), PYTHON, frozenset())
    assert found.digest.startswith("sha256:")


@pytest.mark.parametrize("kind", ["fuse", "fuse.sshfs", "fuseblk", "nfs4", "cifs", "9p", "virtiofs", "", "new"])
def test_on_one_that_somebody_serves_there_is_no_digest(kind: str) -> None:
    found = look({mount(): kind})
    assert (found.path, found.digest, found.unknown) == (PYTHON, "", {Unknown.FOREIGN})


def test_in_another_mount_namespace_there_is_a_digest_and_no_path() -> None:
    found = look({})
    assert (found.path, found.unknown) == ("", {Unknown.ELSEWHERE})
    assert found.digest == look({mount(): "ext4"}).digest
    assert found.is_interpreter, "which its name there is good enough for"


def elsewhere(tmp_path: Path, kind: str) -> MadeUp:
    made = MadeUp(tmp_path, os.geteuid())
    made.process(os.getpid(), 1, 1, Path(CAT))
    (tmp_path / str(os.getpid()) / "ns").mkdir()
    (tmp_path / str(os.getpid()) / "ns/user").symlink_to("user:[1]")
    with process(os.getpid(), made.root) as entry:
        found = place_now(entry)
    assert found is not None
    made.write(f"{os.getpid()}/mountinfo", f"{found.mount} 1 0:1 / / rw - {kind} none rw\n")
    return made


def test_a_stack_of_another_user_namespaces_making_is_not_read(tmp_path: Path) -> None:
    """Its user may have put anything under it."""
    made = elsewhere(tmp_path, "overlay")
    assert look({}, "user:[1]", made.root).digest
    for users in ("user:[2]", ""):
        found = look({}, users, made.root)
        assert (found.digest, found.unknown) == ("", {Unknown.ELSEWHERE, Unknown.FOREIGN})


def test_a_disk_is_read_whoever_sees_it(tmp_path: Path) -> None:
    assert look({}, "user:[2]", elsewhere(tmp_path, "ext4").root).digest


# -- the lists of mounts


def test_a_mount_is_told_by_its_number() -> None:
    assert mounts.parse(
        b"22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw\n"
        b"27 1 254:0 / /a\\040-\\040b rw - ext4 /dev/vda rw\n"
        b"28 1 0:5 / /home/a/s rw,nosuid master:1 propagate_from:2 - fuse.sshfs host: rw\n"
    ) == {22: "proc", 27: "ext4", 28: "fuse.sshfs"}


@pytest.mark.parametrize("line", [b"", b"x 1 0:1 / / rw - ext4 a rw", b"22 1 0:1 / / rw ext4 a rw", b"22 1 / - \xff a"])
def test_a_line_of_another_form_tells_of_none(line: bytes) -> None:
    assert mounts.parse(line + b"\n23 1 0:1 / / rw - tmpfs a rw\n") == {23: "tmpfs"}


def test_a_list_that_is_cut_off_loses_its_last_line_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "22 1 0:1 / / rw - tmpfs a rw\n23 1 0:1 / /b rw - ext4dev a rw\n"
    (tmp_path / "mountinfo").write_text(text)
    monkeypatch.setattr(mounts, "MAX_BYTES", text.index("4dev") + 1)
    directory = os.open(tmp_path, os.O_PATH)
    assert mounts.read(directory) == {22: "tmpfs"}
    os.close(directory)


def test_two_files_are_never_in_one_place(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    os.link(tmp_path / "a", tmp_path / "c")
    found = []
    for name in "abc":
        descriptor = os.open(tmp_path / name, os.O_PATH)
        found.append(mounts.place_of(descriptor))
        os.close(descriptor)
    assert found[0] != found[1]
    assert found[0] == found[2]
