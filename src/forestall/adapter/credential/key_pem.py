"""A private RSA key in a file of its owner's, read again whenever it changed."""

from __future__ import annotations

import threading
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from forestall.core.errors import SetupError
from forestall.private_file import read_private_file
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey

MAX_FILE = 16_384
"""Bytes. A key of 4096 bits has 3,300."""


class KeyPem:
    """Blocking, and safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._data = b""
        self._key: SigningKey | None = None

    def key(self) -> SigningKey:
        """As it is in the file now.

        Raises:
            SetupError: it cannot be read, others can read it, or it holds no such key. Says nothing of what it holds.
        """
        data = read_private_file(self._path, max_bytes=MAX_FILE)
        with self._lock:
            if self._key is None or data != self._data:
                self._key, self._data = _parse(data, self._path), data
            return self._key


def _parse(data: bytes, path: Path) -> SigningKey:
    try:
        private = load_pem_private_key(data, password=None) if len(data) <= MAX_FILE else None
        if isinstance(private, rsa.RSAPrivateKey):
            return SigningKey.of(private, Algorithm.RS256)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise SetupError(f"{path} does not hold one private RSA key of 2048 bits or more, in PEM, unencrypted.")
