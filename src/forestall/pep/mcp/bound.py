"""A request with a credential that is bound to a key: the proof beside it, and the nonce that a server wants in one
(RFC 9449, 7 and 9).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPResponse

PROOF = "DPoP"
"""The header (RFC 9449, 4.1)."""

Prove = Callable[[str, str, str, str | None], str]
"""Of a credential's name, a request's method and URL, and the nonce that the server wants, the proof. Waits, in a
thread. Raises NoProof.
"""

_NONCE = re.compile(r"[!#-\[\]-~]{1,512}")
"""RFC 9449, 8.1."""

_DEMAND = re.compile(r'(?:^|,)\s*DPoP\s(?:[^,]*,)*?\s*error\s*=\s*"?use_dpop_nonce"?\s*(?:,|$)', re.IGNORECASE)
"""In a challenge of the scheme (RFC 9110, 11.6.1)."""

MAX_CHALLENGE = 4096
"""Characters of a challenge that are looked at."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to the server, but for its proof, which is of one attempt."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    bound: str = ""
    """Of the credential in the headers that wants a proof, its name."""
    body: bytes | None = field(default=None, repr=False)


def nonce_of(answer: HTTPResponse) -> str | None:
    """The one to use from now on, if the server gives one."""
    given = answer.headers.get_all("DPoP-Nonce", [])
    return given[0] if len(given) == 1 and _NONCE.fullmatch(given[0]) else None


def demands_nonce(answer: HTTPResponse) -> bool:
    """Was the request refused, before anything was done, for want of the nonce alone (RFC 9449, 9)?"""
    if answer.status != HTTPStatus.UNAUTHORIZED:
        return False
    return any(_DEMAND.search(one[:MAX_CHALLENGE]) for one in answer.headers.get_all("WWW-Authenticate", []))
