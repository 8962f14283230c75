from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from forestall.agent import Held, new_key, read_key, write_key
from forestall.agent.key import key_to_json, write_private
from forestall.core.errors import SetupError
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey
from tests import tokens


@pytest.mark.parametrize("algorithm", [Algorithm.EDDSA, Algorithm.ES256])
def test_a_key_comes_back_as_it_was(tmp_path: Path, algorithm: Algorithm) -> None:
    key, file = new_key(algorithm), tmp_path / "key"
    write_key(file, key)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = read_key(file)
    assert (again.algorithm, again.public) == (algorithm, key.public)
    assert key_to_json(again) == key_to_json(key)


def test_no_two_new_keys_are_alike() -> None:
    assert new_key().public.thumbprint != new_key().public.thumbprint


def test_its_own_id_is_kept(tmp_path: Path) -> None:
    key = SigningKey.generate(Algorithm.EDDSA, os.urandom, kid="first")
    write_key(tmp_path / "key", key)
    assert read_key(tmp_path / "key").public.kid == "first"


def test_other_kinds_are_not_an_agents(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Ed25519 or P-256"):
        write_key(tmp_path / "key", tokens.key(Algorithm.RS256))


GOOD = key_to_json(new_key())
OTHER = key_to_json(new_key())
CURVE = key_to_json(new_key(Algorithm.ES256))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {**GOOD, "d": OTHER["d"]},
        {**GOOD, "d": "AAAA"},
        {**GOOD, "d": 1},
        {**GOOD, "d": "!"},
        {**GOOD, "kty": "oct"},
        {**CURVE, "d": "A" * 43},
        {**CURVE, "crv": "P-384"},
        [],
    ],
    ids=range(9),
)
def test_files_that_hold_no_key(tmp_path: Path, value: Any) -> None:
    file = tmp_path / "key"
    file.write_text(json.dumps(value))
    file.chmod(0o600)
    with pytest.raises(SetupError) as caught:
        read_key(file)
    assert GOOD["d"] not in str(caught.value)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "key", new_key())
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(SetupError, match="chmod 600"):
        read_key(tmp_path / "key")


def test_what_is_no_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SetupError):
        read_key(tmp_path / "pipe")
    with pytest.raises(SetupError, match="cannot be read"):
        read_key(tmp_path / "missing")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "grant"
    write_private(file, {"a": 1})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SetupError, match="cannot be written"):
        write_private(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_grant_comes_back_as_it_was(tmp_path: Path) -> None:
    token, key = tokens.token({"task": "t", "exp": tokens.SECONDS}, tokens.key()), new_key()
    Held(token, key).write(tmp_path / "grant")
    held = Held.read(tmp_path / "grant")
    assert (held.token, held.task, held.expires_at) == (token, "t", tokens.SECONDS * 1000)
    assert held.key is not None
    assert held.key.public == key.public
    assert set(json.loads((tmp_path / "grant").read_text())) == {"token", "key"}
    assert token not in repr(held)
    Held(token, None).write(tmp_path / "grant")
    assert Held.read(tmp_path / "grant").key is None


@pytest.mark.parametrize(
    "value",
    [
        {"key": GOOD},
        {"token": 1, "key": GOOD},
        {"token": "a.b.c", "key": GOOD},
        {"token": tokens.token({"sub": "x"}, tokens.key()), "key": GOOD},
        {"token": tokens.token({"task": "t", "exp": 1}, tokens.key()), "key": "x"},
        {"token": tokens.token({"task": "t", "exp": 1}, tokens.key()), "key": {}},
        {"token": tokens.token({"task": "t", "exp": 1}, tokens.key()), "more": 1},
    ],
    ids=range(7),
)
def test_files_that_hold_no_grant(tmp_path: Path, value: Any) -> None:
    write_private(tmp_path / "grant", value)
    with pytest.raises(SetupError):
        Held.read(tmp_path / "grant")
