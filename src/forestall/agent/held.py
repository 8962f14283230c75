"""A task's grant in the hands of who holds it: the token, and the key that it is bound to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forestall.agent.key import key_to_json, parse_key, read_private, write_private
from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput, SetupError
from forestall.proof.encoding import decode
from forestall.proof.fault import InvalidProof
from forestall.proof.jwk import SigningKey
from forestall.proof.jws import MAX_TOKEN
from forestall.proof.possession import SOCKET_METHOD, SOCKET_URL, make_proof


@dataclass(frozen=True, slots=True)
class Held:
    """What `Agent` gives and takes. Its `repr` shows no secret."""

    token: str = field(repr=False)
    key: SigningKey | None = field(repr=False)
    """None where it is bound to a client certificate."""

    @property
    def claims(self) -> Mapping[str, Any]:
        """What the token says, for its holder to look at. Not verified here, and nothing follows from it.

        Raises:
            SetupError: it is no token.
        """
        return read_claims(self.token)

    @property
    def task(self) -> str:
        return str(self.claims["task"])

    @property
    def expires_at(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.claims["exp"]) * 1000

    def for_socket(self, nonce: str, now: int, jti: str) -> dict[str, str]:
        """What a hello to the decision point's socket says of it (docs/adr/0003-socket-protocol.md).

        Args:
            nonce: that of the connection's challenge.
            now: milliseconds since the epoch.
            jti: 16 random bytes or more, in text.

        Raises:
            SetupError: it is bound to a client certificate, which no socket asks for.
        """
        if self.key is None:
            raise SetupError("This grant is bound to a client certificate, and has no key to use at the socket with.")
        shown = make_proof(
            self.key,
            method=SOCKET_METHOD,
            url=SOCKET_URL,
            now=now,
            jti=jti,
            access_token=self.token,
            nonce=nonce,
        )
        return {"grant": self.token, "proof": shown}

    def write(self, path: Path) -> None:
        """A grant file: JSON of `token` and `key`, of mode 0600, written whole or not at all. Raises SetupError."""
        write_private(path, {"token": self.token, **({} if self.key is None else {"key": key_to_json(self.key)})})

    @classmethod
    def read(cls, path: Path) -> Held:
        """Raises SetupError: it is no grant file, or others can read it."""
        value = read_private(path)
        token, key = value.get("token"), value.get("key")
        if not isinstance(token, str) or not isinstance(key, dict | None) or set(value) - {"token", "key"}:
            raise SetupError(f"{path} is no grant file; `forestall task open` writes one.")
        held = cls(token, None if key is None else parse_key(key, path))
        if not {"task", "exp"} <= set(held.claims):
            raise SetupError(f"{path} holds a token that is no grant.")
        return held


@dataclass(frozen=True, slots=True)
class Ticket:
    """A task on its way to another agent. It names the receiver, lives for a minute, and counts once."""

    token: str = field(repr=False)
    expires_in_s: int


def read_claims(token: str) -> Mapping[str, Any]:
    """Unverified. Raises SetupError."""
    try:
        parts = token.split(".")
        claims = parse(decode(parts[1]), max_bytes=MAX_TOKEN) if len(parts) == 3 and len(token) <= MAX_TOKEN else None
    except (InvalidInput, InvalidProof):
        claims = None
    if not isinstance(claims, dict):
        raise SetupError("What should be a grant is no signed token.")
    return claims
