"""The keys that grants are signed with: one that signs, and the public halves of those before it.

`keys/tokens.json`, for its owner alone. It is replaced whole, so that a crash leaves the old file or the new one. A key
that was rotated out verifies on for as long as the longest-lived grant that it may have signed, and signs nothing.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput, SetupError, cure
from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import decode, encode
from forestall.proof.fault import InvalidProof
from forestall.proof.jwk import KeySet, PublicKey, SigningKey, read_key

FILE = "tokens.json"

MAX_FILE = 65_536
"""Bytes. A key has about 300."""

KEEP_MS = 366 * 86_400_000
"""How long a key that was rotated out still verifies: the longest life that a mandate can give a task."""

MAX_RETIRED = 64
"""Keys that were rotated out and still verify. One every week, for a year."""


@dataclass(frozen=True, slots=True)
class Retired:
    key: PublicKey
    at: int
    """When it stopped signing, in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class IssuingKeys:
    current: SigningKey = field(repr=False)
    made_at: int
    retired: tuple[Retired, ...] = ()
    """The newest first."""

    def public(self, now: int) -> KeySet:
        """What is published, and verifies."""
        kept = (each.key for each in self.retired if abs(now - each.at) < KEEP_MS)
        return KeySet((self.current.public, *kept))


def load_or_create(directory: Path, *, now: int, random: Callable[[int], bytes]) -> IssuingKeys:
    """The keys that are there; a new one where there is none.

    Raises:
        SetupError: the file is malformed, readable by others, or cannot be read or written.
    """
    path = directory / FILE
    try:
        return load(directory)
    except FileNotFoundError:
        keys = IssuingKeys(_new(random), now)
        _write(path, keys, replace=False)
        return load(directory)  # another process may have been first


def load(directory: Path) -> IssuingKeys:
    """Raises FileNotFoundError; SetupError, as `load_or_create`."""
    path = directory / FILE
    try:
        return _read(parse(_bytes(path), max_bytes=MAX_FILE))
    except (InvalidInput, InvalidProof, KeyError, TypeError, ValueError, AttributeError):
        raise SetupError(f"{path} does not hold the keys that it should; restore it from a backup.") from None


def rotate(directory: Path, *, now: int, random: Callable[[int], bytes], forget: bool = False) -> IssuingKeys:
    """A new key signs from now on. The one before verifies on, unless `forget`: then no token that is out counts.

    Raises:
        SetupError: as `load_or_create`; there is nothing to rotate, or too much was.
    """
    path = directory / FILE
    try:
        held = load(directory)
    except FileNotFoundError:
        raise SetupError(f"{path} is not there yet; the decision point makes it when it starts.") from None
    retired = tuple(each for each in held.retired if abs(now - each.at) < KEEP_MS)
    retired = () if forget else (Retired(held.current.public, now), *retired)
    if len(retired) > MAX_RETIRED:
        raise SetupError(f"{path} holds {MAX_RETIRED} keys that grants may still be signed with; rotate more seldom.")
    keys = IssuingKeys(_new(random), now, retired)
    _write(path, keys, replace=True)
    return keys


def _new(random: Callable[[int], bytes]) -> SigningKey:
    return SigningKey.generate(Algorithm.EDDSA, random)


def _read(document: Mapping[str, Any]) -> IssuingKeys:
    current = document["current"]
    private = Ed25519PrivateKey.from_private_bytes(decode(current["d"]))
    key = SigningKey.of(private, Algorithm.EDDSA)
    if key.public.bare() != {name: current[name] for name in ("kty", "crv", "x")}:
        raise ValueError("the public half is another key's")
    if not isinstance(document["retired"], list):
        raise TypeError("keys that were rotated out are a list")
    retired = tuple(_retired(each) for each in document["retired"])
    return IssuingKeys(key, int(current["made_at"]), retired)


def _retired(member: Mapping[str, Any]) -> Retired:
    jwk = {name: value for name, value in member.items() if name != "retired_at"}
    key = read_key(jwk)
    if key is None or key.kid != key.thumbprint:
        raise ValueError("a key that was rotated out cannot be read")
    return Retired(key, int(member["retired_at"]))


def _document(keys: IssuingKeys) -> bytes:
    private = keys.current.private
    assert isinstance(private, Ed25519PrivateKey)
    document = {
        "current": {**keys.current.public.bare(), "d": encode(private.private_bytes_raw()), "made_at": keys.made_at},
        "retired": [{**each.key.to_json(), "retired_at": each.at} for each in keys.retired],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _bytes(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {cure(error)}.") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SetupError(f"{path} is not a file; move it, and restore the file from a backup.")
        if status.st_mode & 0o077:
            raise SetupError(f"{path} can be read by others; run `chmod 600 {path}`, and rotate it if it was read.")
        return file.read(MAX_FILE + 1)


def _write(path: Path, keys: IssuingKeys, *, replace: bool) -> None:
    """Beside its place first, and on disk before it takes that place."""
    made = ""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        with open(descriptor, "wb") as file:  # noqa: PTH123 - as above
            file.write(_document(keys))
            file.flush()
            os.fsync(descriptor)
        if replace:
            Path(made).replace(path)
        else:
            with suppress(FileExistsError):
                os.link(made, path)
        _sync(path.parent)
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {cure(error)}.") from None
    finally:
        if made:
            Path(made).unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
