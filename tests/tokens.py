"""Keys and tokens for the tests of `forestall.proof`: real ones, and ones that are wrong in exactly one way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from forestall.core.canonical import canonical
from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import encode
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet, SigningKey, key_set
from forestall.proof.jws import sign_with

NOW = 1_795_262_400_000
"""21 November 2026, 12:00 UTC, in milliseconds."""

SECONDS = NOW // 1000


def stream(seed: str) -> Any:
    """Bytes that are the same on every run: for keys that guard nothing."""
    return lambda count: hashlib.shake_256(seed.encode()).digest(count)


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def key(algorithm: Algorithm = Algorithm.EDDSA, seed: str = "ours") -> SigningKey:
    if algorithm.value[:2] in {"RS", "PS"}:
        return SigningKey.of(rsa_key(), algorithm)
    return SigningKey.generate(algorithm, stream(seed))


def keys(*signing: SigningKey) -> KeySet:
    return key_set(signing)


def token(claims: Mapping[str, Any], signing: SigningKey, **header: Any) -> str:
    """Signed, whatever it says. A header member given as None is left out."""
    members = {"alg": signing.algorithm.value, "kid": signing.public.kid, "typ": "JWT", **header}
    return sign_with({name: value for name, value in members.items() if value is not None}, canonical(claims), signing)


def unsigned(header: Mapping[str, Any], payload: bytes = b"{}", signature: bytes = b"") -> str:
    return f"{encode(canonical(header))}.{encode(payload)}.{encode(signature)}"


def without(claims: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name not in names}


@contextmanager
def refused(fault: Fault) -> Iterator[None]:
    """What is inside is refused for exactly this."""
    with pytest.raises(InvalidProof) as caught:
        yield
    assert caught.value.fault is fault
