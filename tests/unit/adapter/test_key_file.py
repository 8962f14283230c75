"""Registered keys are those that are in the file now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forestall.adapter.key_file import KeyFile
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault
from tests.desk import keys_of
from tests.tokens import key, refused


def test_the_keys_are_those_that_are_in_the_file_now(tmp_path: Path) -> None:
    path = tmp_path / "a.jwks"
    path.write_text(keys_of(key()))
    file = KeyFile(path)
    assert file.held() is None
    assert file.keys() is file.keys() is file.held()
    path.write_text(keys_of(key(), key(Algorithm.ES256)))
    assert len(file.keys().keys) == 2
    path.unlink()
    assert file.held() is None
    with refused(Fault.NO_BUNDLE):
        file.keys()
    path.write_text(keys_of(key()))
    assert len(file.keys().keys) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", Fault.MALFORMED),
        ("{}", Fault.MALFORMED),
        ('{"keys": []}', Fault.NO_BUNDLE),
        ('{"keys": [{"kty": "oct", "k": "AA"}]}', Fault.NOT_PUBLIC),
        ("x" * 300_000, Fault.TOO_LARGE),
    ],
)
def test_a_file_that_holds_no_public_keys_is_refused_each_time(tmp_path: Path, text: str, fault: Fault) -> None:
    path = tmp_path / "a.jwks"
    path.write_text(text)
    file = KeyFile(path)
    for _ in range(2):
        with refused(fault):
            file.keys()
        assert file.held() is None


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jwks")
    with refused(Fault.NO_BUNDLE):
        KeyFile(tmp_path / "a.jwks").keys()
    with refused(Fault.NO_BUNDLE):
        KeyFile(tmp_path).keys()
