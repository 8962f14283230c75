from __future__ import annotations

import os
from pathlib import Path

import pytest

from forestall.adapter.ledger.keys import FILES, create, load, load_or_create, load_sealer, load_verifiers
from forestall.core.entry import Stream
from forestall.core.errors import SetupError

ORIGIN = "example.org/test"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_keys_are_made_for_their_owner_alone_and_load_again(directory: Path) -> None:
    made = create(directory, ORIGIN)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {name: (directory / name).stat().st_mode & 0o777 for name in FILES} == {
        "log.key": 0o600,
        "log.pub": 0o644,
        "payload.key": 0o600,
    }
    loaded = load(directory)
    assert loaded.origin == ORIGIN
    assert loaded.private.private_bytes_raw() == made.private.private_bytes_raw()
    body = made.sealer.seal(b"x", b"leaf")
    assert loaded.sealer.unseal(body, b"leaf") == load_sealer(directory).unseal(body, b"leaf") == b"x"


def test_the_public_file_has_a_key_for_each_stream_named_after_its_origin(directory: Path) -> None:
    keys = create(directory, ORIGIN)
    verifiers = load_verifiers(directory / "log.pub")
    assert [one.name for one in verifiers] == ["example.org/test/permits", "example.org/test/denials"]
    note = keys.signer(Stream.DENIALS).sign(0, bytes(32))
    assert verifiers[1].verify(note).size == 0


def test_every_installation_has_an_origin_of_its_own(tmp_path: Path) -> None:
    assert create(tmp_path / "a").origin != create(tmp_path / "b").origin


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_ever_overwritten(directory: Path, name: str) -> None:
    directory.mkdir()
    (directory / name).write_text("mine")
    with pytest.raises(SetupError, match=f"{name} exists"):
        create(directory, ORIGIN)
    assert (directory / name).read_text() == "mine"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    create(directory, ORIGIN)
    (directory / name).unlink()
    for read in (load, lambda where: load_or_create(where, where / "none")):
        with pytest.raises(SetupError, match=f"{name} is missing; restore"):
            read(directory)


@pytest.mark.parametrize("name", ["log.key", "payload.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o622])
def test_a_secret_that_others_can_read_is_refused(directory: Path, name: str, mode: int) -> None:
    create(directory, ORIGIN)
    (directory / name).chmod(mode)
    with pytest.raises(SetupError, match="can be read by others; run `chmod 600"):
        load(directory)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"AAAA\n", b"!" * 44, b"A" * 44, b"A" * 100_000])
def test_a_malformed_file_is_named_and_not_shown(directory: Path, name: str, content: bytes) -> None:
    create(directory, ORIGIN)
    (directory / name).write_bytes(content)
    with pytest.raises(SetupError, match=name) as caught:
        load(directory)
    assert "AAAA" not in str(caught.value)


def test_a_public_file_of_another_key_is_refused(tmp_path: Path, directory: Path) -> None:
    create(directory, ORIGIN)
    create(tmp_path / "other", ORIGIN)
    (directory / "log.pub").write_bytes((tmp_path / "other" / "log.pub").read_bytes())
    with pytest.raises(SetupError, match="not the public half"):
        load(directory)


def test_a_file_that_is_no_file_does_not_hang(directory: Path) -> None:
    create(directory, ORIGIN)
    (directory / "log.key").unlink()
    os.mkfifo(directory / "log.key", 0o600)
    with pytest.raises(SetupError, match="is not a file"):
        load(directory)


def test_no_new_keys_are_made_beside_a_ledger_that_has_others(tmp_path: Path, directory: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    (ledger / "permits.log").touch()
    with pytest.raises(SetupError, match="restore them from a backup"):
        load_or_create(directory, ledger)
    assert not directory.exists()


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "ä", "x" * 201])
def test_an_origin_that_a_note_cannot_hold_is_refused(directory: Path, origin: str) -> None:
    with pytest.raises(SetupError, match="origin"):
        create(directory, origin)


def test_keys_do_not_show_themselves(directory: Path) -> None:
    keys = create(directory, ORIGIN)
    assert repr(keys) == "Keys(origin='example.org/test')"


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError):
        create(tmp_path / "file" / "keys", ORIGIN)
