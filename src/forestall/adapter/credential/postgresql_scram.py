"""What a PostgreSQL server stores of a password (RFC 5802, 3; RFC 7677), made here: the password never goes there."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

ITERATIONS = 4096
"""The least that every client accepts (RFC 7677, 4): Java's refuse fewer. Of a password of 256 random bits they protect
nothing, and cost the server most of what a role costs it.
"""
SALT_BYTES = 16


def verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """`SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, as `pg_authid.rolpassword` has it. `password` is ASCII."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    shown = [b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{shown[0]}${shown[1]}:{shown[2]}"
