"""A private key in a file: read again when it changed, refused when others can read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from forestall.adapter.credential.key_pem import MAX_FILE, KeyPem
from forestall.core.errors import SetupError
from tests.backends.github import key, key_pem, write_key


def test_a_key_is_read_once_and_again_when_it_changed(tmp_path: Path) -> None:
    held = KeyPem(write_key(tmp_path))
    first = held.key()
    assert held.key() is first
    other = rsa.generate_private_key(65537, 2048)
    write_key(tmp_path, other)
    assert held.key().private.public_key() == other.public_key()  # type: ignore[union-attr]


def test_a_key_that_others_can_read_is_none(tmp_path: Path) -> None:
    file = write_key(tmp_path)
    file.chmod(0o640)
    with pytest.raises(SetupError, match="chmod 600"):
        KeyPem(file).key()


def pkcs8(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, password: bytes = b"") -> bytes:
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN RSA PRIVATE KEY-----\nnothing\n-----END RSA PRIVATE KEY-----\n",
        key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        pkcs8(ec.generate_private_key(ec.SECP256R1())),
        pkcs8(key(), password=b"locked"),
        key_pem(key()) + b" " * MAX_FILE,
    ],
)
def test_another_file_is_an_error_that_shows_nothing_of_it(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "app.pem"
    file.touch(0o600)
    file.write_bytes(data)
    with pytest.raises(SetupError, match="does not hold one private RSA key") as caught:
        KeyPem(file).key()
    assert "BEGIN" not in str(caught.value)


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        with pytest.raises(SetupError):
            KeyPem(place).key()
