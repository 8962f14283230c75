"""Permits as the decision point signs them and a gateway presents them, and a verifier that knows the keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from forestall.core.canonical import digest
from forestall.core.effects import Effect
from forestall.core.label import CLEAN
from forestall.core.model import Permit
from forestall.pep.presenting import Presenter
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey, key_set
from forestall.proof.jws import sign
from forestall.proof.permit import TYPE, Edge, sign_permit
from forestall_edge import FixedKeys, MemoryBurns, Reason, Refused, Verifier, read_trust
from tests.tokens import NOW, SECONDS, key

AUDIENCE, ISSUER, TOOL = "https://files.example/mcp", "example.org/forestall", "files/write"
ARGUMENTS: Mapping[str, Any] = {"path": "/srv/notes", "text": "hello", "count": 3, "rate": 1.5}
PIN = "sha256:" + "a" * 64
SIGNING = key(Algorithm.ES256, "permits")


def names() -> Callable[[], str]:
    numbers = iter(range(1_000_000))
    return lambda: f"name-{next(numbers)}"


def presenter(seed: str = "gateway", now: int = NOW) -> Presenter:
    return Presenter(key(Algorithm.ES256, seed), lambda: now, names())


def document(signing: SigningKey = SIGNING, epoch: int = 4, **members: Any) -> bytes:
    return json.dumps({"issuer": ISSUER, "epoch": epoch, **key_set([signing]).to_json(), **members}).encode()


def permit(**changes: Any) -> Permit:
    made = Permit(
        id="permit-1",
        task="task-1",
        tool=TOOL,
        pin=PIN,
        digest=digest(dict(ARGUMENTS)),
        effects=frozenset({Effect.WRITE}),
        output=CLEAN,
        policies=("p",),
        policy_digest="sha256:" + "b" * 64,
        expires_at=NOW + 10_000,
    )
    return replace(made, **changes)


def edge(holder: Presenter, **changes: Any) -> Edge:
    return replace(Edge(ISSUER, AUDIENCE, "spiffe://example.org/agent", 4, holder.key.public.thumbprint), **changes)


@dataclass
class Scene:
    """A permit that counts, and what changes of it."""

    holder: Presenter = field(default_factory=presenter)
    at: float = float(SECONDS)
    burns: Any = None

    def __post_init__(self) -> None:
        self.burns = self.burns or MemoryBurns(lambda: SECONDS - 60)

    def verifier(self, instance: str | None = "one", epoch: int = 4, **options: Any) -> Verifier:
        keys = options.pop("keys", FixedKeys(read_trust(document(epoch=epoch))))
        return Verifier(keys, options.pop("audience", AUDIENCE), self.burns, instance, now=lambda: self.at, **options)

    def token(self, permitted: Permit | None = None, **changes: Any) -> str:
        changes.setdefault("instance", "one")
        return sign_permit(permitted or permit(), edge(self.holder, **changes), SIGNING, NOW)

    def proof(self, token: str, audience: str = AUDIENCE) -> str:
        return self.holder.present(token, audience)

    def claims(self, **changes: Any) -> str:
        """A permit with claims as they never are, signed with the right key. None takes a claim away."""
        import base64

        body = self.token().split(".")[1]
        claims = {**json.loads(base64.urlsafe_b64decode(body + "==")), **changes}
        return sign({name: value for name, value in claims.items() if value is not None}, SIGNING, typ=TYPE)

    def verify(self, token: str, verifier: Verifier | None = None, **changes: Any) -> Any:
        proof = changes.pop("proof", None) or self.proof(token)
        given = {"tool": TOOL, "arguments": dict(ARGUMENTS), **changes}
        return (verifier or self.verifier()).verify(token, proof, **given)


@contextmanager
def refused(reason: Reason, *secrets: str) -> Iterator[None]:
    """For this reason, and with nothing of what came in the message."""
    with pytest.raises(Refused) as raised:
        yield
    assert raised.value.reason is reason
    for secret in secrets:
        for part in secret.split("."):
            assert part not in str(raised.value)
