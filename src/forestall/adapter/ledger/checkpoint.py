"""C2SP checkpoints: notes signed by Ed25519 (c2sp.org/signed-note) that commit to a tree (c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import base64
import binascii
import re
from binascii import b2a_base64
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from forestall.adapter.ledger.frames import HEAD, MAX_CHECKPOINT
from forestall.core.errors import SetupError, Tampered
from forestall.core.merkle import HASH

if TYPE_CHECKING:
    from collections.abc import Sequence

ED25519 = b"\x01"
"""The signature type of c2sp.org/signed-note."""

NAME = re.compile(r"[!-*,-~]{1,200}")
"""A key name, and so an origin: visible ASCII without `+`. 200 so that a header line always fits its limit."""

_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")

_REST = 16 + 1 + 44 + 1 + 92 + 1
"""Bytes of a note beside its names: the longest size, the root, key id and signature in base64, and their line ends."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head whose signature was verified."""

    origin: str
    size: int
    root: bytes
    note: bytes
    """The whole signed note."""


class Verifier:
    """Checks checkpoints of one origin. Its text form is a C2SP vkey: `name+key id in hex+base64(type || key)`."""

    def __init__(self, name: str, key: bytes) -> None:
        self.name = name
        self.key = key
        self.key_id = sha256(name.encode() + b"\n" + ED25519 + key).digest()[:4]
        self._public = Ed25519PublicKey.from_public_bytes(key)

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Raises SetupError where the text is not a vkey of type Ed25519."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        key = _decoded(encoded)
        if not NAME.fullmatch(name) or key is None or len(key) != 33 or key[:1] != ED25519:
            raise SetupError("This is not an Ed25519 verifier key; one reads name+8 hex digits+base64.")
        verifier = cls(name, key[1:])
        if verifier.key_id.hex() != key_id:
            raise SetupError(f"The verifier key of {name} does not match its key id; copy it again.")
        return verifier

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.key).decode()}"

    def verify(self, note: bytes) -> Checkpoint:
        """Signatures of keys other than this one are ignored, as the standard asks.

        Raises:
            Tampered: not a checkpoint of this origin, or not signed by this key.
        """
        text, signatures = _split(note)
        lines = text.split("\n")
        root = _decoded(lines[2]) if len(lines) == 4 else None
        if root is None or lines[0] != self.name or not _SIZE.fullmatch(lines[1]) or len(root) != HASH:
            raise Tampered(f"This is not a checkpoint of {self.name}.")
        self._require_signature(text.encode(), signatures)
        return Checkpoint(lines[0], int(lines[1]), root, note)

    def _require_signature(self, text: bytes, signatures: Sequence[str]) -> None:
        prefix = f"\u2014 {self.name} "
        found = [_decoded(line.removeprefix(prefix)) or b"" for line in signatures if line.startswith(prefix)]
        ours = [signature[4:] for signature in found if signature[:4] == self.key_id]
        if not ours:
            raise Tampered(f"The checkpoint is not signed by {self.name} with key id {self.key_id.hex()}.")
        for signature in ours:
            try:
                self._public.verify(signature, text)
            except InvalidSignature:
                raise Tampered(f"The signature of {self.name} under the checkpoint is forged or damaged.") from None


class Signer:
    """Signs checkpoints of one origin; the key's name is the origin, as tlog-checkpoint recommends."""

    def __init__(self, origin: str, private: Ed25519PrivateKey) -> None:
        self.verifier = Verifier(origin, private.public_key().public_bytes_raw())
        self._private = private
        self._head = f"{origin}\n".encode()
        self._line = f"\n\u2014 {origin} ".encode()
        self.room = HEAD + len(self._head) + len(self._line) + _REST
        """Bytes of the largest frame that holds one of its checkpoints."""

    def __repr__(self) -> str:
        return f"Signer({self.verifier.name})"

    def sign(self, size: int, root: bytes) -> bytes:
        text = b"%b%d\n%b\n" % (self._head, size, b2a_base64(root, newline=False))
        signature = self.verifier.key_id + self._private.sign(text)
        return b"".join((text, self._line, b2a_base64(signature)))


def _split(note: bytes) -> tuple[str, list[str]]:
    """The text, final newline included, and the signature lines."""
    try:
        whole = note.decode() if len(note) <= MAX_CHECKPOINT else ""
    except UnicodeDecodeError:
        whole = ""
    text, blank, signatures = whole.rpartition("\n\n")
    if not blank or not signatures.endswith("\n") or any(c < " " and c != "\n" for c in whole):
        raise Tampered("This is not a signed note.")
    return text + "\n", signatures[:-1].split("\n")


def _decoded(text: str) -> bytes | None:
    """Strict base64, in its one canonical spelling."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if base64.b64encode(value).decode() == text else None
