"""Keys for grants: made once, rotated whole, kept for as long as anything that they signed."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter import issuing
from forestall.adapter.issuing import FILE, KEEP_MS, MAX_RETIRED, IssuingKeys
from forestall.core.errors import SetupError
from tests.tokens import NOW, stream


def made(directory: Path, seed: str = "one") -> IssuingKeys:
    return issuing.load_or_create(directory, now=NOW, random=stream(seed))


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = made(tmp_path / "keys")
    assert made(tmp_path / "keys", "two") == first
    assert stat.S_IMODE((tmp_path / "keys" / FILE).stat().st_mode) == 0o600
    assert [each.name for each in (tmp_path / "keys").iterdir()] == [FILE]
    private = json.loads((tmp_path / "keys" / FILE).read_text())["current"]["d"]
    assert private not in repr(first)
    assert private not in json.dumps(first.public(NOW).to_json())


def test_a_key_that_was_rotated_out_verifies_for_as_long_as_a_grant_may_live(tmp_path: Path) -> None:
    old = made(tmp_path)
    new = issuing.rotate(tmp_path, now=NOW, random=stream("two"))
    assert issuing.load(tmp_path) == new
    assert new.current.public.kid != old.current.public.kid
    kids = [key.kid for key in new.public(NOW + KEEP_MS - 1).keys]
    assert kids == [new.current.public.kid, old.current.public.kid]
    assert [key.kid for key in new.public(NOW + KEEP_MS).keys] == [new.current.public.kid]
    third = issuing.rotate(tmp_path, now=NOW + KEEP_MS, random=stream("three"))
    assert [each.key.kid for each in third.retired] == [new.current.public.kid]


def test_a_key_that_was_lost_is_forgotten(tmp_path: Path) -> None:
    made(tmp_path)
    keys = issuing.rotate(tmp_path, now=NOW, random=stream("two"), forget=True)
    assert keys.retired == ()


def test_keys_that_still_count_are_never_pushed_out(tmp_path: Path) -> None:
    made(tmp_path)
    for number in range(MAX_RETIRED):
        issuing.rotate(tmp_path, now=NOW, random=stream(str(number)))
    held = issuing.load(tmp_path)
    with pytest.raises(SetupError, match="rotate more seldom"):
        issuing.rotate(tmp_path, now=NOW, random=stream("more"))
    assert issuing.load(tmp_path) == held


def test_there_is_nothing_to_rotate_before_there_is_a_key(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not there yet"):
        issuing.rotate(tmp_path, now=NOW, random=stream("one"))


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(SetupError, match="chmod 600"):
        issuing.load(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    made(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / FILE).symlink_to(tmp_path / "a" / FILE)
    with pytest.raises(SetupError):
        issuing.load(tmp_path / "b")


def change(document: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    inner: Any = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return document


@pytest.mark.parametrize(
    "path",
    [
        ("current",),
        ("current", "d"),
        ("current", "x"),
        ("current", "made_at"),
        ("retired",),
        ("retired", 0),
        ("retired", 0, "kid"),
        ("retired", 0, "retired_at"),
    ],
)
@pytest.mark.parametrize("to", [None, "x", [7], {}])
def test_a_file_that_was_damaged_is_refused(tmp_path: Path, path: Any, to: Any) -> None:
    made(tmp_path)
    issuing.rotate(tmp_path, now=NOW, random=stream("two"))
    document = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(change(document, *path, to=to)))
    with pytest.raises(SetupError, match="restore it from a backup"):
        issuing.load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"{" * 100, b"x" * 70_000])
def test_a_file_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(SetupError, match="restore it from a backup"):
        issuing.load(tmp_path)


def test_a_directory_that_takes_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("in the way")
    with pytest.raises(SetupError):
        made(tmp_path / "keys")
