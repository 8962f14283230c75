"""Copies of what calls refer to, from real files: what is copied, what is not, and what a swap in between does."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.pep.mcp import copies as module
from forestall.pep.mcp.copies import CHUNK, MAX_FILE, Store


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.fixture
def store(tmp_path: Path, work: Path) -> Iterator[Store]:
    store = Store(tmp_path / "copies", str(work))
    yield store
    store.close()


def test_a_copy_has_the_content_the_name_and_nobody_who_may_write_it(store: Store, work: Path) -> None:
    data = os.urandom(CHUNK + 5)
    (work / "a b.py").write_bytes(data)
    copy = store.copy({"/script": "a b.py"})["/script"]
    path = Path(copy.path)
    assert (copy.digest, copy.real) == (sha(data), str(work / "a b.py"))
    assert path.read_bytes() == data
    assert path.name == "a b.py"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (work / "a b.py").write_bytes(b"other")
    assert path.read_bytes() == data


def test_a_link_is_followed_and_what_it_leads_to_is_said(store: Store, work: Path) -> None:
    (work / "folder").mkdir()
    (work / "folder" / "real").write_text("x")
    (work / "link").symlink_to("folder/real")
    (work / "by").symlink_to("folder")
    for name in ("link", "by/real", "folder/../link", str(work / "link")):
        assert store.copy({"/a": name})["/a"].real == str(work / "folder" / "real")


def test_what_is_no_plain_file_is_not_bound(store: Store, work: Path) -> None:
    (work / "folder").mkdir()
    os.mkfifo(work / "fifo")
    (work / "twice").write_text("x")
    os.link(work / "twice", work / "again")
    (work / "round").symlink_to("round")
    (work / "huge").touch()
    os.truncate(work / "huge", MAX_FILE + 1)
    (work / "fine").write_text("x")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(work / "socket"))
        names = ["", "none", "folder", "fifo", "twice", "again", "round", "huge", "socket", "/dev/zero", "/dev/null"]
        names += ["~/fine", "file://fine", "fine\0", "fine/", "fine/x", "x" * 5000, "\udcff", "."]
        for name in names:
            found = store.copy({"/a": name, "/b": "fine"})
            assert list(found) == (["/a", "/b"] if name == "fine/" else ["/b"]), name


def swapping(monkeypatch: pytest.MonkeyPatch, swap: object) -> None:
    """`swap` happens once it is known where a name leads, and before that is opened."""
    real = module._real

    def leads(name: str, directory: str) -> str:
        found = real(name, directory)
        swap()
        return found

    monkeypatch.setattr(module, "_real", leads)


def test_a_link_that_is_put_there_before_it_is_opened_is_not_followed(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "secret").write_text("secret")
    (work / "a").write_text("harmless")

    def swap() -> None:
        (work / "a").unlink()
        (work / "a").symlink_to(work / "secret")

    swapping(monkeypatch, swap)
    assert store.copy({"/a": "a"}) == {}


def test_nor_is_a_directory_that_became_a_link(store: Store, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, text in (("a", "harmless"), ("b", "secret")):
        (work / folder).mkdir()
        (work / folder / "f").write_text(text)

    def swap() -> None:
        (work / "a").rename(work / "c")
        (work / "a").symlink_to("b")

    swapping(monkeypatch, swap)
    assert store.copy({"/a": "a/f"}) == {}


def test_a_file_that_is_swapped_between_open_and_copy_is_digested_as_it_was_copied(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a").write_text("first")
    opened = module._opened

    def swap(real: str) -> object:
        context = opened(real)
        found = context.__enter__()
        (work / "new").write_text("second")
        (work / "new").rename(work / "a")

        class Same:
            def __enter__(self) -> int:
                return found

            def __exit__(self, *why: object) -> None:
                context.__exit__(*why)

        return Same()

    monkeypatch.setattr(module, "_opened", swap)
    copy = store.copy({"/a": "a"})["/a"]
    assert copy.digest == sha(b"first")
    assert Path(copy.path).read_text() == "first"


def test_a_file_that_grows_while_it_is_copied_has_the_digest_of_the_copy_or_none(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a").write_bytes(b"x" * CHUNK)
    read, first = os.read, True

    def grows(descriptor: int, size: int) -> bytes:
        nonlocal first
        if first:
            first = False
            with (work / "a").open("ab") as file:
                file.write(b"y" * 10)
        return read(descriptor, size)

    monkeypatch.setattr(module.os, "read", grows)
    copy = store.copy({"/a": "a"})["/a"]
    assert copy.digest == sha(Path(copy.path).read_bytes()) == sha(b"x" * CHUNK + b"y" * 10)
    monkeypatch.setattr(module, "MAX_FILE", CHUNK + 15)
    first = True
    assert store.copy({"/a": "a"}) == {}
    kept = [path for path in (work.parent / "copies").rglob("a") if path.is_file()]
    assert kept == [Path(copy.path)]


def test_no_more_is_kept_than_may_be_and_what_is_dropped_makes_room(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 25)
    (work / "a").write_bytes(b"x" * 10)
    first, second = store.copy({"/a": "a"}), store.copy({"/a": "a"})
    assert store.copy({"/a": "a"}) == {}
    store.discard(first)
    assert not Path(first["/a"].path).parent.exists()
    assert Path(second["/a"].path).exists()
    assert list(store.copy({"/a": "a"})) == ["/a"]


def test_it_takes_away_its_own_at_the_end_and_makes_nothing_before_it_is_used(tmp_path: Path, work: Path) -> None:
    store = Store(tmp_path / "copies", str(work))
    store.sweep()
    store.close()
    assert not (tmp_path / "copies").exists()
    (work / "a").write_text("x")
    store.copy({"/a": "a"})
    store.close()
    assert list((tmp_path / "copies").iterdir()) == []


CHILD = """
import sys
from pathlib import Path
from forestall.pep.mcp.copies import Store
store = Store(Path(sys.argv[1]), sys.argv[2])
print(store.copy({"/a": "a"})["/a"].path, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_gateway_left_is_swept_and_what_a_living_one_has_is_not(
    store: Store, tmp_path: Path, work: Path
) -> None:
    (work / "a").write_text("x")
    command = [sys.executable, "-c", CHILD, str(tmp_path / "copies"), str(work)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        left = Path(child.stdout.readline().strip())
        own = store.copy({"/a": "a"})
        store.sweep()
        assert left.read_text() == "x"
        child.kill()
        child.wait()
    store.sweep()
    assert not left.parent.parent.exists()
    assert Path(own["/a"].path).read_text() == "x"


ATTEMPTS = """
cat "$1"; test -r "$1" || echo 'not readable'
for act in 'echo y >> "$1"' 'rm -f "$1"' 'chmod 777 "$1"' 'mv "$1" "$1.x"' 'mv "$2" "$2.x"'; do
  sh -c "$act" sh "$1" "$2" 2> /dev/null && echo "did $act"
done
true
"""


def test_where_the_server_is_somebody_else_they_may_read_it_and_not_change_it(work: Path) -> None:
    """Root gives it to the server's group; who is not root has no server of somebody else's."""
    other = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
    (work / "a").write_text("x")
    folder = Path(tempfile.mkdtemp(prefix="fc-"))
    store = Store(folder / "copies", str(work), other.pw_gid)
    try:
        folder.chmod(0o711)
        path = Path(store.copy({"/a": "a"})["/a"].path)
        assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o440, 0o710]
        assert path.stat().st_gid == other.pw_gid
        if os.geteuid() == 0:
            command = ["sh", "-c", ATTEMPTS, "sh", str(path), str(path.parent)]
            who = {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
            done = subprocess.run(command, **who, capture_output=True, text=True, check=False, cwd="/")
            assert done.stdout == "x"
    finally:
        store.close()
        shutil.rmtree(folder)
