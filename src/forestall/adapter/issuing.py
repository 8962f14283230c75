"""The keys that grants and permits are signed with: one that signs, and the public halves of those before it.

`keys/tokens.json` and `keys/permits.json`, for their owner alone. They are replaced whole, so that a crash leaves the
old file or the new one. A key that was rotated out verifies on for as long as what lives longest of all that it may
have signed, and signs nothing.
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

from cryptography.hazmat.primitives.asymmetric import ec
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
class Kind:
    """What keys of one file are for."""

    file: str
    algorithm: Algorithm
    keep_ms: int
    """How long a key that was rotated out still verifies."""


GRANTS = Kind(FILE, Algorithm.EDDSA, KEEP_MS)

PERMITS = Kind("permits.json", Algorithm.ES256, 3_600_000)
"""A permit lives for seconds; the hour is for clocks, and for whoever copies keys by hand."""


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
    kind: Kind = GRANTS

    def public(self, now: int) -> KeySet:
        """What is published, and verifies."""
        kept = (each.key for each in self.retired if abs(now - each.at) < self.kind.keep_ms)
        return KeySet((self.current.public, *kept))


def load_or_create(directory: Path, *, now: int, random: Callable[[int], bytes], kind: Kind = GRANTS) -> IssuingKeys:
    """The keys that are there; a new one where there is none.

    Raises:
        SetupError: the file is malformed, readable by others, or cannot be read or written.
    """
    path = directory / kind.file
    try:
        return load(directory, kind)
    except FileNotFoundError:
        keys = IssuingKeys(_new(random, kind), now, kind=kind)
        _write(path, keys, replace=False)
        return load(directory, kind)  # another process may have been first


def load(directory: Path, kind: Kind = GRANTS) -> IssuingKeys:
    """Raises FileNotFoundError; SetupError, as `load_or_create`."""
    path = directory / kind.file
    try:
        return _read(parse(_bytes(path), max_bytes=MAX_FILE), kind)
    except (InvalidInput, InvalidProof, KeyError, TypeError, ValueError, AttributeError):
        raise SetupError(f"{path} does not hold the keys that it should; restore it from a backup.") from None


def rotate(
    directory: Path, *, now: int, random: Callable[[int], bytes], forget: bool = False, kind: Kind = GRANTS
) -> IssuingKeys:
    """A new key signs from now on. The one before verifies on, unless `forget`: then no token that is out counts.

    Raises:
        SetupError: as `load_or_create`; there is nothing to rotate, or too much was.
    """
    path = directory / kind.file
    try:
        held = load(directory, kind)
    except FileNotFoundError:
        raise SetupError(f"{path} is not there yet; the decision point makes it when it starts.") from None
    retired = tuple(each for each in held.retired if abs(now - each.at) < kind.keep_ms)
    retired = () if forget else (Retired(held.current.public, now), *retired)
    if len(retired) > MAX_RETIRED:
        raise SetupError(f"{path} holds {MAX_RETIRED} keys that may still have to verify; rotate more seldom.")
    keys = IssuingKeys(_new(random, kind), now, retired, kind)
    _write(path, keys, replace=True)
    return keys


def _new(random: Callable[[int], bytes], kind: Kind) -> SigningKey:
    return SigningKey.generate(kind.algorithm, random)


def _read(document: Mapping[str, Any], kind: Kind) -> IssuingKeys:
    current = document["current"]
    key = SigningKey.of(_private(decode(current["d"]), kind), kind.algorithm)
    bare = key.public.bare()
    if bare != {name: current[name] for name in bare}:
        raise ValueError("the public half is another key's")
    if not isinstance(document["retired"], list):
        raise TypeError("keys that were rotated out are a list")
    retired = tuple(_retired(each) for each in document["retired"])
    return IssuingKeys(key, int(current["made_at"]), retired, kind)


def _private(secret: bytes, kind: Kind) -> Ed25519PrivateKey | ec.EllipticCurvePrivateKey:
    if kind.algorithm is Algorithm.EDDSA:
        return Ed25519PrivateKey.from_private_bytes(secret)
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())


def _secret(keys: IssuingKeys) -> bytes:
    """As a JWK has it (RFC 8037, 2; RFC 7518, 6.2.2.1)."""
    private = keys.current.private
    if isinstance(private, Ed25519PrivateKey):
        return private.private_bytes_raw()
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return private.private_numbers().private_value.to_bytes(32, "big")


def _retired(member: Mapping[str, Any]) -> Retired:
    jwk = {name: value for name, value in member.items() if name != "retired_at"}
    key = read_key(jwk)
    if key is None or key.kid != key.thumbprint:
        raise ValueError("a key that was rotated out cannot be read")
    return Retired(key, int(member["retired_at"]))


def _document(keys: IssuingKeys) -> bytes:
    document = {
        "current": {**keys.current.public.bare(), "d": encode(_secret(keys)), "made_at": keys.made_at},
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
