"""The ledger's keys (docs/adr/0002-home.md). Made once, never overwritten, never shown.

`log.pub` has one C2SP verifier key a line, one for each stream; all are the same key, under the stream's origin.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from forestall.adapter.ledger.checkpoint import NAME, Signer, Verifier
from forestall.adapter.ledger.seal import KEY, Sealer
from forestall.core.entry import Stream
from forestall.core.errors import SetupError, cure

if TYPE_CHECKING:
    from pathlib import Path

LOG_KEY, LOG_PUBLIC, PAYLOAD_KEY = "log.key", "log.pub", "payload.key"
FILES = (LOG_KEY, LOG_PUBLIC, PAYLOAD_KEY)

MAX_FILE = 4096
"""Bytes of a key file; the largest has about 400."""


@dataclass(frozen=True, slots=True)
class Keys:
    origin: str
    """What the origins of the streams begin with."""
    private: Ed25519PrivateKey = field(repr=False)
    sealer: Sealer = field(repr=False)

    def signer(self, stream: Stream) -> Signer:
        return Signer(stream_origin(self.origin, stream), self.private)

    def verifier(self, stream: Stream) -> Verifier:
        return self.signer(stream).verifier


def stream_origin(origin: str, stream: Stream) -> str:
    return f"{origin}/{stream.value}"


def new_origin() -> str:
    """An origin that no other installation has."""
    return f"forestall.local/{secrets.token_hex(8)}"


def create(directory: Path, origin: str | None = None) -> Keys:
    """Make the keys of a new ledger.

    Raises:
        SetupError: one of the files exists, or cannot be written.
    """
    origin = new_origin() if origin is None else origin
    if not NAME.fullmatch(origin):
        raise SetupError("The origin is not visible ASCII without spaces and `+`; choose another.")
    private = Ed25519PrivateKey.generate()
    payload = secrets.token_bytes(KEY)
    keys = Keys(origin, private, Sealer(payload))
    public = "".join(f"{keys.verifier(stream)}\n" for stream in Stream)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{directory} cannot be made: {cure(error)}.") from None
    _write_new(directory / LOG_KEY, _encoded(private.private_bytes_raw()), 0o600)
    _write_new(directory / LOG_PUBLIC, public.encode(), 0o644)
    _write_new(directory / PAYLOAD_KEY, _encoded(payload), 0o600)
    _sync_directory(directory)
    return keys


def load(directory: Path) -> Keys:
    """The keys that are there.

    Raises:
        SetupError: one is missing, malformed, readable by others, or they do not belong together.
    """
    private = Ed25519PrivateKey.from_private_bytes(_secret(directory / LOG_KEY))
    payload = _secret(directory / PAYLOAD_KEY)
    path = directory / LOG_PUBLIC
    verifiers = load_verifiers(path)
    first = f"/{next(iter(Stream)).value}"
    origin = verifiers[0].name.removesuffix(first)
    keys = Keys(origin, private, Sealer(payload))
    if [str(verifier) for verifier in verifiers] != [str(keys.verifier(stream)) for stream in Stream]:
        raise SetupError(f"{path} is not the public half of {directory / LOG_KEY}; restore both from one backup.")
    return keys


def load_or_create(directory: Path, ledger: Path, origin: str | None = None) -> Keys:
    """The keys that are there, or new ones where there are none and no ledger that was signed with others.

    Raises:
        SetupError: as `load` and `create`, and where a ledger exists without its keys.
    """
    if any((directory / name).exists() for name in FILES):
        return load(directory)
    if ledger.is_dir() and any(ledger.glob("*.log")):
        raise SetupError(f"{directory} has no keys, but {ledger} was signed with some; restore them from a backup.")
    return create(directory, origin)


def load_sealer(directory: Path) -> Sealer:
    """The payload key alone, to read what was sealed. Raises SetupError as `load`."""
    return Sealer(_secret(directory / PAYLOAD_KEY))


def load_or_create_secret(directory: Path, name: str) -> bytes:
    """A key of the home's own that nothing is signed with, made where there is none. Raises SetupError as `load`."""
    path = directory / name
    if not path.exists():
        new = directory / f".{name}-{secrets.token_hex(8)}"
        _write_new(new, _encoded(secrets.token_bytes(KEY)), 0o600)
        with suppress(FileExistsError):  # another has made it meanwhile, and that one counts
            os.link(new, path)
        new.unlink()
        _sync_directory(directory)
    return _secret(path)


def load_verifiers(path: Path) -> list[Verifier]:
    """The verifier keys of a file, one a line. Raises SetupError where it is missing, empty or malformed."""
    lines = _read(path, secret=False).decode("ascii", "replace").splitlines()
    if not lines:
        raise SetupError(f"{path} is empty; restore it from a backup.")
    return [_verifier(path, number, line) for number, line in enumerate(lines, 1)]


def _verifier(path: Path, number: int, line: str) -> Verifier:
    try:
        return Verifier.parse(line)
    except SetupError as error:
        raise SetupError(f"{path}:{number}: {error} Restore the file from a backup.") from None


def _secret(path: Path) -> bytes:
    try:
        key = base64.b64decode(_read(path, secret=True).strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY:
        raise SetupError(f"{path} is not {KEY} bytes in base64; restore it from a backup.")
    return key


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SetupError(f"{path} is missing; restore it from a backup.") from None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {cure(error)}.") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise SetupError(f"{path} is not a file; move it, and restore the file from a backup.")
        if secret and status.st_mode & 0o077:
            raise SetupError(f"{path} can be read by others; run `chmod 600 {path}`, and make new keys if they were.")
        return os.read(fd, MAX_FILE)
    finally:
        os.close(fd)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise SetupError(f"{path} exists and is never overwritten; move it away first.") from None
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {cure(error)}.") from None
    try:
        os.write(fd, content)
        os.fsync(fd)
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {cure(error)}, remove it, and try again.") from None
    finally:
        os.close(fd)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _encoded(key: bytes) -> bytes:
    return base64.b64encode(key) + b"\n"
