"""A permit for content: it is good for that content alone, whatever it is called here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from forestall.core.refer import bound_digest
from forestall_edge import Reason
from forestall_edge import content as module
from forestall_edge.canonical import digest
from forestall_edge.content import bound, file_digest, text_at
from tests.edges import Scene, permit, refused

ARGUMENTS: dict[str, Any] = {"script": "a.sh", "files": ["a", "b"], "n": 1}


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "a.sh"
    file.write_bytes(b"good")
    file.chmod(0o400)
    return file


def presented(scene: Scene, refs: dict[str, str]) -> str:
    return scene.token(permit(refs=refs, digest=bound_digest(ARGUMENTS, refs)))


def test_it_is_good_for_that_content_wherever_it_is(file: Path) -> None:
    scene, refs = Scene(), {"/script": sha(b"good"), "/files/1": sha(b"good")}
    token = presented(scene, refs)
    here = {**ARGUMENTS, "script": str(file), "files": ["a", str(file)]}
    assert scene.verify(token, arguments=here, content=file_digest).refs == refs


def test_and_for_nothing_else(file: Path, tmp_path: Path) -> None:
    scene = Scene()
    token = presented(scene, {"/script": sha(b"good")})
    other = tmp_path / "b.sh"
    other.write_bytes(b"bad")
    other.chmod(0o400)
    here = {**ARGUMENTS, "script": str(file)}
    for arguments in ({**here, "script": str(other)}, {**here, "script": "a.sh"}, {**here, "script": "/none"}):
        with refused(Reason.OTHER_CONTENT):
            scene.verify(token, arguments=arguments, content=file_digest)
    for script in (7, None, ["a.sh"], {"ref": sha(b"good")}):
        with refused(Reason.OTHER_CONTENT):
            scene.verify(token, arguments={**here, "script": script}, content=file_digest)
    for arguments in ({**here, "n": 2}, {**here, "files": ["a"]}, {**here, "more": 1}):
        with refused(Reason.OTHER_ARGUMENTS):
            scene.verify(token, arguments=arguments, content=file_digest)
    with refused(Reason.OTHER_CONTENT):
        scene.verify(token, arguments=here)
    assert scene.verify(token, arguments=here, content=file_digest).refs


def test_a_permit_for_an_object_is_none_for_content(file: Path) -> None:
    scene, stands = Scene(), {"script": {"ref": sha(b"good")}}
    token = scene.token(permit(digest=digest(stands)))
    with refused(Reason.OTHER_ARGUMENTS):
        scene.verify(token, arguments={"script": str(file)}, content=file_digest)


def test_content_is_a_file_that_nobody_may_write(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_digest(str(file)) == sha(b"good")
    os.mkfifo(tmp_path / "fifo", 0o400)
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "writable").write_text("x")
    for name in ("fifo", "link", "writable", "none", ".", "a.sh/"):
        with refused(Reason.OTHER_CONTENT):
            file_digest(f"{tmp_path}/{name}")
    for name in ("", "a.sh", "\0", "/\0", "/\udcff\0"):
        with refused(Reason.OTHER_CONTENT):
            file_digest(name)
    monkeypatch.setattr(module, "MAX_FILE", 3)
    with refused(Reason.OTHER_CONTENT):
        file_digest(str(file))


BEYOND = [
    "/files",
    "/files/",
    "/files/2",
    "/files/-1",
    "/files/01",
    "/files/0/0",
    "/files/\u0660",
    "/files/" + "9" * 5000,
]


@pytest.mark.parametrize("pointer", ["", "/", "script", "/script/0", "/n", "/none", *BEYOND])
def test_a_pointer_to_no_text_is_refused(pointer: str) -> None:
    with refused(Reason.OTHER_CONTENT):
        text_at(ARGUMENTS, pointer)
    with refused(Reason.OTHER_CONTENT):
        bound(ARGUMENTS, {pointer: sha(b"")})
    with refused(Reason.OTHER_CONTENT):
        text_at([ARGUMENTS], "/script")


def test_both_sides_replace_alike() -> None:
    refs = {"/a~1b~0c": sha(b"1"), "/files/1": sha(b"2"), "/files/0": sha(b"3")}
    arguments = {"a/b~c": "x", "files": ["y", "z"], "n": None}
    assert digest(bound(arguments, refs)) == bound_digest(arguments, refs)
    assert arguments["files"] == ["y", "z"]
