"""A key of an issuer's, and tokens that it signs: RS256, as clusters and build systems have it. None of it is ours."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Signer:
    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        public = self.key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.kid = encoded(hashlib.sha256(der).digest())
        numbers = public.public_numbers()
        self.jwk = {
            "use": "sig",
            "kty": "RSA",
            "kid": self.kid,
            "alg": "RS256",
            "n": _number(numbers.n),
            "e": _number(numbers.e),
        }

    def sign(self, claims: Mapping[str, Any], **header: str) -> str:
        parts = ({"alg": "RS256", "kid": self.kid, **header}, claims)
        signed = ".".join(encoded(json.dumps(each).encode()) for each in parts)
        return f"{signed}.{encoded(self.key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


def _number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))
