"""SVIDs: a workload's name, signed by its trust domain (X509-SVID.md and JWT-SVID.md).

- The trust domain is that of the SPIFFE ID, and has to be one that the caller accepts.
- Only that trust domain's own bundle counts. Without one there is nothing to check against, and the SVID is refused.
- An X.509-SVID names a workload in exactly one URI, in a leaf that cannot sign others.
- A JWT-SVID names its key, is for us among its audiences, and ends. It is a bearer token: whoever sees it has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput
from forestall.proof import encoding, jws
from forestall.proof.algorithm import Algorithm
from forestall.proof.bundle import Bundles
from forestall.proof.chain import MAX_CHAIN, extension, parse_certificate, require_path, require_unrevoked
from forestall.proof.claims import audiences, check_times, require_audience, text
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import SpiffeId, parse_workload_id

JWT_ALGORITHMS = frozenset(Algorithm) - {Algorithm.EDDSA}
"""JWT-SVID.md, section 2.1: RS, ES and PS with 256, 384 and 512, and nothing else."""

JWT_TYPES: frozenset[str | None] = frozenset({"jwt", "jose", None})
"""JWT-SVID.md, section 2.3."""

_BOTH_WAYS = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


@dataclass(frozen=True, slots=True)
class X509Svid:
    """A verified X.509-SVID. That its presenter holds the key is for TLS to show."""

    id: SpiffeId
    thumbprint: str
    """SHA-256 of the leaf's DER, base64url: what `cnf` calls `x5t#S256` (RFC 8705, section 3.1)."""
    expires_at: int
    """Milliseconds since the epoch, from when on it does not count."""


@dataclass(frozen=True, slots=True)
class JwtSvid:
    """A verified JWT-SVID."""

    id: SpiffeId
    audiences: tuple[str, ...]
    expires_at: int
    """Milliseconds since the epoch."""
    claims: Mapping[str, Any] = field(repr=False)


def verify_x509_svid(chain: Sequence[bytes], bundles: Bundles, *, trust_domains: frozenset[str], now: int) -> X509Svid:
    """The workload that `chain` names.

    Args:
        chain: DER certificates as the peer presented them, the leaf first.
        bundles: where its trust domain's authorities are found.
        trust_domains: those whose workloads are accepted here.
        now: milliseconds since the epoch.

    Raises:
        InvalidProof: `too_large`, `malformed`, `algorithm`, `wrong_trust_domain`, `no_bundle`, `expired`,
            `not_yet_valid`, `untrusted`, `revoked`.
    """
    if len(chain) > MAX_CHAIN:
        raise InvalidProof(Fault.TOO_LARGE, f"at most {MAX_CHAIN} certificates")
    if not chain:
        raise InvalidProof(Fault.MALFORMED, "no certificate")
    leaf, *intermediates = [parse_certificate(each) for each in chain]
    identity = read_leaf(leaf)
    _require_accepted(identity, trust_domains)
    authorities = bundles.x509(identity.trust_domain, now)
    for certificate in (leaf, *intermediates):
        require_time(certificate, now)
    path = require_path(leaf, intermediates, authorities.certificates, now)
    require_unrevoked(path, authorities.revocations)
    return X509Svid(identity, encoding.digest(chain[0]), _end(leaf))


def read_leaf(leaf: x509.Certificate) -> SpiffeId:
    """The one workload that a leaf names, if it is one (X509-SVID.md, sections 2, 3.1, 4 and 5.2). Not who signed it.

    Raises:
        InvalidProof: `malformed`, `too_large`.
    """
    constraints = extension(leaf, x509.BasicConstraints)
    usage = extension(leaf, x509.KeyUsage)
    extended = extension(leaf, x509.ExtendedKeyUsage)
    names = extension(leaf, x509.SubjectAlternativeName)
    if constraints is not None and constraints.value.ca:
        raise InvalidProof(Fault.MALFORMED, "a signing certificate is no workload's")
    if usage is None or not usage.critical or not usage.value.digital_signature:
        raise InvalidProof(Fault.MALFORMED, "a leaf has digitalSignature in a critical key usage")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise InvalidProof(Fault.MALFORMED, "a leaf signs neither certificates nor revocation lists")
    if extended is not None and not _BOTH_WAYS.issubset(extended.value):
        raise InvalidProof(Fault.MALFORMED, "a leaf's extended key usage has both serverAuth and clientAuth")
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if names is None or len(uris) != 1:
        raise InvalidProof(Fault.MALFORMED, "a leaf names exactly one URI")
    if not names.critical and not list(leaf.subject):
        raise InvalidProof(Fault.MALFORMED, "without a subject, the alternative names are critical (RFC 5280, 4.1.2.6)")
    return parse_workload_id(uris[0])


def verify_jwt_svid(
    token: str | bytes,
    bundles: Bundles,
    *,
    audience: str,
    trust_domains: frozenset[str],
    now: int,
    skew_ms: int,
) -> JwtSvid:
    """The workload that `token` names, and what it claims.

    Args:
        token: JWS in compact form.
        bundles: where its trust domain's keys are found.
        audience: ours; it has to be among the token's.
        trust_domains: those whose workloads are accepted here.
        now: milliseconds since the epoch.
        skew_ms: how far the issuer's clock may be off.

    Raises:
        InvalidProof: what `jws.verify` and `claims.check_times` raise; `wrong_trust_domain`, `no_bundle`,
            `wrong_audience`.
    """
    opened = jws.read(token, algorithms=JWT_ALGORITHMS, types=JWT_TYPES)
    claimed = _claimed(token)
    _require_accepted(claimed, trust_domains)
    authorities = bundles.jwt(claimed.trust_domain, now)
    claims = opened.verify(authorities.keys.find(opened.kid)).claims()
    identity = parse_workload_id(text(claims, "sub"))
    if identity != claimed:  # read twice from the same bytes; a difference would be a fault of ours, and is refused
        raise InvalidProof(Fault.WRONG_SUBJECT, "the subject is another after the signature was checked")
    lifetime = check_times(claims, now=now, skew_ms=skew_ms, required=frozenset({"exp"}))
    assert lifetime.expires_at is not None, "required above"
    require_audience(claims, audience, single=False)
    return JwtSvid(identity, audiences(claims), lifetime.expires_at, claims)


def _claimed(token: str | bytes) -> SpiffeId:
    """The subject that a token claims: read before its signature, only to find the bundle that the signature needs."""
    words = token.decode("ascii") if isinstance(token, bytes) else token
    try:
        claims = parse(encoding.decode(words.split(".")[1]), max_bytes=jws.MAX_TOKEN)
    except InvalidInput:
        raise InvalidProof(Fault.MALFORMED, "the claims are not JSON with one meaning") from None
    if not isinstance(claims, dict):
        raise InvalidProof(Fault.MALFORMED, "the claims are not an object")
    return parse_workload_id(text(claims, "sub"))


def _require_accepted(identity: SpiffeId, trust_domains: frozenset[str]) -> None:
    if identity.trust_domain not in trust_domains:
        raise InvalidProof(Fault.WRONG_TRUST_DOMAIN, "its workloads are not accepted here")


def require_time(certificate: x509.Certificate, now: int) -> None:
    """It counts at `now` (RFC 5280, section 4.1.2.5): both ends of its validity included, to the second.

    Raises:
        InvalidProof: `not_yet_valid` or `expired`.
    """
    if now < int(certificate.not_valid_before_utc.timestamp()) * 1000:
        raise InvalidProof(Fault.NOT_YET_VALID, "a certificate of the chain")
    if now >= _end(certificate):
        raise InvalidProof(Fault.EXPIRED, "a certificate of the chain")


def _end(certificate: x509.Certificate) -> int:
    """The millisecond after its last second."""
    return int(certificate.not_valid_after_utc.timestamp()) * 1000 + 1000
