"""An enforcement point presents what was permitted to a server that demands it (docs/adr/0018-permits-at-the-edge.md).

The key is made here, at the start, and leaves memory never: who finds a permit on its way cannot use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey
from forestall.proof.permit import METHOD
from forestall.proof.possession import SOCKET_METHOD, SOCKET_URL, make_proof


@dataclass(frozen=True, slots=True)
class Presenter:
    key: SigningKey = field(repr=False)
    now: Callable[[], int]
    """Milliseconds since the epoch."""
    name: Callable[[], str]
    """A text that nobody can guess, and that never comes again."""

    @classmethod
    def make(cls, random: Callable[[int], bytes], now: Callable[[], int], name: Callable[[], str]) -> Presenter:
        return cls(SigningKey.generate(Algorithm.ES256, random), now, name)

    def bind(self, nonce: str) -> str:
        """That whoever is on the connection with this nonce has the key."""
        return self._proof(SOCKET_METHOD, SOCKET_URL, None, nonce)

    def present(self, permit: str, audience: str) -> str:
        """For one use of this permit, over a channel that has no request line of its own."""
        return self._proof(METHOD, audience, permit, None)

    def _proof(self, method: str, url: str, permit: str | None, nonce: str | None) -> str:
        return make_proof(
            self.key, method=method, url=url, now=self.now(), jti=self.name(), access_token=permit, nonce=nonce
        )
