"""Keys of an agent, with their private part: in memory, or in a file of mode 0600 (RFC 7517, RFC 8037)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput, SetupError, cure
from forestall.private_file import read_private_file
from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import decode, encode
from forestall.proof.fault import InvalidProof
from forestall.proof.jwk import SigningKey

MAX_FILE = 65_536
"""Bytes. A key has about 200, a grant with its key at most 20,000."""

_P256 = 32  # bytes of a coordinate


def new_key(algorithm: Algorithm = Algorithm.EDDSA) -> SigningKey:
    """A key that nobody has had before: Ed25519, or P-256 with `Algorithm.ES256`."""
    return SigningKey.generate(algorithm, secrets.token_bytes)


def read_key(path: Path) -> SigningKey:
    """The private JWK in a file.

    Raises:
        SetupError: it cannot be read, others can read it, or it holds no such key. Says nothing of what it holds.
    """
    return parse_key(read_private(path), path)


def write_key(path: Path, key: SigningKey) -> None:
    """Into a file of its owner's. Raises SetupError."""
    write_private(path, key_to_json(key))


def key_to_json(key: SigningKey) -> dict[str, str]:
    """With its private part."""
    private = key.private
    if isinstance(private, Ed25519PrivateKey):
        secret = private.private_bytes_raw()
    elif isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
        secret = private.private_numbers().private_value.to_bytes(_P256, "big")
    else:
        raise SetupError("An agent's key is of Ed25519 or P-256.")
    kid = {} if key.public.kid in {None, key.public.thumbprint} else {"kid": key.public.kid or ""}
    return {**key.public.bare(), **kid, "d": encode(secret)}


def parse_key(value: Mapping[str, Any], path: Path) -> SigningKey:
    """Raises SetupError, about `path`."""
    try:
        secret, kid = decode(_text(value, "d")), value.get("kid")
        if (value.get("kty"), value.get("crv")) == ("OKP", "Ed25519"):
            key = SigningKey.of(Ed25519PrivateKey.from_private_bytes(secret), Algorithm.EDDSA, kid=kid)
        elif (value.get("kty"), value.get("crv")) == ("EC", "P-256"):
            number = int.from_bytes(secret, "big")
            key = SigningKey.of(ec.derive_private_key(number, ec.SECP256R1()), Algorithm.ES256, kid=kid)
        else:
            raise SetupError(f"{path} holds no private key of Ed25519 or P-256 as a JWK.")
    except (ValueError, InvalidProof):
        raise SetupError(f"{path} holds no private key of Ed25519 or P-256 as a JWK.") from None
    if any(value.get(name, member) != member for name, member in key.public.bare().items()):
        raise SetupError(f"{path} holds a private key and the public key of another.")
    return key


def read_private(path: Path) -> dict[str, Any]:
    """A JSON object from a file that nobody else can read. Raises SetupError."""
    data = read_private_file(path, max_bytes=MAX_FILE)
    try:
        value = parse(data, max_bytes=MAX_FILE)
    except InvalidInput:
        value = None
    if not isinstance(value, dict):
        raise SetupError(f"{path} does not hold one JSON object of at most {MAX_FILE} bytes.")
    return value


def write_private(path: Path, value: Mapping[str, Any]) -> None:
    """As JSON; otherwise as `write_private_bytes`."""
    write_private_bytes(path, f"{json.dumps(dict(value))}\n".encode())


def write_private_bytes(path: Path, data: bytes) -> None:
    """As a whole or not at all, and never for others to read. Raises SetupError."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            beside.replace(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {cure(error)}.") from None


def _text(value: Mapping[str, Any], name: str) -> str:
    member = value.get(name)
    return member if isinstance(member, str) else ""
