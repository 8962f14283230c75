"""What an answer alone told, and a credential cannot be ended without: kept for as long as the credential lives.

One file for each, encrypted under a key of the home and bound to the credential's name. It is on disk before the secret
goes anywhere, so that a process that comes after a crash can end what the one before made.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from forestall.adapter.ledger.keys import load_or_create_secret
from forestall.core.errors import SetupError, Unavailable, cure
from forestall.private_file import write_private_file

KEY = "lease.key"
NONCE = 12
"""Bytes."""

_NAME = re.compile(r"forestall-[A-Za-z0-9-]{1,128}")

MAX_HANDLE = 65_536
"""Bytes of what a backend gave out."""


class Escrow:
    """Safe to use from several threads; no name is used by two at once."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self._folder = folder
        self._keys = keys

    def keep(self, name: str, handle: str) -> None:
        """Raises Unavailable where it is not on disk: then the credential must not be used."""
        if len(handle.encode()) > MAX_HANDLE:
            raise Unavailable(f"What {name} is ended with is longer than {MAX_HANDLE} bytes, and cannot be kept.")
        nonce = secrets.token_bytes(NONCE)
        sealed = nonce + self._cipher().encrypt(nonce, handle.encode(), name.encode())
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private_file(self._path(name), sealed)
        except OSError as error:
            raise Unavailable(f"{self._path(name)} cannot be written: {cure(error)}.") from None

    def find(self, name: str) -> str:
        """What was kept; empty where nothing was.

        Raises:
            Unavailable: it is there and cannot be read, or was changed.
        """
        path = self._path(name)
        try:
            sealed = path.read_bytes()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {cure(error)}.") from None
        try:
            return self._cipher().decrypt(sealed[:NONCE], sealed[NONCE:], name.encode()).decode()
        except (InvalidTag, ValueError, SetupError):
            raise Unavailable(
                f"{path} does not open; end {name} at its backend by hand, then remove the file."
            ) from None

    def has(self, name: str) -> bool:
        return bool(_NAME.fullmatch(name)) and (self._folder / name).exists()

    def drop(self, name: str) -> None:
        """The credential is over. Where it cannot be removed, it is when the next process starts."""
        with suppress(OSError, Unavailable):
            self._path(name).unlink(missing_ok=True)

    def keep_only(self, names: Collection[str]) -> None:
        """Of others nothing is needed any more."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in names:
                    path.unlink(missing_ok=True)

    def _cipher(self) -> AESGCM:
        return AESGCM(load_or_create_secret(self._keys, KEY))

    def _path(self, name: str) -> Path:
        """Names of orphans are what a backend says. Raises Unavailable for one that we would not give."""
        if not _NAME.fullmatch(name):
            raise Unavailable(f"{name!r:.80} is no name of a credential of ours.")
        return self._folder / name
