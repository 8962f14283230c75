"""Trust bundles: what a trust domain's SVIDs are checked against (SPIFFE_Trust_Domain_and_Bundle.md, section 4).

A bundle belongs to one trust domain, which is known from where it came and never from what it says. Bundles are not
merged: a trust domain's SVIDs are checked against its own bundle or refused. An empty one is a bundle: it takes back
everything that was signed before.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography import x509

from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput
from forestall.proof.chain import MAX_CERTIFICATE, parse_authority, parse_revocations, split_certificates
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet, read_key, read_set
from forestall.proof.spiffe_id import require_trust_domain

MAX_BUNDLE = 1_048_576
"""Bytes of one bundle. SPIRE's have a few thousand; a key with its certificate has about 1,500."""

MAX_AUTHORITIES = 64
"""X.509 authorities of one trust domain. Two are usual; path building costs grow with each."""

MAX_REVOCATIONS = 1_048_576
"""Bytes of one revocation list."""

_X509, _JWT = frozenset({"x509-svid"}), frozenset({"jwt-svid"})
_JWT_PLAIN: frozenset[str | None] = frozenset({"jwt-svid", None})


@dataclass(frozen=True, slots=True)
class X509Authorities:
    """Whose signatures on X.509-SVIDs count in `trust_domain`; nobody's, where there are no certificates."""

    trust_domain: str
    certificates: tuple[x509.Certificate, ...]
    revocations: tuple[x509.CertificateRevocationList, ...] = ()


@dataclass(frozen=True, slots=True)
class JwtAuthorities:
    """Whose signatures on JWT-SVIDs count in `trust_domain`; nobody's, where there are no keys. Each has a `kid`."""

    trust_domain: str
    keys: KeySet


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of a trust domain's bundle."""

    x509: X509Authorities
    jwt: JwtAuthorities
    sequence: int | None
    """`spiffe_sequence`: grows with every change; None where the bundle does not say."""
    refresh_hint_s: int | None
    """Seconds after which to look for another; None where the bundle does not say."""

    @property
    def trust_domain(self) -> str:
        return self.x509.trust_domain


class Bundles(Protocol):
    """Where the checks of an SVID find a trust domain's authorities.

    Both raise InvalidProof: `no_bundle`, where there is none, or none that is fresh enough at `now` (milliseconds since
    the epoch). They answer from memory.
    """

    def x509(self, trust_domain: str, now: int) -> X509Authorities: ...

    def jwt(self, trust_domain: str, now: int) -> JwtAuthorities: ...


def parse_bundle(data: bytes, trust_domain: str) -> Bundle:
    """The bundle of `trust_domain` that `data`, a JWK Set, holds. A key of an unknown use or kind is ignored.

    Raises:
        InvalidProof: `too_large`, `malformed`, `algorithm` or `not_public`.
    """
    require_trust_domain(trust_domain)
    document = _document(data)
    keys = _jwt_keys(document, _JWT)  # first: it bounds how many keys there are
    certificates = tuple(each for member in document["keys"] if (each := _authority(member)) is not None)
    if len(certificates) > MAX_AUTHORITIES:
        raise InvalidProof(Fault.TOO_LARGE, f"a bundle has at most {MAX_AUTHORITIES} X.509 authorities")
    return Bundle(
        X509Authorities(trust_domain, certificates),
        JwtAuthorities(trust_domain, keys),
        sequence=_whole(document, "spiffe_sequence"),
        refresh_hint_s=_whole(document, "spiffe_refresh_hint") or None,
    )


def parse_jwt_bundle(data: bytes, trust_domain: str) -> JwtAuthorities:
    """The keys that the Workload API sends (SPIFFE_Workload_API.md, 6.2.2): a plain JWK Set, of JWT-SVID keys alone.

    A plain set has no `use`, and SPIRE sends none: it comes on a channel of its own, so nothing can be mistaken for it.

    Raises:
        InvalidProof: `too_large`, `malformed`, `algorithm` or `not_public`.
    """
    require_trust_domain(trust_domain)
    return JwtAuthorities(trust_domain, _jwt_keys(_document(data), _JWT_PLAIN))


def parse_x509_bundle(data: bytes, trust_domain: str, revocations: tuple[bytes, ...] = ()) -> X509Authorities:
    """The authorities that the Workload API sends (SPIFFE_Workload_API.md, 5.1): DER certificates in a row.

    Raises:
        InvalidProof: `too_large`, `malformed` or `algorithm`.
    """
    require_trust_domain(trust_domain)
    return X509Authorities(
        trust_domain,
        tuple(parse_authority(each) for each in split_certificates(data, most=MAX_AUTHORITIES)),
        tuple(parse_revocations(each, max_bytes=MAX_REVOCATIONS) for each in revocations),
    )


def require_newer(bundle: Bundle, held: Bundle | None) -> Bundle:
    """`bundle`, where it may take the place of `held`: the same trust domain's, with a sequence that is not behind.

    Raises:
        InvalidProof: `wrong_trust_domain`; `too_old`, also where the sequence is gone that once was there.
    """
    if held is None:
        return bundle
    if bundle.trust_domain != held.trust_domain:
        raise InvalidProof(Fault.WRONG_TRUST_DOMAIN, "a bundle takes the place of its own trust domain's alone")
    if held.sequence is not None and (bundle.sequence is None or bundle.sequence < held.sequence):
        raise InvalidProof(Fault.TOO_OLD, "the bundle's sequence is behind the one that is held")
    return bundle


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BUNDLE:
        raise InvalidProof(Fault.TOO_LARGE, f"a bundle has at most {MAX_BUNDLE} bytes")
    try:
        # a sequence may need 64 bits (section 4.1.1), more than a double holds
        document = parse(data, max_bytes=MAX_BUNDLE, max_depth=8, exact=False)
    except InvalidInput:
        raise InvalidProof(Fault.MALFORMED, "a bundle is JSON that every reader reads alike") from None
    if not isinstance(document, dict):
        raise InvalidProof(Fault.MALFORMED, "a bundle is a JSON object")
    return document


def _jwt_keys(document: Mapping[str, Any], uses: frozenset[Any]) -> KeySet:
    """Without those that have no `kid`: a JWT-SVID has to name its key among several (JWT-SVID.md, on the bundle)."""
    return KeySet(tuple(key for key in read_set(document, uses=uses).keys if key.kid is not None))


def _authority(member: Mapping[str, Any]) -> x509.Certificate | None:
    """X509-SVID.md, section 6: the first certificate of `x5c`; None for other uses, and for an entry without one."""
    key = read_key(member, uses=_X509)
    chain = member.get("x5c")
    if key is None or not chain:
        return None
    if "kid" in member or not isinstance(chain, list) or not isinstance(chain[0], str):
        raise InvalidProof(Fault.MALFORMED, "an X.509 authority has certificates in `x5c`, and no `kid`")
    if len(chain[0]) > 2 * MAX_CERTIFICATE:
        raise InvalidProof(Fault.TOO_LARGE, f"a certificate has at most {MAX_CERTIFICATE} bytes")
    try:
        der = base64.b64decode(chain[0], validate=True)
    except ValueError:  # also for letters outside of ASCII, which `binascii.Error` is not raised for
        raise InvalidProof(Fault.MALFORMED, "`x5c` is base64") from None
    certificate = parse_authority(der)
    if certificate.public_key() != key.key:
        raise InvalidProof(Fault.MALFORMED, "the key of `x5c` is another than the entry's")
    return certificate


def _whole(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    if name in document and (type(value) is not int or not 0 <= value < 2**64):
        raise InvalidProof(Fault.MALFORMED, f"{name} is a whole number of at most 64 bits")
    return value
