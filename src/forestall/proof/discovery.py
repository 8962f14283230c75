"""Where an issuer's keys are (OpenID Connect Discovery 1.0, 4): what to fetch, and whether the answer is its own.

Fetching is the caller's: over TLS that was verified, without following redirects to another host, within limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput
from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import text
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.url import require_location

MAX_DOCUMENT = 65_536
"""Bytes of a discovery document; large ones have about 5,000."""


@dataclass(frozen=True, slots=True)
class Discovered:
    jwks_uri: str
    algorithms: frozenset[Algorithm]
    """Those of the ones allowed that the issuer says it uses; all of them where it does not say."""


def discovery_url(issuer: str) -> str:
    """Where the issuer's document is (4.1): after its path, if it has one."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def signals_url(issuer: str) -> str:
    """Where a transmitter's document is (Shared Signals 1.0, 7.2): before its path, if it has one."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}/.well-known/ssf-configuration{parts.path.removesuffix('/')}"


def read_discovery(data: bytes | str, *, issuer: str, algorithms: frozenset[Algorithm], loopback: bool) -> Discovered:
    """What the document says about the issuer's keys.

    Args:
        data: as it was fetched from `discovery_url`.
        issuer: as configured.
        algorithms: those that the rule allows.
        loopback: let `jwks_uri` be an http address of this machine.

    Raises:
        InvalidProof: TOO_LARGE, MALFORMED; WRONG_ISSUER, where it is not the very same (4.3); ALGORITHM, where the
            issuer signs with none of those allowed.
    """
    if len(data) > MAX_DOCUMENT:
        raise InvalidProof(Fault.TOO_LARGE, "the discovery document")
    try:
        document = parse(data, max_bytes=MAX_DOCUMENT)
    except InvalidInput:
        raise InvalidProof(Fault.MALFORMED, "the discovery document is not JSON with one meaning") from None
    if not isinstance(document, dict):
        raise InvalidProof(Fault.MALFORMED, "the discovery document is not an object")
    if text(document, "issuer") != issuer:
        raise InvalidProof(Fault.WRONG_ISSUER, "the discovery document is another issuer's")
    uses = document.get("id_token_signing_alg_values_supported", [each.value for each in algorithms])
    if not isinstance(uses, list) or not all(isinstance(name, str) for name in uses):
        raise InvalidProof(Fault.MALFORMED, "the issuer's algorithms are not a list of strings")
    common = frozenset(each for each in algorithms if each.value in uses)
    if not common:
        raise InvalidProof(Fault.ALGORITHM, "the issuer signs with none that is allowed")
    return Discovered(require_location(text(document, "jwks_uri"), loopback=loopback), common)
