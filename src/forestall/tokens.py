"""What the token service is made of: who can be verified, and what grants are signed with.

Part of the composition root, as `verifiers`. There is none without an `identity.toml`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from forestall.home import Home

if TYPE_CHECKING:  # what reads and follows identities is loaded only where there are any
    from forestall.adapter.issuing import IssuingKeys
    from forestall.identities import Identities
    from forestall.proof.token import GrantToken
    from forestall.verifiers import Verifiers


@dataclass(slots=True)
class Tokens:
    verifiers: Verifiers
    keys: IssuingKeys
    issuer: str = ""
    """What our tokens call us, a URL. Empty until it is known where we listen: then no token is issued, nor is good."""

    @property
    def identities(self) -> Identities:
        return self.verifiers.identities

    def read_grant(self, token: str, at: int) -> GrantToken:
        """What a grant of ours says. Raises InvalidProof, as `verify_grant`."""
        from forestall.adapter.issuing import KEEP_MS
        from forestall.proof.token import verify_grant

        return verify_grant(
            token,
            self.keys.public(at),
            issuer=self.issuer,
            audience=self.issuer,
            tenants=self.identities.tenants,
            now=at,
            skew_ms=0,
            max_life_ms=KEEP_MS,
        )

    def close(self) -> None:
        """May be called twice."""
        self.verifiers.close()


class TokensOf(Protocol):
    def __call__(self, home: Home, *, now: Callable[[], int], issuer: str) -> Tokens | None: ...


def no_tokens(home: Home, *, now: Callable[[], int], issuer: str) -> None:
    """For a program that serves nobody but itself."""
    del home, now, issuer


def open_tokens(home: Home, *, now: Callable[[], int], issuer: str) -> Tokens | None:
    """None where there are no identities.

    Raises:
        SetupError: `identity.toml` or the keys cannot be used.
    """
    if not os.path.lexists(home.identities):
        return None
    from forestall.identities import Identities, load_identities

    identities = load_identities(home)
    if identities == Identities():
        return None
    from forestall.verifiers import Verifiers

    return Tokens(Verifiers(identities, now=now), _keys(home, now), issuer)


def renew(tokens: Tokens | None, home: Home, *, now: Callable[[], int], issuer: str) -> Tokens | None:
    """As they are on disk now. The verifiers stay where their rules did not change, with all that they have heard;
    those that are not used any more are closed by the caller.

    Raises:
        SetupError: as `open_tokens`; then what is held stays good.
    """
    if tokens is None:
        return open_tokens(home, now=now, issuer=issuer)
    from forestall.identities import load_identities

    if load_identities(home) != tokens.identities:
        return open_tokens(home, now=now, issuer=tokens.issuer)
    return Tokens(tokens.verifiers, _keys(home, now), tokens.issuer)


def _keys(home: Home, now: Callable[[], int]) -> IssuingKeys:
    from forestall.adapter.issuing import load_or_create

    return load_or_create(home.keys, now=now(), random=secrets.token_bytes)
