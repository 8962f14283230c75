"""What an answer alone told, on disk: another process finds it, bound to its name, until the credential is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.adapter.credential.escrow import MAX_HANDLE, Escrow
from forestall.core.errors import SetupError, Unavailable

NAME, OTHER = "forestall-0badcafe-1", "forestall-0badcafe-2"
HANDLE = "hvs.CAESIJlU02bf-token"


@pytest.fixture
def escrow(tmp_path: Path) -> Escrow:
    (tmp_path / "keys").mkdir()
    return Escrow(tmp_path / "leases", tmp_path / "keys")


def test_another_process_finds_what_was_kept(escrow: Escrow, tmp_path: Path) -> None:
    escrow.keep(NAME, HANDLE)
    again = Escrow(tmp_path / "leases", tmp_path / "keys")
    assert again.has(NAME)
    assert again.find(NAME) == HANDLE
    assert (again.find(OTHER), again.has(OTHER)) == ("", False)


def test_it_is_encrypted_and_its_owners_alone(escrow: Escrow, tmp_path: Path) -> None:
    escrow.keep(NAME, HANDLE)
    for file in (tmp_path / "leases" / NAME, tmp_path / "keys" / "lease.key"):
        assert file.stat().st_mode & 0o777 == 0o600
        assert HANDLE.encode() not in file.read_bytes()
    assert (tmp_path / "leases").stat().st_mode & 0o777 == 0o700
    assert [file.name for file in (tmp_path / "keys").iterdir()] == ["lease.key"]


@pytest.mark.parametrize("change", ["moved", "changed", "cut"])
def test_what_was_changed_does_not_open_and_says_what_to_do(escrow: Escrow, tmp_path: Path, change: str) -> None:
    escrow.keep(NAME, HANDLE)
    file = tmp_path / "leases" / NAME
    name = NAME
    if change == "moved":
        file.rename(file.with_name(OTHER))
        name = OTHER
    else:
        data = file.read_bytes()
        file.write_bytes(data[:5] if change == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Unavailable, match=r"end .* at its backend by hand"):
        escrow.find(name)


def test_it_is_gone_with_the_credential(escrow: Escrow) -> None:
    for name in (NAME, OTHER):
        escrow.keep(name, HANDLE)
    escrow.drop(NAME)
    escrow.drop(NAME)
    assert not escrow.has(NAME)
    escrow.keep_only({NAME})
    assert not escrow.has(OTHER)


@pytest.mark.parametrize(
    "name", ["../keys/lease.key", "/etc/passwd", "forestall-../x", ".", "", "forestall-a/b", "x" * 300]
)
def test_a_name_that_we_would_not_give_reaches_no_file(escrow: Escrow, tmp_path: Path, name: str) -> None:
    escrow.keep(NAME, HANDLE)
    escrow.drop(name)
    assert not escrow.has(name)
    with pytest.raises(Unavailable):
        escrow.keep(name, HANDLE)
    assert (tmp_path / "keys" / "lease.key").exists()
    assert escrow.find(NAME) == HANDLE


def test_where_it_cannot_be_kept_that_is_said(escrow: Escrow, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="longer than"):
        escrow.keep(NAME, "x" * (MAX_HANDLE + 1))
    (tmp_path / "leases").touch()
    with pytest.raises(Unavailable, match="cannot be written"):
        escrow.keep(NAME, HANDLE)


def test_a_key_that_others_can_read_is_not_used(escrow: Escrow, tmp_path: Path) -> None:
    escrow.keep(NAME, HANDLE)
    (tmp_path / "keys" / "lease.key").chmod(0o644)
    with pytest.raises(SetupError, match="can be read by others"):
        escrow.keep(OTHER, HANDLE)
