"""What the token service is made of: who can be verified, and what grants are signed with.

Part of the composition root, as `verifiers`. There is none without an `identity.toml`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from forestall.adapter import issuing
from forestall.adapter.issuing import IssuingKeys
from forestall.home import Home
from forestall.identities import Identities, load_identities

if TYPE_CHECKING:
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
    identities = load_identities(home)
    if identities == Identities():
        return None
    from forestall.verifiers import Verifiers  # with all that fetches and follows: only where there are rules

    keys = issuing.load_or_create(home.keys, now=now(), random=secrets.token_bytes)
    return Tokens(Verifiers(identities, now=now), keys, issuer)


def renew(tokens: Tokens | None, home: Home, *, now: Callable[[], int], issuer: str) -> Tokens | None:
    """As they are on disk now. The verifiers stay where their rules did not change, with all that they have heard;
    those that are not used any more are closed by the caller.

    Raises:
        SetupError: as `open_tokens`; then what is held stays good.
    """
    if tokens is None or load_identities(home) != tokens.identities:
        return open_tokens(home, now=now, issuer=tokens.issuer if tokens is not None else issuer)
    keys = issuing.load_or_create(home.keys, now=now(), random=secrets.token_bytes)
    return Tokens(tokens.verifiers, keys, tokens.issuer)
